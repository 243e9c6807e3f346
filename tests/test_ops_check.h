/* What the operators' tests check alike. */
#ifndef GDNCP_TEST_OPS_CHECK_H
#define GDNCP_TEST_OPS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gdncp/ops.h"
#include "op_case.h"
#include "threads.h"
#include "tolerances.h"

enum { MAX_OUTPUTS = 8 };

typedef struct tested_output {
    const char *name;
    gdncp_tensor_t *tensor;
} tested_output_t;

/* An operator called on a case, in both directions. */
typedef struct tested_op {
    void *context;
    gdncp_status_t (*forward)(void *context);
    gdncp_status_t (*backward)(void *context);
    void (*check)(void *context);             /* both, against the reference */
    gdncp_workspace_t **workspace;            /* of the case */
    tested_output_t outputs[MAX_OUTPUTS + 1]; /* up to one without a name */
} tested_op_t;

static inline double output_tolerance(const gdncp_tensor_t *output)
{
    return output->dtype == GDNCP_F32 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_OUTPUT;
}

static inline double grad_tolerance(const gdncp_tensor_t *grad)
{
    return grad->dtype == GDNCP_F32 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_GRADIENT;
}

static inline double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0.0;

    for (int64_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static inline void run_both(const tested_op_t *op)
{
    assert_int_equal(op->forward(op->context), GDNCP_OK);
    assert_int_equal(op->backward(op->context), GDNCP_OK);
}

static inline void keep_outputs(const tested_op_t *op, gdncp_tensor_t *kept)
{
    for (int i = 0; op->outputs[i].name != NULL; i++) {
        kept[i] = *op->outputs[i].tensor;
    }
}

static inline void put_outputs_back(const tested_op_t *op, const gdncp_tensor_t *kept)
{
    for (int i = 0; op->outputs[i].name != NULL; i++) {
        *op->outputs[i].tensor = kept[i];
    }
}

/* Poisoned ones, alike, instead of those that the case has. */
static inline void renew_outputs(const tested_op_t *op, test_arena_t *arena)
{
    for (int i = 0; op->outputs[i].name != NULL; i++) {
        gdncp_tensor_t *const tensor = op->outputs[i].tensor;
        const gdncp_tensor_t dense =
            gdncp_tensor_contiguous(NULL, tensor->dtype, tensor->ndim, tensor->shape);

        *tensor = test_tensor(arena, tensor->dtype, tensor->ndim, tensor->shape,
                              tensor->strides[0] - dense.strides[0]);
    }
}

static inline void check_outputs_equal(const tested_op_t *op, const gdncp_tensor_t *kept)
{
    for (int i = 0; op->outputs[i].name != NULL; i++) {
        assert_tensor_bits_equal(op->outputs[i].name, op->outputs[i].tensor, &kept[i]);
    }
}

static inline void check_threads_do_not_change_bits(const tested_op_t *op)
{
    static const int num_threads[] = {2, 4, 5};
    gdncp_tensor_t of_one[MAX_OUTPUTS];

    test_set_num_threads(1);
    run_both(op);
    keep_outputs(op, of_one);
    for (size_t i = 0; i < sizeof num_threads / sizeof num_threads[0]; i++) {
        test_arena_t arena = {0};

        renew_outputs(op, &arena);
        test_set_num_threads(num_threads[i]);
        run_both(op);
        check_outputs_equal(op, of_one);
        test_arena_free(&arena);
    }
    put_outputs_back(op, of_one);
}

/* The empty case comes first, so that the workspace has to grow. */
static inline void check_workspace_is_reused(const tested_op_t *empty, const tested_op_t *op)
{
    gdncp_tensor_t without[MAX_OUTPUTS];
    gdncp_memory_usage_t usage = {0};
    gdncp_workspace_t *workspace = NULL;
    test_arena_t arena = {0};

    test_set_num_threads(5);
    run_both(op);
    keep_outputs(op, without);
    assert_int_equal(gdncp_workspace_create(&workspace), GDNCP_OK);
    *empty->workspace = workspace;
    *op->workspace = workspace;
    renew_outputs(op, &arena);
    empty->check(empty->context);
    op->check(op->context);
    check_outputs_equal(op, without);
    renew_outputs(op, &arena);
    gdncp_memory_track(&usage);
    run_both(op);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.num_allocations, 0);
    check_outputs_equal(op, without);
    put_outputs_back(op, without);
    *empty->workspace = NULL;
    *op->workspace = NULL;
    gdncp_workspace_destroy(workspace);
    test_arena_free(&arena);
}

/* Forward and backward both name it and write nothing; the outputs are poisoned. */
static inline void check_both_name(const tested_op_t *op, const char *name)
{
    assert_argument_error(op->forward(op->context), GDNCP_ERR_INVALID_ARGUMENT, name);
    assert_argument_error(op->backward(op->context), GDNCP_ERR_INVALID_ARGUMENT, name);
    for (int i = 0; op->outputs[i].name != NULL; i++) {
        assert_tensor_untouched(op->outputs[i].name, op->outputs[i].tensor);
    }
}

#endif
