/* Writing .safetensors files. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "gdncp/memory.h"
#include "gdncp/safetensors.h"
#include "safetensors_header.h"

/* The header and, for each tensor, where its data goes. */
typedef struct file_image {
    char *header; /* [header_bytes], padded to a multiple of 8 */
    size_t header_bytes;
    int64_t *order; /* [num_tensors] tensors in the order of their data */
} file_image_t;

static gdncp_status_t check_shape(const gdncp_named_tensor_t *named, int64_t index)
{
    const gdncp_tensor_t *const tensor = &named->tensor;
    int64_t bytes = (int64_t)gdncp_dtype_size(tensor->dtype);

    if (tensor->ndim < 0 || tensor->ndim > GDNCP_MAX_DIMS) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensors[%" PRId64 "] \"%.80s\": ndim: expected 0..%d, got %d", index,
                          named->name, GDNCP_MAX_DIMS, tensor->ndim);
    }
    for (int i = 0; i < tensor->ndim; i++) {
        const int64_t size = tensor->shape[i];

        if (size < 0 || (size > 0 && __builtin_mul_overflow(bytes, size, &bytes))) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "tensors[%" PRId64 "] \"%.80s\": shape[%d]: expected 0 or more and "
                              "fewer than 2^63 bytes in all, got %" PRId64,
                              index, named->name, i, size);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_strides(const gdncp_named_tensor_t *named, int64_t index)
{
    const gdncp_tensor_t *const tensor = &named->tensor;
    int64_t stride = 1;

    for (int i = tensor->ndim - 1; i >= 0; i--) {
        if (tensor->shape[i] > 1 && tensor->strides[i] != stride) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "tensors[%" PRId64 "] \"%.80s\": strides[%d]: expected %" PRId64
                              " (contiguous), got %" PRId64,
                              index, named->name, i, stride, tensor->strides[i]);
        }
        stride *= tensor->shape[i];
    }
    return GDNCP_OK;
}

static gdncp_status_t check_tensor(const gdncp_named_tensor_t *named, int64_t index)
{
    const gdncp_tensor_t *const tensor = &named->tensor;
    gdncp_status_t status;

    if (named->name == NULL || !gdncp_safetensors_is_good_name(named->name)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensors[%" PRId64 "].name: expected text without control characters, "
                          "got %s",
                          index, named->name == NULL ? "NULL" : "other bytes");
    }
    if (gdncp_dtype_size(tensor->dtype) == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensors[%" PRId64 "] \"%.80s\": dtype: expected a gdncp_dtype_t, got %d",
                          index, named->name, (int)tensor->dtype);
    }
    if (tensor->device != GDNCP_DEVICE_CPU) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensors[%" PRId64 "] \"%.80s\": device: expected the CPU, got %d", index,
                          named->name, (int)tensor->device);
    }
    status = check_shape(named, index);
    if (status != GDNCP_OK || gdncp_tensor_num_elements(tensor) == 0) {
        return status;
    }
    if (tensor->data == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensors[%" PRId64 "] \"%.80s\": data: expected memory, got NULL", index,
                          named->name);
    }
    return check_strides(named, index);
}

static int64_t tensor_bytes(const gdncp_tensor_t *tensor)
{
    return gdncp_tensor_num_elements(tensor) * (int64_t)gdncp_dtype_size(tensor->dtype);
}

/* Wide elements first: then all data is aligned without gaps, which the format forbids. */
static void order_by_element_size(const gdncp_named_tensor_t *tensors, int64_t num_tensors,
                                  int64_t *order)
{
    int64_t filled = 0;

    for (size_t size = 8; size > 0; size /= 2) {
        for (int64_t i = 0; i < num_tensors; i++) {
            if (gdncp_dtype_size(tensors[i].tensor.dtype) == size) {
                order[filled++] = i;
            }
        }
    }
}

