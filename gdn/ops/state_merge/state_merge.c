/* One step along a chain of segments. */
#include "gdncp/ops.h"

#include <string.h>

#include "error.h"
#include "op_checks.h"
#include "small_gemm.h"

static gdncp_status_t check_arguments(const gdncp_tensor_t *transition,
                                      const gdncp_tensor_t *contribution, const gdncp_tensor_t *in,
                                      const gdncp_tensor_t *out, const gdncp_workspace_t *workspace,
                                      const gdncp_op_kernels_t **kernels_p)
{
    gdncp_status_t status = gdncp_op_check_ndim("contribution", contribution, 2);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("contribution", contribution, workspace, kernels_p);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t dk = contribution->shape[0];
    const int64_t square[] = {dk, dk};
    const int64_t shape[] = {dk, contribution->shape[1]};

    status = gdncp_op_check_tensor("contribution", contribution, contribution->device, GDNCP_F32,
                                   GDNCP_OP_CONTIGUOUS, 2, shape);
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("transition", transition, contribution->device, GDNCP_F32,
                                       GDNCP_OP_CONTIGUOUS, 2, square);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("in", in, contribution->device, GDNCP_F32,
                                       GDNCP_OP_CONTIGUOUS, 2, shape);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("out", out, contribution->device, GDNCP_F32,
                                       GDNCP_OP_CONTIGUOUS, 2, shape);
    }
    if (status == GDNCP_OK && out->data != NULL &&
        (out->data == in->data || out->data == contribution->data ||
         out->data == transition->data)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "out: expected memory of its own, got that of %s",
                          out->data == in->data             ? "in"
                          : out->data == contribution->data ? "contribution"
                                                            : "transition");
    }
    return status;
}

gdncp_status_t gdncp_state_merge(const gdncp_tensor_t *transition,
                                 const gdncp_tensor_t *contribution, const gdncp_tensor_t *in,
                                 bool transposed, const gdncp_tensor_t *out,
                                 gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    const gdncp_status_t status =
        check_arguments(transition, contribution, in, out, workspace, &kernels);

    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t dk = in->shape[0];
    const int64_t dv = in->shape[1];

    if (dk == 0 || dv == 0) {
        return GDNCP_OK;
    }
    if (kernels != NULL) {
        return kernels->state_merge(transition, contribution, in, transposed, out, workspace);
    }
    memcpy(out->data, contribution->data, (size_t)(dk * dv) * sizeof(float));
    if (transposed) {
        gdncp_gemm_tn(dk, dv, dk, transition->data, dk, in->data, dv, true, out->data, dv);
    } else {
        gdncp_gemm(dk, dv, dk, transition->data, dk, in->data, dv, true, out->data, dv);
    }
    return GDNCP_OK;
}
