#include "run_dump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "gdncp/safetensors.h"
#include "run_tool.h"

#define MAX_TENSORS 64
#define MAX_KEYS 32

static const char *const keys[] = {
    "kind",         "family",         "hidden_size",     "num_key_heads", "num_value_heads",
    "key_head_dim", "value_head_dim", "conv_kernel_dim", "norm_eps",      "allow_neg_eigval",
    "qk_l2norm",    "scale",
};

static char path[128];

static const char *new_path(void)
{
    snprintf(path, sizeof path, "/tmp/gdncp_test_run_%d.safetensors", (int)getpid());
    return path;
}

void run_remove_written(void)
{
    unlink(path);
}

static int64_t copy_metadata(const gdncp_safetensors_t *file, const run_change_t *change,
                             const char **metadata)
{
    int64_t count = 0;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const bool changed = change->key != NULL && strcmp(change->key, keys[i]) == 0;
        const char *const value =
            changed ? change->value : gdncp_safetensors_metadata(file, keys[i]);

        if (value != NULL) {
            metadata[2 * count] = keys[i];
            metadata[2 * count + 1] = value;
            count++;
        }
    }
    return count;
}

/* A changed copy of a tensor; its data is to be freed. */
static gdncp_tensor_t change_tensor(const gdncp_tensor_t *tensor, const run_change_t *change)
{
    gdncp_tensor_t changed = *tensor;
    const int64_t count = gdncp_tensor_num_elements(tensor);
    void *const data = malloc((size_t)count * 8 + 8);

    assert_non_null(data);
    memcpy(data, tensor->data, (size_t)count * gdncp_dtype_size(tensor->dtype));
    if (tensor->dtype == GDNCP_F32 && change->f32 != 0.0f) {
        ((float *)data)[change->index] = change->f32;
    }
    if (tensor->dtype == GDNCP_I64 && change->i64 != 0) {
        ((int64_t *)data)[change->index] = change->i64;
    }
    if (change->dtype != GDNCP_F32) {
        memset(data, 0, (size_t)count * 8);
        changed.dtype = change->dtype;
    }
    changed.shape[0] -= change->cut_first_dimension ? 1 : 0;
    changed.data = data;
    return changed;
}

const char *run_write_changed(const char *golden, const run_change_t *change)
{
    gdncp_safetensors_t *file;
    gdncp_named_tensor_t tensors[MAX_TENSORS];
    const char *metadata[2 * MAX_KEYS];
    void *changed = NULL;
    int64_t count = 0;

    assert_int_equal(gdncp_safetensors_open(run_golden(golden), &file), GDNCP_OK);
    const int64_t num_tensors = gdncp_safetensors_num_tensors(file);
    assert_true(num_tensors + 1 < MAX_TENSORS);
    for (int64_t i = 0; i < num_tensors; i++) {
        const char *const name = gdncp_safetensors_name(file, i);
        gdncp_named_tensor_t *const written = &tensors[count];

        written->name = name;
        assert_int_equal(gdncp_safetensors_get(file, name, &written->tensor), GDNCP_OK);
        count++;
        if (change->tensor == NULL || strcmp(change->tensor, name) != 0) {
            continue;
        }
        if (change->leave_out) {
            count--;
            continue;
        }
        if (change->rename != NULL) {
            tensors[count] = *written;
            tensors[count++].name = change->rename;
        }
        written->tensor = change_tensor(&written->tensor, change);
        changed = written->tensor.data;
    }
    const int64_t num_metadata = copy_metadata(file, change, metadata);
    assert_int_equal(gdncp_safetensors_write(new_path(), tensors, count, metadata, num_metadata),
                     GDNCP_OK);
    free(changed);
    gdncp_safetensors_close(file);
    return path;
}

/* The data is to be freed. */
static gdncp_tensor_t repeat_tensor(const gdncp_tensor_t *tensor, int64_t tokens)
{
    gdncp_tensor_t repeated = *tensor;
    const size_t bytes =
        (size_t)gdncp_tensor_num_elements(tensor) * gdncp_dtype_size(tensor->dtype);
    char *const data = malloc(2 * bytes);

    assert_non_null(data);
    memcpy(data, tensor->data, bytes);
    memcpy(data + bytes, tensor->data, bytes);
    if (tensor->dtype == GDNCP_I64) {
        ((int64_t *)data)[1] = 2 * tokens; /* cu_seqlens */
    } else if (tensor->shape[0] == tokens) {
        repeated.shape[0] *= 2;
    }
    repeated.data = data;
    return repeated;
}

const char *run_write_repeated(const char *golden, int64_t tokens)
{
    gdncp_safetensors_t *file;
    gdncp_named_tensor_t tensors[MAX_TENSORS];
    const char *metadata[2 * MAX_KEYS];

    assert_int_equal(gdncp_safetensors_open(run_golden(golden), &file), GDNCP_OK);
    const int64_t count = gdncp_safetensors_num_tensors(file);
    assert_true(count <= MAX_TENSORS);
    for (int64_t i = 0; i < count; i++) {
        gdncp_tensor_t tensor;

        tensors[i].name = gdncp_safetensors_name(file, i);
        assert_int_equal(gdncp_safetensors_get(file, tensors[i].name, &tensor), GDNCP_OK);
        tensors[i].tensor = repeat_tensor(&tensor, tokens);
    }
    const int64_t num_metadata = copy_metadata(file, &(run_change_t){0}, metadata);
    assert_int_equal(gdncp_safetensors_write(new_path(), tensors, count, metadata, num_metadata),
                     GDNCP_OK);
    for (int64_t i = 0; i < count; i++) {
        free(tensors[i].tensor.data);
    }
    gdncp_safetensors_close(file);
    return path;
}