static gdncp_status_t add_metadata(json_t *root, const char *const *metadata, int64_t num_metadata)
{
    if (num_metadata == 0) {
        return GDNCP_OK;
    }
    json_t *const object = json_object();

    if (json_object_set_new(root, GDNCP_SAFETENSORS_METADATA, object) != 0) {
        return gdncp_fail_memory("the metadata of a .safetensors file");
    }
    for (int64_t i = 0; i < num_metadata; i++) {
        const char *const key = metadata[2 * i];

        if (json_object_get(object, key) != NULL) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "metadata[%" PRId64 "]: expected each key once, got \"%.80s\" again",
                              2 * i, key);
        }
        if (json_object_set_new(object, key, json_string(metadata[2 * i + 1])) != 0) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "metadata[%" PRId64 "]: expected a key and a value in UTF-8", 2 * i);
        }
    }
    return GDNCP_OK;
}

static json_t *describe_tensor(const gdncp_tensor_t *tensor, int64_t begin)
{
    const int64_t end = begin + tensor_bytes(tensor);
    json_t *const shape = json_array();

    for (int i = 0; i < tensor->ndim; i++) {
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", gdncp_safetensors_dtype_text(tensor->dtype),
                     "shape", shape, "data_offsets", (json_int_t)begin, (json_int_t)end);
}

/* Entries in the caller's order; places in the order of the data. */
static gdncp_status_t add_tensors(json_t *root, const gdncp_named_tensor_t *tensors,
                                  int64_t num_tensors, const int64_t *order)
{
    int64_t begin = 0;

    for (int64_t i = 0; i < num_tensors; i++) {
        if (json_object_get(root, tensors[i].name) != NULL) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "tensors[%" PRId64 "].name: expected each name once, got \"%.80s\" "
                              "again",
                              i, tensors[i].name);
        }
        if (json_object_set_new(root, tensors[i].name, json_null()) != 0) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "tensors[%" PRId64 "].name: expected UTF-8, got other bytes", i);
        }
    }
    for (int64_t i = 0; i < num_tensors; i++) {
        const gdncp_named_tensor_t *const named = &tensors[order[i]];

        if (json_object_set_new(root, named->name, describe_tensor(&named->tensor, begin)) != 0) {
            return gdncp_fail_memory("the header of a .safetensors file");
        }
        begin += tensor_bytes(&named->tensor);
    }
    return GDNCP_OK;
}

static gdncp_status_t print_header(const json_t *root, file_image_t *image)
{
    const size_t length = json_dumpb(root, NULL, 0, JSON_COMPACT);
    const size_t padded = (length + 7) / 8 * 8;

    if ((int64_t)padded > GDNCP_SAFETENSORS_MAX_HEADER) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensors: expected names and metadata that make a header of %" PRId64
                          " bytes at most, got %zu",
                          GDNCP_SAFETENSORS_MAX_HEADER, padded);
    }
    image->header = length > 0 ? gdncp_memory_alloc(padded) : NULL;
    if (image->header == NULL) {
        return gdncp_fail_memory("the header of a .safetensors file");
    }
    json_dumpb(root, image->header, length, JSON_COMPACT);
    memset(image->header + length, ' ', padded - length);
    image->header_bytes = padded;
    return GDNCP_OK;
}

static void release_image(file_image_t *image)
{
    gdncp_memory_free(image->header);
    gdncp_memory_free(image->order);
}

static gdncp_status_t make_image(const gdncp_named_tensor_t *tensors, int64_t num_tensors,
                                 const char *const *metadata, int64_t num_metadata,
                                 file_image_t *image)
{
    json_t *const root = json_object();
    gdncp_status_t status;

    image->order = gdncp_memory_alloc((size_t)num_tensors * sizeof *image->order);
    if (root == NULL || image->order == NULL) {
        status = gdncp_fail_memory("the header of a .safetensors file");
        goto decref_root;
    }
    order_by_element_size(tensors, num_tensors, image->order);
    status = add_metadata(root, metadata, num_metadata);
    if (status != GDNCP_OK) {
        goto decref_root;
    }
    status = add_tensors(root, tensors, num_tensors, image->order);
    if (status != GDNCP_OK) {
        goto decref_root;
    }
    status = print_header(root, image);

decref_root:
    json_decref(root);
    return status;
}

