/* Checks of a .safetensors header: nothing in it is believed. */
#include "safetensors_header.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"

static const struct {
    const char *text;
    int64_t bytes;
    int dtype; /* -1: one that gdncp has no name for */
} dtypes[] = {
    {"F32", 4, GDNCP_F32},
    {"BF16", 2, GDNCP_BF16},
    {"F16", 2, GDNCP_F16},
    {"F64", 8, GDNCP_F64},
    {"I8", 1, GDNCP_I8},
    {"I16", 2, GDNCP_I16},
    {"I32", 4, GDNCP_I32},
    {"I64", 8, GDNCP_I64},
    {"BOOL", 1, -1},
    {"U8", 1, GDNCP_U8},
    {"U16", 2, -1},
    {"U32", 4, -1},
    {"U64", 8, -1},
    {"F8_E4M3", 1, GDNCP_F8_E4M3},
    {"F8_E5M2", 1, GDNCP_F8_E5M2},
    {"F8_E8M0", 1, -1},
};

enum { num_dtypes = sizeof dtypes / sizeof dtypes[0] };

const char *gdncp_safetensors_dtype_text(gdncp_dtype_t dtype)
{
    for (int i = 0; i < num_dtypes; i++) {
        if (dtypes[i].dtype >= 0 && dtypes[i].dtype == (int)dtype) {
            return dtypes[i].text;
        }
    }
    return NULL;
}

bool gdncp_safetensors_find_dtype(const char *text, gdncp_dtype_t *dtype_p)
{
    for (int i = 0; i < num_dtypes; i++) {
        if (dtypes[i].dtype >= 0 && strcmp(dtypes[i].text, text) == 0) {
            *dtype_p = (gdncp_dtype_t)dtypes[i].dtype;
            return true;
        }
    }
    return false;
}

/* Bytes of an element; 0 for a dtype that this version of the format did not have. */
static int64_t element_bytes(const char *text)
{
    for (int i = 0; i < num_dtypes; i++) {
        if (strcmp(dtypes[i].text, text) == 0) {
            return dtypes[i].bytes;
        }
    }
    return 0;
}

bool gdncp_safetensors_is_good_name(const char *name)
{
    for (const char *c = name; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            return false;
        }
    }
    return name[0] != '\0' && strcmp(name, GDNCP_SAFETENSORS_METADATA) != 0;
}

static const char *type_name(const json_t *value)
{
    if (value == NULL) {
        return "nothing";
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number that is no integer";
    case JSON_NULL:
        return "null";
    default:
        return "a boolean";
    }
}

/* A number of elements or of bytes: an integer >= 0. */
static gdncp_status_t read_size(const char *path, const char *tensor, const char *what,
                                size_t index, const json_t *value, int64_t *size_p)
{
    if (!json_is_integer(value)) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": %s[%zu]: expected an integer, got %s", path,
                          tensor, what, index, type_name(value));
    }
    if (json_integer_value(value) < 0) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": %s[%zu]: expected 0 or more, got %" PRId64, path,
                          tensor, what, index, (int64_t)json_integer_value(value));
    }
    *size_p = json_integer_value(value);
    return GDNCP_OK;
}

/* Sets ndim and shape, and *elements_p to their product. */
static gdncp_status_t read_shape(const char *path, const json_t *shape,
                                 gdncp_safetensors_entry_t *entry, int64_t *elements_p)
{
    int64_t elements = 1;
    bool is_empty = false;

    if (!json_is_array(shape)) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": shape: expected an array, got %s", path,
                          entry->name, type_name(shape));
    }
    entry->ndim = (int64_t)json_array_size(shape);
    for (size_t i = 0; i < json_array_size(shape); i++) {
        int64_t size;
        const gdncp_status_t status =
            read_size(path, entry->name, "shape", i, json_array_get(shape, i), &size);

        if (status != GDNCP_OK) {
            return status;
        }
        if (entry->ndim <= GDNCP_MAX_DIMS) {
            entry->shape[i] = size;
        }
        /* Zeros left out, so that [huge, huge, 0] is refused: strides are products, too. */
        is_empty = is_empty || size == 0;
        if (size != 0 && __builtin_mul_overflow(elements, size, &elements)) {
            return gdncp_fail(GDNCP_ERR_FORMAT,
                              "%s: tensor \"%.80s\": shape: expected fewer than 2^63 elements",
                              path, entry->name);
        }
    }
    *elements_p = is_empty ? 0 : elements;
    return GDNCP_OK;
}

