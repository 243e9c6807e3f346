/* Tensors, gradients and argument errors for tests of operators. */
#ifndef GDNCP_TEST_OP_CASE_H
#define GDNCP_TEST_OP_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/tensor.h"
#include "random.h"

/* Where the program's operators run, and so where their workspaces have memory. */
static inline gdncp_device_kind_t test_device(void)
{
#ifdef GDNCP_TEST_ON_DEVICE
    return GDNCP_DEVICE_CUDA;
#else
    return GDNCP_DEVICE_CPU;
#endif
}

/* A size of a test case: the second where the program runs on the device, which may be emulated. */
static inline int64_t test_size(int64_t full, int64_t on_device)
{
#ifdef GDNCP_TEST_ON_DEVICE
    (void)full;
    return on_device;
#else
    (void)on_device;
    return full;
#endif
}

/* What a test allocates, freed together. */
typedef struct test_arena {
    void **blocks;
    int64_t count;
} test_arena_t;

void *test_arena_alloc(test_arena_t *arena, int64_t bytes);
void test_arena_free(test_arena_t *arena);

/* [count], filled with NaN. */
double *test_doubles(test_arena_t *arena, int64_t count);
float *test_floats(test_arena_t *arena, int64_t count);

/* A tensor whose tokens lie `gap` elements apart, filled with NaN, gaps too. */
gdncp_tensor_t test_tensor(test_arena_t *arena, gdncp_dtype_t dtype, int ndim, const int64_t *shape,
                           int64_t gap);

/* Fill with normals times scale, plus shift; returns, contiguous, the values it then holds. */
double *test_tensor_fill(test_arena_t *arena, test_random_t *random, double scale, double shift,
                         const gdncp_tensor_t *tensor);

/* Its values, contiguous, in float32. */
float *test_tensor_values(test_arena_t *arena, const gdncp_tensor_t *tensor);

/* Fail unless the RMS ratio is inside the tolerance and nothing but NaN lies in the gaps. */
#define assert_tensor_close(what, tensor, reference, tolerance)                                    \
    test_check_tensor_close(what, tensor, reference, tolerance, __FILE__, __LINE__)
void test_check_tensor_close(const char *what, const gdncp_tensor_t *tensor,
                             const double *reference, double tolerance, const char *file, int line);

/* Fail unless both hold the same bits; shapes and dtypes are equal. */
#define assert_tensor_bits_equal(what, a, b)                                                       \
    test_check_tensor_bits_equal(what, a, b, __FILE__, __LINE__)
void test_check_tensor_bits_equal(const char *what, const gdncp_tensor_t *a,
                                  const gdncp_tensor_t *b, const char *file, int line);

/* Fail unless every element is NaN. */
#define assert_tensor_untouched(what, tensor)                                                      \
    test_check_tensor_untouched(what, tensor, __FILE__, __LINE__)
void test_check_tensor_untouched(const char *what, const gdncp_tensor_t *tensor, const char *file,
                                 int line);

/* Fail unless the gradient [count] is that of loss, by central differences of each input. */
#define assert_gradient(what, loss, context, input, gradient, count)                               \
    test_check_gradient(what, loss, context, input, gradient, count, __FILE__, __LINE__)
void test_check_gradient(const char *what, double (*loss)(void *context), void *context,
                         double *input, const double *gradient, int64_t count, const char *file,
                         int line);

/* Fail unless the call returned this status with a sentence about the argument "name". */
#define assert_argument_error(call, status, name)                                                  \
    test_check_argument_error(call, status, name, __FILE__, __LINE__)
void test_check_argument_error(gdncp_status_t got, gdncp_status_t expected, const char *name,
                               const char *file, int line);

/* How an argument of a call is to be spoilt. */
typedef struct test_argument {
    const char *name; /* as sentences name it */
    gdncp_tensor_t *tensor;
    bool optional;      /* data == NULL is good */
    bool defines_shape; /* others are checked against its shape */
    bool contiguous;    /* tokens may not lie apart */
} test_argument_t;

/* Spoil an argument in each way that its contract rules out (dimensions, shape, dtype, strides,
 * no data, wrong device), and fail unless the call names it each time. */
void test_argument_errors(const test_argument_t *argument, gdncp_status_t (*call)(void *context),
                          void *context);
void test_each_argument(const test_argument_t *arguments, size_t count,
                        gdncp_status_t (*call)(void *context), void *context);

#endif