/* A new file beside `path`, whose name goes to `temporary`. */
static int create_temporary(const char *path, char *temporary, size_t size)
{
    static atomic_uint counter;
    int fd;

    do {
        snprintf(temporary, size, "%s.%ld.%u.tmp", path, (long)getpid(),
                 atomic_fetch_add(&counter, 1));
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EEXIST);
    return fd;
}

/* false: errno says why. */
static bool write_all(int fd, const void *data, int64_t bytes)
{
    const char *next = data;

    while (bytes > 0) {
        const ssize_t written = write(fd, next, (size_t)bytes);

        if (written < 0 && errno != EINTR) {
            return false;
        }
        if (written > 0) {
            next += written;
            bytes -= written;
        }
    }
    return true;
}

static bool write_image(int fd, const file_image_t *image, const gdncp_named_tensor_t *tensors,
                        int64_t num_tensors)
{
    const uint64_t length = image->header_bytes;

    if (!write_all(fd, &length, sizeof length) ||
        !write_all(fd, image->header, (int64_t)image->header_bytes)) {
        return false;
    }
    for (int64_t i = 0; i < num_tensors; i++) {
        const gdncp_tensor_t *const tensor = &tensors[image->order[i]].tensor;

        if (!write_all(fd, tensor->data, tensor_bytes(tensor))) {
            return false;
        }
    }
    return fsync(fd) == 0;
}

static gdncp_status_t replace_file(const char *path, const file_image_t *image,
                                   const gdncp_named_tensor_t *tensors, int64_t num_tensors)
{
    const size_t size = strlen(path) + 64;
    char *const temporary = gdncp_memory_alloc(size);
    gdncp_status_t status = GDNCP_OK;

    if (temporary == NULL) {
        return gdncp_fail_memory("the name of a temporary file");
    }
    const int fd = create_temporary(path, temporary, size);

    if (fd < 0) {
        status = gdncp_fail(GDNCP_ERR_IO, "%s: cannot create: %s", temporary, strerror(errno));
        goto free_temporary;
    }
    if (!write_image(fd, image, tensors, num_tensors)) {
        status = gdncp_fail(GDNCP_ERR_IO, "%s: cannot write: %s", temporary, strerror(errno));
    }
    if (close(fd) != 0 && status == GDNCP_OK) {
        status = gdncp_fail(GDNCP_ERR_IO, "%s: cannot write: %s", temporary, strerror(errno));
    }
    if (status == GDNCP_OK && rename(temporary, path) != 0) {
        status = gdncp_fail(GDNCP_ERR_IO, "%s: cannot rename to it: %s", path, strerror(errno));
    }
    if (status != GDNCP_OK) {
        unlink(temporary);
    }

free_temporary:
    gdncp_memory_free(temporary);
    return status;
}

gdncp_status_t gdncp_safetensors_write(const char *path, const gdncp_named_tensor_t *tensors,
                                       int64_t num_tensors, const char *const *metadata,
                                       int64_t num_metadata)
{
    file_image_t image = {0};
    gdncp_status_t status;

    if (num_tensors < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_tensors: expected 0 or more, got %" PRId64, num_tensors);
    }
    if (num_metadata < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_metadata: expected 0 or more, got %" PRId64, num_metadata);
    }
    for (int64_t i = 0; i < num_tensors; i++) {
        status = check_tensor(&tensors[i], i);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    status = make_image(tensors, num_tensors, metadata, num_metadata, &image);
    if (status == GDNCP_OK) {
        status = replace_file(path, &image, tensors, num_tensors);
    }
    release_image(&image);
    return status;
}
