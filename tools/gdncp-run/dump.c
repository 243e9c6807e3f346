#include "dump.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "gdncp/tensor.h"

gdncp_status_t run_dump_open(const char *path, run_dump_t *dump)
{
    dump->path = path;
    return gdncp_safetensors_open(path, &dump->file);
}

gdncp_status_t run_dump_text(const run_dump_t *dump, const char *key, const char **text_p)
{
    const char *const text = gdncp_safetensors_metadata(dump->file, key);

    if (text == NULL) {
        return run_fail(GDNCP_ERR_FORMAT, "%s: expected metadata '%s', got none", dump->path, key);
    }
    *text_p = text;
    return GDNCP_OK;
}

gdncp_status_t run_dump_integer(const run_dump_t *dump, const char *key, int64_t minimum,
                                int64_t maximum, int64_t *value_p)
{
    const char *text = NULL;
    char *end = NULL;
    const gdncp_status_t status = run_dump_text(dump, key, &text);

    if (status != GDNCP_OK) {
        return status;
    }
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < minimum || value > maximum) {
        return run_fail(GDNCP_ERR_FORMAT,
                        "%s: metadata '%s': expected an integer %" PRId64 "..%" PRId64
                        ", got '%.80s'",
                        dump->path, key, minimum, maximum, text);
    }
    *value_p = value;
    return GDNCP_OK;
}

gdncp_status_t run_dump_positive(const run_dump_t *dump, const char *key, float *value_p)
{
    const char *text = NULL;
    char *end = NULL;
    const gdncp_status_t status = run_dump_text(dump, key, &text);

    if (status != GDNCP_OK) {
        return status;
    }
    const float value = strtof(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || !(value > 0.0f)) {
        return run_fail(GDNCP_ERR_FORMAT, "%s: metadata '%s': expected a number > 0, got '%.80s'",
                        dump->path, key, text);
    }
    *value_p = value;
    return GDNCP_OK;
}

bool run_dump_has(const run_dump_t *dump, const char *name)
{
    const int64_t count = gdncp_safetensors_num_tensors(dump->file);

    for (int64_t i = 0; i < count; i++) {
        if (strcmp(gdncp_safetensors_name(dump->file, i), name) == 0) {
            return true;
        }
    }
    return false;
}

static gdncp_status_t get_tensor(const run_dump_t *dump, const char *name, gdncp_dtype_t dtype,
                                 gdncp_tensor_t *tensor)
{
    if (!run_dump_has(dump, name)) {
        return run_fail(GDNCP_ERR_FORMAT, "%s: expected a tensor '%s', got none", dump->path, name);
    }
    const gdncp_status_t status = gdncp_safetensors_get(dump->file, name, tensor);
    if (status != GDNCP_OK) {
        return status;
    }
    if (tensor->dtype != dtype) {
        return run_fail(GDNCP_ERR_FORMAT, "%s: tensor '%s': expected dtype %s, got %s", dump->path,
                        name, gdncp_dtype_name(dtype), gdncp_dtype_name(tensor->dtype));
    }
    return GDNCP_OK;
}

static void format_shape(char *text, size_t size, int ndim, const int64_t *shape)
{
    size_t used = (size_t)snprintf(text, size, "[");

    for (int i = 0; i < ndim && used < size; i++) {
        used +=
            (size_t)snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? ", " : "", shape[i]);
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
}

gdncp_status_t run_dump_size(const run_dump_t *dump, const char *name, int ndim, int dim,
                             int64_t *size_p)
{
    gdncp_tensor_t tensor;
    const gdncp_status_t status = get_tensor(dump, name, GDNCP_F32, &tensor);

    if (status != GDNCP_OK) {
        return status;
    }
    if (tensor.ndim != ndim || gdncp_tensor_num_elements(&tensor) == 0) {
        char got[128];

        format_shape(got, sizeof got, tensor.ndim, tensor.shape);
        return run_fail(GDNCP_ERR_FORMAT,
                        "%s: tensor '%s': expected %d dimensions, each at least 1, got %s",
                        dump->path, name, ndim, got);
    }
    *size_p = tensor.shape[dim];
    return GDNCP_OK;
}

