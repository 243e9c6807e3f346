/*
 * Rows from one matrix to another, on the CPU or a device: what a layer copies, picks and converts
 * between its operators.
 */
#ifndef GDNCP_MOVE_ROWS_H
#define GDNCP_MOVE_ROWS_H

#include "device_list.h"
#include "gdncp/memory.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Row from[i] of src goes to row to[i] of dst, for i in [0, count). The matrices are [rows,
 * columns] with a free token stride; shape[0] is not read. Both have one dtype, or one of them is
 * F32 and elements are converted to the other's F32, BF16 or F16, rounding to nearest even.
 */
typedef struct gdncp_row_moves {
    gdncp_tensor_t src;              /* absent: zeros */
    gdncp_tensor_t dst;              /* has no row in common with src, and none comes twice */
    const gdncp_device_list_t *from; /* [count]; -1: zeros. NULL: row i */
    const gdncp_device_list_t *to;   /* [count]. NULL: row i */
    int64_t count;
} gdncp_row_moves_t;

/* Runs where the workspace is, as operators do; needs no scratch. */
gdncp_status_t gdncp_move_rows(const gdncp_row_moves_t *moves, gdncp_workspace_t *workspace);

#ifdef __cplusplus
}
#endif

#endif