/* Sets begin and end, inside the data. */
static gdncp_status_t read_range(const char *path, const json_t *range, int64_t data_bytes,
                                 gdncp_safetensors_entry_t *entry)
{
    gdncp_status_t status;

    if (!json_is_array(range) || json_array_size(range) != 2) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": data_offsets: expected [begin, end], got %s of "
                          "%zu elements",
                          path, entry->name, type_name(range), json_array_size(range));
    }
    status =
        read_size(path, entry->name, "data_offsets", 0, json_array_get(range, 0), &entry->begin);
    if (status != GDNCP_OK) {
        return status;
    }
    status = read_size(path, entry->name, "data_offsets", 1, json_array_get(range, 1), &entry->end);
    if (status != GDNCP_OK) {
        return status;
    }
    if (entry->begin > entry->end || entry->end > data_bytes) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": data_offsets: expected a range inside the %" PRId64
                          " bytes of data, got [%" PRId64 ", %" PRId64 "]",
                          path, entry->name, data_bytes, entry->begin, entry->end);
    }
    return GDNCP_OK;
}

/* A dtype of unknown element size passes: the tensor can then not be had, but others can. */
static gdncp_status_t check_size(const char *path, const gdncp_safetensors_entry_t *entry,
                                 int64_t elements, int64_t data_offset)
{
    const int64_t bytes = element_bytes(entry->dtype_text);
    int64_t expected;

    if (bytes == 0) {
        return GDNCP_OK;
    }
    if (__builtin_mul_overflow(elements, bytes, &expected) ||
        expected != entry->end - entry->begin) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": data_offsets: expected %" PRId64
                          " elements of %" PRId64 " bytes, got %" PRId64 " bytes",
                          path, entry->name, elements, bytes, entry->end - entry->begin);
    }
    if ((data_offset + entry->begin) % bytes != 0) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": data_offsets: expected data at a multiple of "
                          "%" PRId64 " bytes in the file, got byte %" PRId64,
                          path, entry->name, bytes, data_offset + entry->begin);
    }
    return GDNCP_OK;
}

static gdncp_status_t read_entry(const char *path, const char *name, const json_t *value,
                                 int64_t data_offset, int64_t data_bytes,
                                 gdncp_safetensors_entry_t *entry)
{
    const json_t *const dtype = json_object_get(value, "dtype");
    int64_t elements = 0;
    gdncp_status_t status;

    if (!gdncp_safetensors_is_good_name(name)) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor name: expected text without control characters, got "
                          "%s",
                          path, name[0] == '\0' ? "an empty one" : "one with them");
    }
    if (!json_is_object(value)) {
        return gdncp_fail(GDNCP_ERR_FORMAT, "%s: tensor \"%.80s\": expected an object, got %s",
                          path, name, type_name(value));
    }
    if (!json_is_string(dtype)) {
        return gdncp_fail(GDNCP_ERR_FORMAT,
                          "%s: tensor \"%.80s\": dtype: expected a string, got %s", path, name,
                          type_name(dtype));
    }
    *entry = (gdncp_safetensors_entry_t){.name = name, .dtype_text = json_string_value(dtype)};
    status = read_shape(path, json_object_get(value, "shape"), entry, &elements);
    if (status != GDNCP_OK) {
        return status;
    }
    status = read_range(path, json_object_get(value, "data_offsets"), data_bytes, entry);
    if (status != GDNCP_OK) {
        return status;
    }
    return check_size(path, entry, elements, data_offset);
}

static gdncp_status_t check_metadata(const char *path, json_t *metadata)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata)) {
        return gdncp_fail(GDNCP_ERR_FORMAT, "%s: %s: expected an object, got %s", path,
                          GDNCP_SAFETENSORS_METADATA, type_name(metadata));
    }
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value)) {
            return gdncp_fail(GDNCP_ERR_FORMAT,
                              "%s: %s: value of \"%.80s\": expected a string, got %s", path,
                              GDNCP_SAFETENSORS_METADATA, key, type_name(value));
        }
    }
    return GDNCP_OK;
}

