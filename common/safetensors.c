/* Opening .safetensors files: the file is mapped read-only, its header is checked in full. */
#include "gdncp/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "gdncp/memory.h"
#include "safetensors_header.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

enum { length_bytes = 8 }; /* of the number in front of the header */

struct gdncp_safetensors {
    char *map;
    int64_t bytes;
    int64_t data_offset;
    gdncp_safetensors_header_t header;
};

/* Maps the whole of a regular file of at least length_bytes. */
static gdncp_status_t map_file(const char *path, gdncp_safetensors_t *file)
{
    struct stat information;
    gdncp_status_t status = GDNCP_OK;
    /* Not to wait for a writer, should the path be a FIFO. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return gdncp_fail(GDNCP_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    if (fstat(fd, &information) != 0) {
        status = gdncp_fail(GDNCP_ERR_IO, "%s: cannot read its size: %s", path, strerror(errno));
        goto close_fd;
    }
    if (!S_ISREG(information.st_mode)) {
        status = gdncp_fail(GDNCP_ERR_IO, "%s: expected a regular file", path);
        goto close_fd;
    }
    file->bytes = information.st_size;
    if (file->bytes < length_bytes) {
        status = gdncp_fail(GDNCP_ERR_FORMAT, "%s: file: expected %d bytes or more, got %" PRId64,
                            path, (int)length_bytes, file->bytes);
        goto close_fd;
    }
    file->map = mmap(NULL, (size_t)file->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file->map == MAP_FAILED) {
        status = gdncp_fail(GDNCP_ERR_IO, "%s: cannot map %" PRId64 " bytes: %s", path, file->bytes,
                            strerror(errno));
    }

close_fd:
    close(fd);
    return status;
}

static gdncp_status_t read_header(const char *path, gdncp_safetensors_t *file)
{
    const int64_t room = file->bytes - length_bytes;
    const int64_t most = room < GDNCP_SAFETENSORS_MAX_HEADER ? room : GDNCP_SAFETENSORS_MAX_HEADER;
    const char *const text = file->map + length_bytes;
    uint64_t length;

    memcpy(&length, file->map, sizeof length);
    if (length < 2 || length > (uint64_t)most) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: header length: expected 2..%" PRId64 ", got %" PRIu64, path, most,
                          length);
    }
    if (text[0] != '{') {
        return gdncp_fail(GDNCP_ERR_FORMAT, "%s: header: expected to begin with {, got byte 0x%02x",
                          path, (unsigned)(unsigned char)text[0]);
    }
    file->data_offset = length_bytes + (int64_t)length;
    return gdncp_safetensors_header_parse(path, text, (size_t)length, file->data_offset,
                                          file->bytes - file->data_offset, &file->header);
}

gdncp_status_t gdncp_safetensors_open(const char *path, gdncp_safetensors_t **file_p)
{
    gdncp_safetensors_t *const file = gdncp_memory_alloc(sizeof *file);
    gdncp_status_t status;

    if (file == NULL) {
        return gdncp_fail_memory("an open .safetensors file");
    }
    *file = (gdncp_safetensors_t){0};
    status = map_file(path, file);
    if (status != GDNCP_OK) {
        goto free_file;
    }
    status = read_header(path, file);
    if (status != GDNCP_OK) {
        goto unmap_file;
    }
    *file_p = file;
    return GDNCP_OK;

unmap_file:
    munmap(file->map, (size_t)file->bytes);
free_file:
    gdncp_memory_free(file);
    return status;
}

void gdncp_safetensors_close(gdncp_safetensors_t *file)
{
    if (file != NULL) {
        gdncp_safetensors_header_release(&file->header);
        munmap(file->map, (size_t)file->bytes);
        gdncp_memory_free(file);
    }
}

int64_t gdncp_safetensors_num_tensors(const gdncp_safetensors_t *file)
{
    return file->header.count;
}

const char *gdncp_safetensors_name(const gdncp_safetensors_t *file, int64_t index)
{
    return index >= 0 && index < file->header.count ? file->header.entries[index].name : NULL;
}

gdncp_status_t gdncp_safetensors_get(const gdncp_safetensors_t *file, const char *name,
                                     gdncp_tensor_t *tensor_p)
{
    const gdncp_safetensors_entry_t *entry = NULL;
    gdncp_dtype_t dtype;

    for (int64_t i = 0; i < file->header.count && entry == NULL; i++) {
        if (strcmp(file->header.entries[i].name, name) == 0) {
            entry = &file->header.entries[i];
        }
    }
    if (entry == NULL) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "name: expected one of the file's %" PRId64 " tensors, got \"%.80s\"",
                          file->header.count, name);
    }
    if (!gdncp_safetensors_find_dtype(entry->dtype_text, &dtype)) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "tensor \"%.80s\": dtype: expected F32, BF16, F16, F64, I8, I16, I32, "
                          "I64, U8, F8_E4M3 or F8_E5M2, got %.20s",
                          name, entry->dtype_text);
    }
    if (entry->ndim > GDNCP_MAX_DIMS) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "tensor \"%.80s\": shape: expected %d dimensions at most, got %" PRId64,
                          name, GDNCP_MAX_DIMS, entry->ndim);
    }
    *tensor_p = gdncp_tensor_contiguous(file->map + file->data_offset + entry->begin, dtype,
                                        (int)entry->ndim, entry->shape);
    return GDNCP_OK;
}

const char *gdncp_safetensors_metadata(const gdncp_safetensors_t *file, const char *key)
{
    const json_t *const metadata = json_object_get(file->header.root, GDNCP_SAFETENSORS_METADATA);

    return json_string_value(json_object_get(metadata, key));
}
