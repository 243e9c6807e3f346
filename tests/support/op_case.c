#include "op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "test_block.h"
#include "tolerances.h"

void *test_arena_alloc(test_arena_t *arena, int64_t bytes)
{
    arena->blocks = realloc(arena->blocks, (size_t)(arena->count + 1) * sizeof *arena->blocks);
    assert_non_null(arena->blocks);
    void *const block = test_block_alloc((size_t)bytes);

    arena->blocks[arena->count++] = block;
    return block;
}

void test_arena_free(test_arena_t *arena)
{
    for (int64_t i = 0; i < arena->count; i++) {
        test_block_free(arena->blocks[i]);
    }
    free(arena->blocks);
    *arena = (test_arena_t){0};
}

double *test_doubles(test_arena_t *arena, int64_t count)
{
    double *const values = test_arena_alloc(arena, count * (int64_t)sizeof *values);

    memset(values, 0xff, (size_t)count * sizeof *values);
    return values;
}

float *test_floats(test_arena_t *arena, int64_t count)
{
    float *const values = test_arena_alloc(arena, count * (int64_t)sizeof *values);

    memset(values, 0xff, (size_t)count * sizeof *values);
    return values;
}

static int64_t num_tokens(const gdncp_tensor_t *tensor)
{
    return tensor->shape[0];
}

static int64_t token_elements(const gdncp_tensor_t *tensor)
{
    int64_t count = 1;

    for (int i = 1; i < tensor->ndim; i++) {
        count *= tensor->shape[i];
    }
    return count;
}

static char *token_at(const gdncp_tensor_t *tensor, int64_t token)
{
    return (char *)tensor->data +
           (size_t)(token * tensor->strides[0]) * gdncp_dtype_size(tensor->dtype);
}

gdncp_tensor_t test_tensor(test_arena_t *arena, gdncp_dtype_t dtype, int ndim, const int64_t *shape,
                           int64_t gap)
{
    gdncp_tensor_t tensor = gdncp_tensor_contiguous(NULL, dtype, ndim, shape);
    const int64_t stride = token_elements(&tensor) + gap;
    const int64_t bytes = shape[0] * stride * (int64_t)gdncp_dtype_size(dtype);

    tensor.strides[0] = stride;
    tensor.data = test_arena_alloc(arena, bytes);
    memset(tensor.data, 0xff, (size_t)bytes);
    return tensor;
}

float *test_tensor_values(test_arena_t *arena, const gdncp_tensor_t *tensor)
{
    const int64_t width = token_elements(tensor);
    float *const values = test_floats(arena, num_tokens(tensor) * width);

    for (int64_t t = 0; t < num_tokens(tensor); t++) {
        assert_int_equal(
            gdncp_convert_to_f32(tensor->dtype, token_at(tensor, t), width, values + t * width),
            GDNCP_OK);
    }
    return values;
}

double *test_tensor_fill(test_arena_t *arena, test_random_t *random, double scale, double shift,
                         const gdncp_tensor_t *tensor)
{
    const int64_t width = token_elements(tensor);
    const int64_t count = num_tokens(tensor) * width;
    float *const values = test_floats(arena, count);
    double *const held = test_doubles(arena, count);

    test_random_fill(random, values, count);
    for (int64_t i = 0; i < count; i++) {
        values[i] = (float)(scale * (double)values[i] + shift);
    }
    for (int64_t t = 0; t < num_tokens(tensor); t++) {
        assert_int_equal(
            gdncp_convert_from_f32(values + t * width, width, tensor->dtype, token_at(tensor, t)),
            GDNCP_OK);
    }
    const float *const rounded = test_tensor_values(arena, tensor);

    for (int64_t i = 0; i < count; i++) {
        held[i] = (double)rounded[i];
    }
    return held;
}

/* Gaps hold 0xff bytes. */
static bool gaps_are_untouched(const gdncp_tensor_t *tensor)
{
    const size_t size = gdncp_dtype_size(tensor->dtype);
    const size_t used = (size_t)token_elements(tensor) * size;
    const size_t stride = (size_t)tensor->strides[0] * size;

    for (int64_t t = 0; t < num_tokens(tensor); t++) {
        for (size_t i = used; i < stride; i++) {
            if ((unsigned char)token_at(tensor, t)[i] != 0xff) {
                return false;
            }
        }
    }
    return true;
}

