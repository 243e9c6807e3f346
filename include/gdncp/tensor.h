/**
 * @file
 * Element types, devices, and the small struct that describes a tensor.
 */
#ifndef GDNCP_TENSOR_H
#define GDNCP_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/**
 * Element types. Plans move every one; operators compute on F32, BF16, F16.
 *
 * Those after F64 are opaque: moved, loaded and saved as they are, but never added, converted or
 * computed on. U8 also carries masks.
 */
typedef enum gdncp_dtype {
    GDNCP_F32 = 0,
    GDNCP_BF16,
    GDNCP_F16,
    GDNCP_F64,
    GDNCP_I8,
    GDNCP_I16,
    GDNCP_I32,
    GDNCP_I64,
    GDNCP_U8,
    GDNCP_F8_E4M3,
    GDNCP_F8_E5M2
} gdncp_dtype_t;

typedef enum gdncp_device_kind { GDNCP_DEVICE_CPU = 0, GDNCP_DEVICE_CUDA } gdncp_device_kind_t;

/** A CUDA stream (cudaStream_t), or NULL: the default stream, and always on a CPU. */
typedef void *gdncp_stream_t;

#define GDNCP_MAX_DIMS 5

/**
 * A view of memory that the caller owns.
 *
 * data == NULL means "absent" wherever a tensor is optional.
 * Strides count elements, not bytes.
 */
typedef struct gdncp_tensor {
    void *data;
    gdncp_dtype_t dtype;
    gdncp_device_kind_t device;
    int ndim;
    int64_t shape[GDNCP_MAX_DIMS];
    int64_t strides[GDNCP_MAX_DIMS];
} gdncp_tensor_t;

/** Bytes of one element: 1, 2, 4 or 8; 0 for a value outside the enum. */
GDNCP_API size_t gdncp_dtype_size(gdncp_dtype_t dtype);

/** "f32", "bf16", …; "?" for a value outside the enum. Static storage. */
GDNCP_API const char *gdncp_dtype_name(gdncp_dtype_t dtype);

/** A CPU tensor over @p data with row-major, contiguous strides. ndim <= GDNCP_MAX_DIMS. */
GDNCP_API gdncp_tensor_t gdncp_tensor_contiguous(void *data, gdncp_dtype_t dtype, int ndim,
                                                 const int64_t *shape);

/** Number of elements (the product of the shape; 1 when ndim is 0). */
GDNCP_API int64_t gdncp_tensor_num_elements(const gdncp_tensor_t *tensor);

/**
 * Convert @p count elements from F32, BF16, F16 or F64 to float32.
 * Overlap of @p src and @p dst is allowed only where src == dst and dtype is F32.
 */
GDNCP_API gdncp_status_t gdncp_convert_to_f32(gdncp_dtype_t dtype, const void *src, int64_t count,
                                              float *dst);

/** Convert @p count float32 elements to F32, BF16, F16 or F64, rounding to nearest even. */
GDNCP_API gdncp_status_t gdncp_convert_from_f32(const float *src, int64_t count,
                                                gdncp_dtype_t dtype, void *dst);

GDNCP_END_DECLS

#endif