static gdncp_status_t check_finite(const run_dump_t *dump, const char *name, const float *values,
                                   int ndim, const int64_t *shape, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            int64_t index[GDNCP_MAX_DIMS];
            int64_t rest = i;
            char text[128];

            for (int d = ndim - 1; d >= 0; d--) {
                index[d] = rest % shape[d];
                rest /= shape[d];
            }
            format_shape(text, sizeof text, ndim, index);
            return run_fail(GDNCP_ERR_NUMERIC,
                            "%s: tensor '%s': expected finite values, got %f at %s", dump->path,
                            name, (double)values[i], text);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t get_shaped(const run_dump_t *dump, const char *name, int ndim,
                                 const int64_t *shape, gdncp_tensor_t *tensor)
{
    const gdncp_status_t status = get_tensor(dump, name, GDNCP_F32, tensor);

    if (status != GDNCP_OK) {
        return status;
    }
    if (tensor->ndim != ndim || memcmp(tensor->shape, shape, (size_t)ndim * sizeof shape[0]) != 0) {
        char expected[128];
        char got[128];

        format_shape(expected, sizeof expected, ndim, shape);
        format_shape(got, sizeof got, tensor->ndim, tensor->shape);
        return run_fail(GDNCP_ERR_FORMAT, "%s: tensor '%s': expected shape %s, got %s", dump->path,
                        name, expected, got);
    }
    return GDNCP_OK;
}

gdncp_status_t run_dump_check(const run_dump_t *dump, const char *name, int ndim,
                              const int64_t *shape)
{
    gdncp_tensor_t tensor;

    return get_shaped(dump, name, ndim, shape, &tensor);
}

gdncp_status_t run_dump_read(const run_dump_t *dump, const char *name, int ndim,
                             const int64_t *shape, float **values_p)
{
    gdncp_tensor_t tensor;
    gdncp_status_t status = get_shaped(dump, name, ndim, shape, &tensor);

    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t count = gdncp_tensor_num_elements(&tensor);
    float *const values = run_alloc((size_t)count, sizeof *values, name);
    if (values == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    /* A file may hold its tensors at any byte; the copy is aligned. */
    memcpy(values, tensor.data, (size_t)count * sizeof *values);
    status = check_finite(dump, name, values, ndim, shape, count);
    if (status != GDNCP_OK) {
        free(values);
        return status;
    }
    *values_p = values;
    return GDNCP_OK;
}

/* tokens: the last offset; < 0: any */
static gdncp_status_t check_offsets(const run_dump_t *dump, const char *name,
                                    const int64_t *offsets, int64_t num_sequences, int64_t tokens)
{
    if (offsets[0] != 0) {
        return run_fail(GDNCP_ERR_FORMAT, "%s: tensor '%s': expected 0 at [0], got %" PRId64,
                        dump->path, name, offsets[0]);
    }
    for (int64_t i = 0; i < num_sequences; i++) {
        if (offsets[i + 1] < offsets[i]) {
            return run_fail(GDNCP_ERR_FORMAT,
                            "%s: tensor '%s': expected at least %" PRId64 " at [%" PRId64
                            "], got %" PRId64,
                            dump->path, name, offsets[i], i + 1, offsets[i + 1]);
        }
    }
    if (tokens >= 0 && offsets[num_sequences] != tokens) {
        return run_fail(GDNCP_ERR_FORMAT,
                        "%s: tensor '%s': expected its last value to be the %" PRId64
                        " tokens, got %" PRId64,
                        dump->path, name, tokens, offsets[num_sequences]);
    }
    return GDNCP_OK;
}

/* A checked copy of a tensor of offsets, or of `whole` where the dump has none of that name. */
static gdncp_status_t read_offsets(const run_dump_t *dump, const char *name, const int64_t *whole,
                                   int64_t tokens, int64_t **offsets_p, int64_t *num_sequences_p)
{
    gdncp_tensor_t tensor = {.data = (void *)whole, .ndim = 1, .shape = {2}};
    gdncp_status_t status = GDNCP_OK;

    if (run_dump_has(dump, name)) {
        status = get_tensor(dump, name, GDNCP_I64, &tensor);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    if (tensor.ndim != 1 || tensor.shape[0] < 2) {
        return run_fail(GDNCP_ERR_FORMAT,
                        "%s: tensor '%s': expected one dimension of at least 2, got %d "
                        "dimensions of %" PRId64 " elements",
                        dump->path, name, tensor.ndim, gdncp_tensor_num_elements(&tensor));
    }
    int64_t *const offsets = run_alloc((size_t)tensor.shape[0], sizeof *offsets, name);
    if (offsets == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    memcpy(offsets, tensor.data, (size_t)tensor.shape[0] * sizeof *offsets);
    status = check_offsets(dump, name, offsets, tensor.shape[0] - 1, tokens);
    if (status != GDNCP_OK) {
        free(offsets);
        return status;
    }
    *offsets_p = offsets;
    *num_sequences_p = tensor.shape[0] - 1;
    return GDNCP_OK;
}

/* Every sequence has room in its slot. */
static gdncp_status_t check_slots(const run_dump_t *dump, const char *name,
                                  const run_sequences_t *sequences, int64_t num_slots)
{
    if (num_slots != sequences->count) {
        return run_fail(GDNCP_ERR_FORMAT,
                        "%s: tensor '%s': expected %" PRId64
                        " elements as 'cu_seqlens' has, got %" PRId64,
                        dump->path, name, sequences->count + 1, num_slots + 1);
    }
    for (int64_t i = 0; i < num_slots; i++) {
        const int64_t length = sequences->cu_seqlens[i + 1] - sequences->cu_seqlens[i];
        const int64_t slot = sequences->cu_seqlens_padded[i + 1] - sequences->cu_seqlens_padded[i];

        if (slot < length) {
            return run_fail(GDNCP_ERR_FORMAT,
                            "%s: tensor '%s': expected room for the %" PRId64
                            " tokens of sequence %" PRId64 ", got %" PRId64,
                            dump->path, name, length, i, slot);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t run_dump_sequences(const run_dump_t *dump, int64_t tokens,
                                  run_sequences_t *sequences)
{
    static const char padded_name[] = "cu_seqlens_padded";
    const bool is_padded = run_dump_has(dump, padded_name);
    const int64_t whole[] = {0, tokens};
    run_sequences_t read = {0};
    int64_t num_slots = 0;
    gdncp_status_t status = read_offsets(dump, "cu_seqlens", whole, is_padded ? -1 : tokens,
                                         &read.cu_seqlens, &read.count);

    if (status == GDNCP_OK && is_padded) {
        status =
            read_offsets(dump, padded_name, whole, tokens, &read.cu_seqlens_padded, &num_slots);
    }
    if (status == GDNCP_OK && is_padded) {
        status = check_slots(dump, padded_name, &read, num_slots);
    }
    if (status != GDNCP_OK) {
        free(read.cu_seqlens);
        free(read.cu_seqlens_padded);
        return status;
    }
    *sequences = read;
    return GDNCP_OK;
}
