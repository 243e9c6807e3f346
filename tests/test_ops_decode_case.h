/* What tests of operators for decoding share. */
#ifndef GDNCP_TEST_OPS_DECODE_CASE_H
#define GDNCP_TEST_OPS_DECODE_CASE_H

#include "gdncp/ops_decode.h"
#include "random.h"
#include "test_ops_check.h"

/* A number that is not to be read: one that would be good, or one that leads nowhere. */
static inline int64_t nonsense(int64_t n)
{
    return n % 2 == 0 ? 1 : INT32_MAX;
}

/* A list of numbers, I32 or I64. */
static inline gdncp_tensor_t index_tensor(test_arena_t *arena, gdncp_dtype_t dtype, int ndim,
                                          const int64_t *shape, const int64_t *values)
{
    const gdncp_tensor_t tensor = test_tensor(arena, dtype, ndim, shape, 0);
    const int64_t count = gdncp_tensor_num_elements(&tensor);

    for (int64_t i = 0; i < count; i++) {
        if (dtype == GDNCP_I32) {
            ((int32_t *)tensor.data)[i] = (int32_t)values[i];
        } else {
            ((int64_t *)tensor.data)[i] = values[i];
        }
    }
    return tensor;
}

/* order [count] <- 0 .. count-1 in random order. */
static inline void random_order(test_random_t *random, int64_t *order, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const int64_t j = test_random_int(random, 0, i);

        order[i] = order[j];
        order[j] = i;
    }
}

/* These operators have none. */
static inline gdncp_status_t no_backward(void *context)
{
    (void)context;
    return GDNCP_OK;
}

#endif