/* Tokens of padding behind sequence i: slots are multiples of 8. */
static int64_t padding_after(const int64_t *cu_seqlens, int64_t i)
{
    enum { MULTIPLE = 8 };
    const int64_t length = cu_seqlens[i + 1] - cu_seqlens[i];

    return (MULTIPLE - length % MULTIPLE) % MULTIPLE + i * MULTIPLE;
}

/* A tensor of tokens with `value` in padding. The data is to be freed. */
static gdncp_tensor_t pad_tensor(const gdncp_tensor_t *tensor, bool is_batched,
                                 const gdncp_tensor_t *cu_seqlens, int64_t slots_end, float value)
{
    const int dim = is_batched ? 1 : 0;
    const int64_t *const offsets = cu_seqlens->data;
    const int64_t row = gdncp_tensor_num_elements(tensor) / tensor->shape[dim];
    gdncp_tensor_t padded = *tensor;
    float *const data = malloc((size_t)(slots_end * row) * sizeof *data);
    int64_t slot = 0;

    assert_non_null(data);
    for (int64_t i = 0; i < slots_end * row; i++) {
        data[i] = value;
    }
    for (int64_t i = 0; i + 1 < cu_seqlens->shape[0]; i++) {
        const int64_t length = offsets[i + 1] - offsets[i];

        memcpy(data + slot * row, (const float *)tensor->data + offsets[i] * row,
               (size_t)(length * row) * sizeof *data);
        slot += length + padding_after(offsets, i);
    }
    padded.shape[dim] = slots_end;
    padded.data = data;
    return padded;
}

static bool is_result(const char *name)
{
    return strncmp(name, "grad.", 5) == 0 || strcmp(name, "o") == 0 ||
           strcmp(name, "output") == 0 || strcmp(name, "grad_hidden_states") == 0;
}

const char *run_write_padded(const char *golden, int64_t tokens)
{
    gdncp_safetensors_t *file;
    gdncp_named_tensor_t tensors[MAX_TENSORS];
    void *written[MAX_TENSORS] = {NULL};
    const char *metadata[2 * MAX_KEYS];
    gdncp_tensor_t cu_seqlens;
    int64_t slots[MAX_TENSORS] = {0};

    assert_int_equal(gdncp_safetensors_open(run_golden(golden), &file), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_get(file, "cu_seqlens", &cu_seqlens), GDNCP_OK);
    const int64_t count = gdncp_safetensors_num_tensors(file);
    const int64_t num_sequences = cu_seqlens.shape[0] - 1;
    assert_true(count < MAX_TENSORS && num_sequences < MAX_TENSORS);
    for (int64_t i = 0; i < num_sequences; i++) {
        const int64_t *const offsets = cu_seqlens.data;

        slots[i + 1] = slots[i] + offsets[i + 1] - offsets[i] + padding_after(offsets, i);
    }
    for (int64_t i = 0; i < count; i++) {
        gdncp_tensor_t *const tensor = &tensors[i].tensor;

        tensors[i].name = gdncp_safetensors_name(file, i);
        assert_int_equal(gdncp_safetensors_get(file, tensors[i].name, tensor), GDNCP_OK);
        const bool is_batched =
            tensor->ndim == 3 && tensor->shape[0] == 1 && tensor->shape[1] == tokens;

        if (tensor->dtype == GDNCP_F32 && (is_batched || tensor->shape[0] == tokens)) {
            *tensor = pad_tensor(tensor, is_batched, &cu_seqlens, slots[num_sequences],
                                 is_result(tensors[i].name) ? 0.0f : 1e30f);
            written[i] = tensor->data;
        }
    }
    tensors[count].name = "cu_seqlens_padded";
    tensors[count].tensor = gdncp_tensor_contiguous(slots, GDNCP_I64, 1, cu_seqlens.shape);
    const int64_t num_metadata = copy_metadata(file, &(run_change_t){0}, metadata);
    assert_int_equal(
        gdncp_safetensors_write(new_path(), tensors, count + 1, metadata, num_metadata), GDNCP_OK);
    for (int64_t i = 0; i < count; i++) {
        free(written[i]);
    }
    gdncp_safetensors_close(file);
    return path;
}

const char *run_write_bytes(const char *golden, int64_t bytes, const char *patch)
{
    FILE *const in = fopen(run_golden(golden), "rb");
    FILE *const out = fopen(new_path(), "wb");

    assert_non_null(in);
    assert_non_null(out);
    fseek(in, 0, SEEK_END);
    const int64_t size = ftell(in);
    rewind(in);
    const size_t count = (size_t)(bytes >= 0 ? bytes : size + bytes);
    char *const data = malloc(count + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, count, in), count);
    if (patch != NULL) {
        memcpy(data, patch, 8);
    }
    assert_int_equal(fwrite(data, 1, count, out), count);
    free(data);
    fclose(in);
    assert_int_equal(fclose(out), 0);
    return path;
}