static int compare_ranges(const void *left, const void *right)
{
    const gdncp_safetensors_entry_t *const a = *(const gdncp_safetensors_entry_t *const *)left;
    const gdncp_safetensors_entry_t *const b = *(const gdncp_safetensors_entry_t *const *)right;

    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return (a->end > b->end) - (a->end < b->end);
}

/* The format wants every byte of the data in exactly one tensor. */
static gdncp_status_t check_tiling(const char *path, const gdncp_safetensors_header_t *header,
                                   int64_t data_bytes)
{
    const gdncp_safetensors_entry_t **const sorted =
        gdncp_memory_alloc((size_t)header->count * sizeof(gdncp_safetensors_entry_t *));
    gdncp_status_t status = GDNCP_OK;
    int64_t covered = 0;

    if (sorted == NULL) {
        return gdncp_fail_memory("the order of a file's tensors");
    }
    for (int64_t i = 0; i < header->count; i++) {
        sorted[i] = &header->entries[i];
    }
    qsort(sorted, (size_t)header->count, sizeof *sorted, compare_ranges);
    for (int64_t i = 0; i < header->count && status == GDNCP_OK; i++) {
        if (sorted[i]->begin != covered) {
            status = gdncp_fail(GDNCP_ERR_FORMAT,
                                "%s: tensor \"%.80s\": data_offsets: expected to begin at %" PRId64
                                ", where the tensor before it ends, got %" PRId64,
                                path, sorted[i]->name, covered, sorted[i]->begin);
        }
        covered = sorted[i]->end;
    }
    if (status == GDNCP_OK && covered != data_bytes) {
        status = gdncp_fail(GDNCP_ERR_FORMAT,
                            "%s: data: expected %" PRId64
                            " bytes, where the last tensor ends, got %" PRId64,
                            path, covered, data_bytes);
    }
    gdncp_memory_free(sorted);
    return status;
}

static gdncp_status_t read_entries(const char *path, int64_t data_offset, int64_t data_bytes,
                                   gdncp_safetensors_header_t *header)
{
    const char *key;
    json_t *value;

    json_object_foreach(header->root, key, value)
    {
        const gdncp_status_t status = strcmp(key, GDNCP_SAFETENSORS_METADATA) == 0
                                          ? check_metadata(path, value)
                                          : read_entry(path, key, value, data_offset, data_bytes,
                                                       &header->entries[header->count++]);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return check_tiling(path, header, data_bytes);
}

gdncp_status_t gdncp_safetensors_header_parse(const char *path, const char *text, size_t length,
                                              int64_t data_offset, int64_t data_bytes,
                                              gdncp_safetensors_header_t *header)
{
    gdncp_safetensors_header_t result = {0};
    json_error_t error;
    gdncp_status_t status;

    result.root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (result.root == NULL) {
        if (json_error_code(&error) == json_error_out_of_memory) {
            return gdncp_fail_memory("the header of a .safetensors file");
        }
        return gdncp_fail(GDNCP_ERR_FORMAT, "%s: header: expected JSON, got at byte %d: %s", path,
                          error.position, error.text);
    }
    if (!json_is_object(result.root)) {
        status = gdncp_fail(GDNCP_ERR_FORMAT, "%s: header: expected an object, got %s", path,
                            type_name(result.root));
        goto release_header;
    }
    result.entries = gdncp_memory_alloc(json_object_size(result.root) * sizeof *result.entries);
    if (result.entries == NULL) {
        status = gdncp_fail_memory("the tensors of a .safetensors file");
        goto release_header;
    }
    status = read_entries(path, data_offset, data_bytes, &result);
    if (status != GDNCP_OK) {
        goto release_header;
    }
    *header = result;
    return GDNCP_OK;

release_header:
    gdncp_safetensors_header_release(&result);
    return status;
}

void gdncp_safetensors_header_release(gdncp_safetensors_header_t *header)
{
    gdncp_memory_free(header->entries);
    json_decref(header->root);
    *header = (gdncp_safetensors_header_t){0};
}
