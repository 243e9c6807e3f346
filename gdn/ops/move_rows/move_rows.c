/* Moving rows: where it runs, and the loop of the CPU. */
#include "move_rows.h"

#include <assert.h>
#include <string.h>

#include "op_checks.h"

static int64_t row_of(const gdncp_device_list_t *list, int64_t index)
{
    return list != NULL ? list->host[index] : index;
}

static void *row_at(const gdncp_tensor_t *matrix, int64_t row)
{
    return (char *)matrix->data +
           row * matrix->strides[0] * (int64_t)gdncp_dtype_size(matrix->dtype);
}

static gdncp_status_t move_row(const gdncp_row_moves_t *moves, int64_t from, int64_t to)
{
    const int64_t columns = moves->dst.shape[1];
    void *const out = row_at(&moves->dst, to);

    if (from < 0 || gdncp_op_is_absent(&moves->src)) {
        memset(out, 0, (size_t)columns * gdncp_dtype_size(moves->dst.dtype));
        return GDNCP_OK;
    }
    const void *const in = row_at(&moves->src, from);

    if (moves->src.dtype == moves->dst.dtype) {
        memcpy(out, in, (size_t)columns * gdncp_dtype_size(moves->dst.dtype));
        return GDNCP_OK;
    }
    return moves->dst.dtype == GDNCP_F32
               ? gdncp_convert_to_f32(moves->src.dtype, in, columns, out)
               : gdncp_convert_from_f32(in, columns, moves->dst.dtype, out);
}

gdncp_status_t gdncp_move_rows(const gdncp_row_moves_t *moves, gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status;

    assert(gdncp_op_is_absent(&moves->src) || moves->src.dtype == GDNCP_F32 ||
           moves->dst.dtype == GDNCP_F32 || moves->src.dtype == moves->dst.dtype);
    if (moves->count * moves->dst.shape[1] == 0) {
        return GDNCP_OK;
    }
    status = gdncp_op_check_device("dst", &moves->dst, workspace, &kernels);
    if (status == GDNCP_OK && kernels != NULL) {
        return kernels->move_rows(moves, workspace);
    }
    for (int64_t i = 0; i < moves->count && status == GDNCP_OK; i++) {
        status = move_row(moves, row_of(moves->from, i), row_of(moves->to, i));
    }
    return status;
}
