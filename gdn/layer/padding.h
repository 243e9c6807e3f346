/*
 * Padded packs. A level of the layer works on the layout without padding, and on buffers without
 * it: a caller's tensors are copied on the way in and out. So no operator, plan or sum ever sees a
 * token of padding, whatever it holds, and results have the bits that they have without it. Where a
 * rank holds no padding, its tensors are used as they are.
 */
#ifndef GDNCP_LAYER_PADDING_H
#define GDNCP_LAYER_PADDING_H

#include <stdbool.h>

#include "device_list.h"
#include "gdncp/layout.h"
#include "gdncp/memory.h"
#include "gdncp/tensor.h"

/* All zero is one that was never made. */
typedef struct gdncp_padding {
    int64_t num_tokens;      /* of a caller's buffers */
    int64_t num_bare_tokens; /* without padding */
    gdncp_layout_t *bare;    /* the layout without padding; NULL where it has none */
    /* What follows is made where this rank holds padding. */
    gdncp_device_kind_t device;
    gdncp_device_list_t padded_rows; /* [num_bare_tokens] where a token is in a caller's buffer */
    gdncp_device_list_t bare_rows; /* [num_tokens] where it is without padding; -1: it is padding */
    gdncp_workspace_t *workspace;
    void *memory; /* a call's tensors without padding */
    size_t memory_bytes;
} gdncp_padding_t;

/* A tensor of one call, [tokens, ...], whose rows have no gaps inside. */
typedef struct gdncp_padded_tensor {
    const gdncp_tensor_t *padded; /* the caller's */
    gdncp_tensor_t *bare;         /* set by enter(): the tokens without padding */
    bool is_written;              /* else it is read */
} gdncp_padded_tensor_t;

/*
 * Zero *padding first; on an error gdncp_padding_destroy() frees what there is.
 * row_bytes: bytes of a token in all tensors of the call that has most.
 */
gdncp_status_t gdncp_padding_create(const gdncp_layout_t *layout, int rank, int64_t row_bytes,
                                    gdncp_device_kind_t device, gdncp_stream_t stream,
                                    gdncp_padding_t *padding);

/* The layout to work on. */
static inline const gdncp_layout_t *gdncp_padding_layout(const gdncp_padding_t *padding,
                                                         const gdncp_layout_t *layout)
{
    return padding->bare != NULL ? padding->bare : layout;
}

/* Set all bare tensors, and fill those that are read. They hold until the next enter(). */
gdncp_status_t gdncp_padding_enter(const gdncp_padding_t *padding,
                                   const gdncp_padded_tensor_t *tensors, int count);

/* Copy what was written to the caller's tensors, and zeros to their padding. */
gdncp_status_t gdncp_padding_leave(const gdncp_padding_t *padding,
                                   const gdncp_padded_tensor_t *tensors, int count);

void gdncp_padding_destroy(gdncp_padding_t *padding);

#endif
