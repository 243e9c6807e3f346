/* Tokens of a padded pack: out of a caller's buffers, and back with zeros between them. */
#include "padding.h"

#include <assert.h>

#include "error.h"
#include "gdncp/device.h"
#include "layer_views.h"
#include "move_rows.h"

enum { MAX_TENSORS = 16, ALIGNMENT = 64 };

static bool is_on_this_rank(const gdncp_padding_t *padding)
{
    return padding->num_bare_tokens < padding->num_tokens;
}

static gdncp_status_t list_rows(const gdncp_layout_t *layout, int rank, gdncp_stream_t stream,
                                gdncp_padding_t *padding)
{
    int64_t num_segments;
    const gdncp_segment_t *const segments = gdncp_layout_rank_segments(layout, rank, &num_segments);
    int64_t bare = 0;
    gdncp_status_t status =
        gdncp_device_list_create(padding->device, padding->num_bare_tokens, &padding->padded_rows);

    if (status == GDNCP_OK) {
        status =
            gdncp_device_list_create(padding->device, padding->num_tokens, &padding->bare_rows);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t s = 0; s < num_segments; s++) {
        const int64_t first = segments[s].local_offset;

        for (int64_t row = first; row < first + segments[s].length; row++) {
            padding->bare_rows.host[row] = segments[s].is_padding ? -1 : bare;
            if (!segments[s].is_padding) {
                padding->padded_rows.host[bare++] = row;
            }
        }
    }
    status = gdncp_device_list_upload(&padding->padded_rows, stream);
    return status == GDNCP_OK ? gdncp_device_list_upload(&padding->bare_rows, stream) : status;
}

gdncp_status_t gdncp_padding_create(const gdncp_layout_t *layout, int rank, int64_t row_bytes,
                                    gdncp_device_kind_t device, gdncp_stream_t stream,
                                    gdncp_padding_t *padding)
{
    const int64_t num_tokens = gdncp_layout_rank_tokens(layout, rank);
    gdncp_status_t status;

    *padding = (gdncp_padding_t){
        .num_tokens = num_tokens, .num_bare_tokens = num_tokens, .device = device};
    if (!gdncp_layout_has_padding(layout)) {
        return GDNCP_OK;
    }
    status = gdncp_layout_without_padding(layout, &padding->bare);
    if (status != GDNCP_OK) {
        return status;
    }
    padding->num_bare_tokens = gdncp_layout_rank_tokens(padding->bare, rank);
    if (!is_on_this_rank(padding)) {
        return GDNCP_OK;
    }
    status = list_rows(layout, rank, stream, padding);
    if (status == GDNCP_OK) {
        status = gdncp_workspace_create_on(device, stream, &padding->workspace);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    padding->memory_bytes =
        (size_t)(padding->num_bare_tokens * row_bytes) + (size_t)MAX_TENSORS * ALIGNMENT;
    return gdncp_device_alloc(device, padding->memory_bytes, &padding->memory);
}

/* [rows, columns] of a tensor [rows, ...]. */
static gdncp_tensor_t as_matrix(const gdncp_tensor_t *tensor)
{
    int64_t columns = 1;

    for (int i = 1; i < tensor->ndim; i++) {
        columns *= tensor->shape[i];
    }
    return gdncp_view_channels(tensor->device, tensor->data, tensor->dtype, tensor->shape[0],
                               columns, tensor->strides[0]);
}

/* A tensor of as many rows as there are without padding, like that of the caller. */
static gdncp_tensor_t take_bare(const gdncp_padding_t *padding, const gdncp_tensor_t *like,
                                gdncp_arena_t *arena)
{
    const int64_t elements = as_matrix(like).shape[1] * padding->num_bare_tokens;
    gdncp_tensor_t bare =
        gdncp_view_contiguous(padding->device, gdncp_arena_elements(arena, like->dtype, elements),
                              like->dtype, like->ndim, like->shape);

    bare.shape[0] = padding->num_bare_tokens;
    return bare;
}

/* dst [count, ...] = rows of src, or zeros, as the list says. */
static gdncp_status_t move_rows(const gdncp_padding_t *padding, const gdncp_tensor_t *src,
                                const gdncp_device_list_t *from, const gdncp_tensor_t *dst,
                                int64_t count)
{
    const gdncp_row_moves_t moves = {
        .src = as_matrix(src), .dst = as_matrix(dst), .from = from, .count = count};

    return gdncp_move_rows(&moves, padding->workspace);
}

gdncp_status_t gdncp_padding_enter(const gdncp_padding_t *padding,
                                   const gdncp_padded_tensor_t *tensors, int count)
{
    gdncp_arena_t arena = {.block = padding->memory};
    gdncp_status_t status = GDNCP_OK;

    assert(count <= MAX_TENSORS);
    for (int i = 0; i < count && status == GDNCP_OK; i++) {
        if (!is_on_this_rank(padding)) {
            *tensors[i].bare = *tensors[i].padded;
            continue;
        }
        *tensors[i].bare = take_bare(padding, tensors[i].padded, &arena);
        assert(arena.used <= padding->memory_bytes);
        if (!tensors[i].is_written) {
            status = move_rows(padding, tensors[i].padded, &padding->padded_rows, tensors[i].bare,
                               padding->num_bare_tokens);
        }
    }
    return status;
}

gdncp_status_t gdncp_padding_leave(const gdncp_padding_t *padding,
                                   const gdncp_padded_tensor_t *tensors, int count)
{
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < count && is_on_this_rank(padding) && status == GDNCP_OK; i++) {
        if (tensors[i].is_written) {
            status = move_rows(padding, tensors[i].bare, &padding->bare_rows, tensors[i].padded,
                               padding->num_tokens);
        }
    }
    return status;
}

void gdncp_padding_destroy(gdncp_padding_t *padding)
{
    gdncp_layout_destroy(padding->bare);
    gdncp_device_list_destroy(&padding->padded_rows);
    gdncp_device_list_destroy(&padding->bare_rows);
    gdncp_workspace_destroy(padding->workspace);
    gdncp_device_free(padding->device, padding->memory);
}
