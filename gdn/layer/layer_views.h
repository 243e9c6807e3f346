/* Views of a rank's token buffers as the operators want them. */
#ifndef GDNCP_LAYER_VIEWS_H
#define GDNCP_LAYER_VIEWS_H

#include "gdncp/ops.h"
#include "gdncp/tensor.h"
#include "op_scratch.h"

/* The address of element `index` of a buffer. */
static inline void *gdncp_view_at(void *data, gdncp_dtype_t dtype, int64_t index)
{
    return data == NULL ? NULL : (char *)data + index * (int64_t)gdncp_dtype_size(dtype);
}

/* Room for elements of any dtype in an arena of floats. */
static inline void *gdncp_arena_elements(gdncp_arena_t *arena, gdncp_dtype_t dtype, int64_t count)
{
    const int64_t bytes = count * (int64_t)gdncp_dtype_size(dtype);

    return gdncp_arena_floats(arena, (bytes + 3) / 4);
}

/* Memory of a device, row-major. */
static inline gdncp_tensor_t gdncp_view_contiguous(gdncp_device_kind_t device, void *data,
                                                   gdncp_dtype_t dtype, int ndim,
                                                   const int64_t *shape)
{
    gdncp_tensor_t view = gdncp_tensor_contiguous(data, dtype, ndim, shape);

    view.device = device;
    return view;
}

/* [tokens, channels], token_stride elements from token to token. */
static inline gdncp_tensor_t gdncp_view_channels(gdncp_device_kind_t device, void *data,
                                                 gdncp_dtype_t dtype, int64_t tokens,
                                                 int64_t channels, int64_t token_stride)
{
    const int64_t shape[] = {tokens, channels};
    gdncp_tensor_t view = gdncp_view_contiguous(device, data, dtype, 2, shape);

    view.strides[0] = token_stride;
    return view;
}

/* [tokens, heads, dim], token_stride elements from token to token. */
static inline gdncp_tensor_t gdncp_view_heads(gdncp_device_kind_t device, void *data,
                                              gdncp_dtype_t dtype, int64_t tokens, int64_t heads,
                                              int64_t dim, int64_t token_stride)
{
    const int64_t shape[] = {tokens, heads, dim};
    gdncp_tensor_t view = gdncp_view_contiguous(device, data, dtype, 3, shape);

    view.strides[0] = token_stride;
    return view;
}

/* [count] */
static inline gdncp_tensor_t gdncp_view_vector(gdncp_device_kind_t device, void *data,
                                               gdncp_dtype_t dtype, int64_t count)
{
    return gdncp_view_contiguous(device, data, dtype, 1, &count);
}

/* [count, heads, rows, columns] float32 */
/* States that a forward of the rule leaves for a backward. */
static inline int64_t gdncp_num_saved_states(gdncp_device_kind_t device, int64_t num_tokens)
{
    return device == GDNCP_DEVICE_CPU ? num_tokens / GDNCP_SAVED_STATE_TOKENS : 0;
}

static inline gdncp_tensor_t gdncp_view_states(gdncp_device_kind_t device, float *data,
                                               int64_t count, int64_t heads, int64_t rows,
                                               int64_t columns)
{
    const int64_t shape[] = {count, heads, rows, columns};

    return gdncp_view_contiguous(device, data, GDNCP_F32, 4, shape);
}

#endif
