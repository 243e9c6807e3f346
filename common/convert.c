/* Element types: sizes, names, and conversion to and from float32. */
#include <string.h>

#include "convert_x86.h"
#include "error.h"
#include "gdncp/tensor.h"
#include "half.h"

static const struct {
    size_t size;
    const char *name;
} dtypes[] = {
    [GDNCP_F32] = {4, "f32"},         [GDNCP_BF16] = {2, "bf16"},       [GDNCP_F16] = {2, "f16"},
    [GDNCP_F64] = {8, "f64"},         [GDNCP_I8] = {1, "i8"},           [GDNCP_I16] = {2, "i16"},
    [GDNCP_I32] = {4, "i32"},         [GDNCP_I64] = {8, "i64"},         [GDNCP_U8] = {1, "u8"},
    [GDNCP_F8_E4M3] = {1, "f8_e4m3"}, [GDNCP_F8_E5M2] = {1, "f8_e5m2"},
};

static bool is_known(gdncp_dtype_t dtype)
{
    return (unsigned)dtype < sizeof dtypes / sizeof dtypes[0];
}

size_t gdncp_dtype_size(gdncp_dtype_t dtype)
{
    return is_known(dtype) ? dtypes[dtype].size : 0;
}

const char *gdncp_dtype_name(gdncp_dtype_t dtype)
{
    return is_known(dtype) ? dtypes[dtype].name : "?";
}

gdncp_tensor_t gdncp_tensor_contiguous(void *data, gdncp_dtype_t dtype, int ndim,
                                       const int64_t *shape)
{
    gdncp_tensor_t tensor = {.data = data, .dtype = dtype, .ndim = ndim};
    int64_t stride = 1;

    for (int i = ndim - 1; i >= 0; i--) {
        tensor.shape[i] = shape[i];
        tensor.strides[i] = stride;
        stride *= shape[i];
    }
    return tensor;
}

int64_t gdncp_tensor_num_elements(const gdncp_tensor_t *tensor)
{
    int64_t count = 1;

    for (int i = 0; i < tensor->ndim; i++) {
        count *= tensor->shape[i];
    }
    return count;
}

GDNCP_VECTOR_CLONES
static void widen_bf16(const uint16_t *src, int64_t count, float *dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = gdncp_bf16_to_f32(src[i]);
    }
}

GDNCP_VECTOR_CLONES
static void widen_f16(const uint16_t *src, int64_t count, float *dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = gdncp_f16_to_f32(src[i]);
    }
}

GDNCP_VECTOR_CLONES
static void narrow_bf16(const float *src, int64_t count, uint16_t *dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = gdncp_f32_to_bf16(src[i]);
    }
}

GDNCP_VECTOR_CLONES
static void narrow_f16(const float *src, int64_t count, uint16_t *dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = gdncp_f32_to_f16(src[i]);
    }
}

gdncp_status_t gdncp_convert_to_f32(gdncp_dtype_t dtype, const void *src, int64_t count, float *dst)
{
    switch (dtype) {
    case GDNCP_F32:
        if (src != dst) {
            memcpy(dst, src, (size_t)count * sizeof *dst);
        }
        return GDNCP_OK;
    case GDNCP_BF16:
        widen_bf16(src, count, dst);
        return GDNCP_OK;
    case GDNCP_F16:
        if (!gdncp_x86_widen_f16(src, count, dst)) {
            widen_f16(src, count, dst);
        }
        return GDNCP_OK;
    case GDNCP_F64:
        for (int64_t i = 0; i < count; i++) {
            dst[i] = (float)((const double *)src)[i];
        }
        return GDNCP_OK;
    default:
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "dtype: expected f32, bf16, f16 or f64, got %s", gdncp_dtype_name(dtype));
    }
}

gdncp_status_t gdncp_convert_from_f32(const float *src, int64_t count, gdncp_dtype_t dtype,
                                      void *dst)
{
    switch (dtype) {
    case GDNCP_F32:
        if (src != dst) {
            memcpy(dst, src, (size_t)count * sizeof *src);
        }
        return GDNCP_OK;
    case GDNCP_BF16:
        if (!gdncp_x86_narrow_bf16(src, count, dst)) {
            narrow_bf16(src, count, dst);
        }
        return GDNCP_OK;
    case GDNCP_F16:
        if (!gdncp_x86_narrow_f16(src, count, dst)) {
            narrow_f16(src, count, dst);
        }
        return GDNCP_OK;
    case GDNCP_F64:
        for (int64_t i = 0; i < count; i++) {
            ((double *)dst)[i] = src[i];
        }
        return GDNCP_OK;
    default:
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "dtype: expected f32, bf16, f16 or f64, got %s", gdncp_dtype_name(dtype));
    }
}
