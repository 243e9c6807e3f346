/* Element types: sizes, names, and conversion to and from float32. */
#include <string.h>

#include "error.h"
#include "gdncp/tensor.h"
#include "vector_clones.h"

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

GDNCP_ALWAYS_INLINE uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

GDNCP_ALWAYS_INLINE float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

GDNCP_ALWAYS_INLINE float bf16_to_f32(uint16_t value)
{
    return float_of((uint32_t)value << 16);
}

/* Round to nearest even; NaN stays NaN: cut off and made quiet, it is not changed by rounding. */
GDNCP_ALWAYS_INLINE uint16_t f32_to_bf16(float value)
{
    const uint32_t bits = bits_of(value);
    const uint32_t quiet_nan = (bits & 0xffff0000u) | 0x400000u;
    const uint32_t number = (bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : bits;

    return (uint16_t)((number + 0x7fffu + ((number >> 16) & 1u)) >> 16);
}

/* Both ways without branches, so that loops do several at once. */
GDNCP_ALWAYS_INLINE float f16_to_f32(uint16_t value)
{
    const uint32_t sign = (uint32_t)(value & 0x8000u) << 16;
    const uint32_t magnitude = value & 0x7fffu;
    /* Zero, or subnormal: a multiple of 2^-24. */
    const uint32_t small = bits_of((float)(int32_t)magnitude * 0x1p-24f);
    const uint32_t is_small = 0u - (magnitude < 0x400u);
    const uint32_t is_special = 0u - (magnitude >= 0x7c00u); /* infinite, or NaN */
    const uint32_t other = (magnitude << 13) + (112u << 23) + (is_special & (112u << 23));

    return float_of(sign | (small & is_small) | (other & ~is_small));
}

/* Round to nearest even; NaN stays NaN. */
GDNCP_ALWAYS_INLINE uint16_t f32_to_f16(float value)
{
    const uint32_t bits = bits_of(value) & 0x7fffffffu;
    const uint32_t sign = (bits_of(value) >> 16) & 0x8000u;
    const uint32_t nan = 0x7e00u | ((bits >> 13) & 0x3ffu);
    /* Subnormal. Floats in [1/2, 1) are 2^-24 apart: the sum is rounded as wanted. */
    const uint32_t tiny = 0x387fffffu; /* the largest below 2^-14 */
    const uint32_t small = bits_of(float_of(bits < tiny ? bits : tiny) + 0.5f) - 0x3f000000u;
    const uint32_t normal = ((bits + 0xfffu + ((bits >> 13) & 1u)) >> 13) - (112u << 10);
    const uint32_t halfway = 0x477ff000u; /* 65520, from the largest to what follows */

    return (uint16_t)(sign | (bits > 0x7f800000u ? nan
                              : bits >= halfway  ? 0x7c00u
                              : bits <= tiny     ? small
                                                 : normal));
}

GDNCP_VECTOR_CLONES
static void widen_bf16(const uint16_t *src, int64_t count, float *restrict dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = bf16_to_f32(src[i]);
    }
}

GDNCP_VECTOR_CLONES
static void narrow_bf16(const float *src, int64_t count, uint16_t *restrict dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = f32_to_bf16(src[i]);
    }
}

GDNCP_VECTOR_CLONES
static void widen_f16(const uint16_t *src, int64_t count, float *restrict dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = f16_to_f32(src[i]);
    }
}

GDNCP_VECTOR_CLONES
static void narrow_f16(const float *src, int64_t count, uint16_t *restrict dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] = f32_to_f16(src[i]);
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
        widen_f16(src, count, dst);
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
        narrow_bf16(src, count, dst);
        return GDNCP_OK;
    case GDNCP_F16:
        narrow_f16(src, count, dst);
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
