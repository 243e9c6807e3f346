/* What a warp's matrix instructions compute, from the registers of its 32 lanes. */
#include "kernel.h"

#include <cmath>

namespace gdncp_emulated
{

float to_float(f16 x)
{
    const int exponent = x.bits >> 10 & 31;
    const int mantissa = x.bits & 1023;
    const float sign = x.bits >> 15 ? -1.0f : 1.0f;

    if (exponent == 31) {
        return mantissa != 0 ? NAN : sign * INFINITY;
    }
    return sign * (exponent == 0 ? std::ldexp((float)mantissa, -24)
                                 : std::ldexp((float)(mantissa + 1024), exponent - 25));
}

template <> f16 from_float<f16>(float x)
{
    const uint16_t sign = (uint16_t)(std::signbit(x) ? 0x8000 : 0);
    const float size = std::fabs(x);

    if (std::isnan(x)) {
        return {(uint16_t)(sign | 0x7e00)};
    }
    if (size >= 65520.0f) {
        return {(uint16_t)(sign | 0x7c00)};
    }
    if (size < 0x1p-14f) {
        return {(uint16_t)(sign | (uint16_t)std::nearbyint(std::ldexp(size, 24)))};
    }
    int exponent;
    const float fraction = std::frexp(size, &exponent); /* 0.5 <= fraction < 1 */
    const int mantissa = (int)std::nearbyint(std::ldexp(fraction, 11));

    /* A mantissa rounded up to 2048 carries into the exponent. */
    return {(uint16_t)(sign | (uint16_t)(((exponent + 13) << 10) + mantissa))};
}

namespace
{

ldmatrix_operand *row_of(void *const *operands, int lane)
{
    return static_cast<ldmatrix_operand *>(operands[lane]);
}

uint16_t element(void *const *operands, int matrix, int row, int column)
{
    return row_of(operands, 8 * matrix + row)->row[column];
}

/* 16-bit operands: registers of two elements, low half first. */
template <typename T> float half_of(uint32_t reg, int half)
{
    return to_float(T{(uint16_t)(half == 0 ? reg & 0xffff : reg >> 16)});
}

const mma_operand *lane_of(void *const *operands, int lane)
{
    return static_cast<const mma_operand *>(operands[lane]);
}

/* d += a b, products exact, sums in float32 in order of k. */
template <int depth>
void multiply(void *const *operands, const float a[16][16], const float b[16][8])
{
    for (int lane = 0; lane < 32; lane++) {
        float *const d = lane_of(operands, lane)->d;

        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + 8 * (i / 2);
            const int column = 2 * (lane % 4) + i % 2;
            float sum = d[i];

            for (int k = 0; k < depth; k++) {
                sum += a[row][k] * b[k][column];
            }
            d[i] = sum;
        }
    }
}

template <typename T> void mma_16_bit(void *const *operands)
{
    float a[16][16];
    float b[16][8];

    for (int lane = 0; lane < 32; lane++) {
        const mma_operand *const own = lane_of(operands, lane);
        const int group = lane / 4;
        const int pair = 2 * (lane % 4);

        for (int half = 0; half < 2; half++) {
            a[group][pair + half] = half_of<T>(own->a[0], half);
            a[group + 8][pair + half] = half_of<T>(own->a[1], half);
            a[group][pair + half + 8] = half_of<T>(own->a[2], half);
            a[group + 8][pair + half + 8] = half_of<T>(own->a[3], half);
            b[pair + half][group] = half_of<T>(own->b[0], half);
            b[pair + half + 8][group] = half_of<T>(own->b[1], half);
        }
    }
    multiply<16>(operands, a, b);
}

/* The bits below a tf32's mantissa are not seen. */
float tf32_of(uint32_t bits)
{
    return bits_float(bits & 0xffffe000u);
}

} /* namespace */

void ldmatrix_lanes(void *const *operands)
{
    for (int lane = 0; lane < 32; lane++) {
        for (int matrix = 0; matrix < 4; matrix++) {
            const int column = 2 * (lane % 4);

            row_of(operands, lane)->r[matrix] =
                (uint32_t)element(operands, matrix, lane / 4, column) |
                (uint32_t)element(operands, matrix, lane / 4, column + 1) << 16;
        }
    }
}

void ldmatrix_trans_lanes(void *const *operands)
{
    for (int lane = 0; lane < 32; lane++) {
        for (int matrix = 0; matrix < 4; matrix++) {
            const int row = 2 * (lane % 4);

            row_of(operands, lane)->r[matrix] =
                (uint32_t)element(operands, matrix, row, lane / 4) |
                (uint32_t)element(operands, matrix, row + 1, lane / 4) << 16;
        }
    }
}

void mma_bf16_lanes(void *const *operands)
{
    mma_16_bit<bf16>(operands);
}

void mma_f16_lanes(void *const *operands)
{
    mma_16_bit<f16>(operands);
}

void mma_tf32_lanes(void *const *operands)
{
    float a[16][16];
    float b[16][8];

    for (int lane = 0; lane < 32; lane++) {
        const mma_operand *const own = lane_of(operands, lane);
        const int group = lane / 4;
        const int k = lane % 4;

        a[group][k] = tf32_of(own->a[0]);
        a[group + 8][k] = tf32_of(own->a[1]);
        a[group][k + 4] = tf32_of(own->a[2]);
        a[group + 8][k + 4] = tf32_of(own->a[3]);
        b[k][group] = tf32_of(own->b[0]);
        b[k + 4][group] = tf32_of(own->b[1]);
    }
    multiply<8>(operands, a, b);
}

} /* namespace gdncp_emulated */