void test_check_tensor_close(const char *what, const gdncp_tensor_t *tensor,
                             const double *reference, double tolerance, const char *file, int line)
{
    test_arena_t arena = {0};
    const float *const values = test_tensor_values(&arena, tensor);

    if (!gaps_are_untouched(tensor)) {
        print_error("%s: wrote between tokens\n", what);
        _fail(file, line);
    }
    test_check_rms_ratio(what, values, reference, gdncp_tensor_num_elements(tensor), tolerance,
                         file, line);
    test_arena_free(&arena);
}

void test_check_tensor_bits_equal(const char *what, const gdncp_tensor_t *a,
                                  const gdncp_tensor_t *b, const char *file, int line)
{
    const size_t bytes = (size_t)token_elements(a) * gdncp_dtype_size(a->dtype);

    for (int64_t t = 0; t < num_tokens(a); t++) {
        if (memcmp(token_at(a, t), token_at(b, t), bytes) != 0) {
            print_error("%s: token %lld differs\n", what, (long long)t);
            _fail(file, line);
        }
    }
}

void test_check_tensor_untouched(const char *what, const gdncp_tensor_t *tensor, const char *file,
                                 int line)
{
    test_arena_t arena = {0};
    const float *const values = test_tensor_values(&arena, tensor);

    for (int64_t i = 0; i < gdncp_tensor_num_elements(tensor); i++) {
        if (!isnan(values[i])) {
            print_error("%s: element %lld was written\n", what, (long long)i);
            _fail(file, line);
        }
    }
    test_arena_free(&arena);
}

void test_check_gradient(const char *what, double (*loss)(void *context), void *context,
                         double *input, const double *gradient, int64_t count, const char *file,
                         int line)
{
    const double step = 1e-5;
    test_arena_t arena = {0};
    float *const measured = test_floats(&arena, count);

    for (int64_t i = 0; i < count; i++) {
        const double value = input[i];

        input[i] = value + step;
        const double above = loss(context);

        input[i] = value - step;
        measured[i] = (float)((above - loss(context)) / (2.0 * step));
        input[i] = value;
    }
    test_check_rms_ratio(what, measured, gradient, count, GDNCP_TOLERANCE_F32, file, line);
    test_arena_free(&arena);
}

void test_check_argument_error(gdncp_status_t got, gdncp_status_t expected, const char *name,
                               const char *file, int line)
{
    const size_t length = strlen(name);

    if (got != expected) {
        print_error("%s: expected %s, got %s\n", name, gdncp_status_string(expected),
                    gdncp_status_string(got));
        _fail(file, line);
    }
    if (strncmp(gdncp_last_error(), name, length) != 0 || gdncp_last_error()[length] != ':') {
        print_error("expected a sentence about %s, got \"%s\"\n", name, gdncp_last_error());
        _fail(file, line);
    }
}

void test_argument_errors(const test_argument_t *argument, gdncp_status_t (*call)(void *context),
                          void *context)
{
    gdncp_tensor_t *const tensor = argument->tensor;
    const gdncp_tensor_t good = *tensor;
    const int last = good.ndim - 1;

    /* What is spoilt below shows only where there is more than one of each. */
    for (int i = 0; i < good.ndim; i++) {
        assert_true(good.shape[i] > 1);
    }
    tensor->ndim++;
    assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    *tensor = good;
    tensor->shape[0] = -1;
    assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    *tensor = good;
    tensor->dtype = GDNCP_I32;
    assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    *tensor = good;
    tensor->strides[last] = 2;
    assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    *tensor = good;
    tensor->strides[0] = 1;
    if (good.ndim > 1) {
        assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    }
    *tensor = good;
    tensor->strides[0]++;
    if (argument->contiguous) {
        assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    }
    *tensor = good;
    tensor->device = GDNCP_DEVICE_CUDA;
    assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    *tensor = good;
    tensor->data = NULL;
    if (!argument->optional) {
        assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
    }
    *tensor = good;
    for (int i = 0; i < good.ndim && !argument->defines_shape; i++) {
        tensor->shape[i]--;
        assert_argument_error(call(context), GDNCP_ERR_INVALID_ARGUMENT, argument->name);
        *tensor = good;
    }
    assert_int_equal(call(context), GDNCP_OK);
}

void test_each_argument(const test_argument_t *arguments, size_t count,
                        gdncp_status_t (*call)(void *context), void *context)
{
    for (size_t i = 0; i < count; i++) {
        test_argument_errors(&arguments[i], call, context);
    }
}
