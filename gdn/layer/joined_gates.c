/* Joining and parting the gates. */
#include "joined_gates.h"

#include <stdbool.h>

#include "layer_views.h"
#include "move_rows.h"

/* The columns of `both` that are those of a tensor: the first half, or the second. */
static gdncp_tensor_t view_half(const float *both, const gdncp_tensor_t *like, bool second)
{
    const int64_t heads = like->shape[1];

    return gdncp_view_channels(like->device, (float *)both + (second ? heads : 0), GDNCP_F32,
                               like->shape[0], heads, 2 * heads);
}

static gdncp_status_t convert(const gdncp_tensor_t *src, const gdncp_tensor_t *dst,
                              gdncp_workspace_t *workspace)
{
    const gdncp_row_moves_t moves = {.src = *src, .dst = *dst, .count = dst->shape[0]};

    return gdncp_move_rows(&moves, workspace);
}

gdncp_status_t gdncp_gates_join(const gdncp_tensor_t *b, const gdncp_tensor_t *a, float *both,
                                gdncp_workspace_t *workspace)
{
    const gdncp_tensor_t first = view_half(both, b, false);
    const gdncp_tensor_t second = view_half(both, a, true);
    const gdncp_status_t status = convert(b, &first, workspace);

    return status == GDNCP_OK ? convert(a, &second, workspace) : status;
}

gdncp_status_t gdncp_gates_part(const float *both, const gdncp_tensor_t *b, const gdncp_tensor_t *a,
                                gdncp_workspace_t *workspace)
{
    const gdncp_tensor_t first = view_half(both, b, false);
    const gdncp_tensor_t second = view_half(both, a, true);
    const gdncp_status_t status = convert(&first, b, workspace);

    return status == GDNCP_OK ? convert(&second, a, workspace) : status;
}
