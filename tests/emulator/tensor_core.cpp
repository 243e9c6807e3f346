/* What a warp's shuffles and matrix instructions compute, from what its 32 lanes bring. Compiled
 * without sanitizers: it reads and writes what belongs to others while they wait. */
#include "kernel.h"

#include <cstring>

namespace gdncp_emulated
{

/* To the nearest, ties to even; a mantissa that is rounded up carries into the exponent. */
template <> f16 from_float<f16>(float x)
{
    const uint32_t bits = float_bits(x);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t size = bits & 0x7fffffff;

    if (size > 0x7f800000) {
        return {0x7fff};
    }
    if (size >= 0x477ff000) { /* 65520 and more */
        return {(uint16_t)(sign | 0x7c00)};
    }
    if (size < 0x38800000) { /* less than 2^-14: the sum leaves multiples of 2^-24 */
        return {(uint16_t)(sign | (float_bits(bits_float(size) + 0.5f) - float_bits(0.5f)))};
    }
    return {(uint16_t)(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13)};
}

namespace
{

using row8 = float __attribute__((vector_size(32)));
using word8 = uint32_t __attribute__((vector_size(32)));

template <typename T> T *of_lane(void *const *operands, int lane)
{
    return static_cast<T *>(operands[lane]);
}

/* Two neighbours of a row, as one element of a vector. */
using pair4 = uint64_t __attribute__((vector_size(32)));

uint64_t pair_at(const float *values)
{
    uint64_t pair;

    memcpy(&pair, values, sizeof pair);
    return pair;
}

/* d [16, 8]: each lane has two neighbours in row lane / 4, and two in row lane / 4 + 8. */
void gather_sums(void *const *operands, row8 d[16])
{
    for (int group = 0; group < 8; group++) {
        const float *own[4];

        for (int i = 0; i < 4; i++) {
            own[i] = of_lane<const mma_operand>(operands, 4 * group + i)->d;
        }
        const pair4 upper = {pair_at(own[0]), pair_at(own[1]), pair_at(own[2]), pair_at(own[3])};
        const pair4 lower = {pair_at(own[0] + 2), pair_at(own[1] + 2), pair_at(own[2] + 2),
                             pair_at(own[3] + 2)};

        d[group] = (row8)upper;
        d[group + 8] = (row8)lower;
    }
}

void scatter_sums(const row8 d[16], void *const *operands)
{
    for (int lane = 0; lane < 32; lane++) {
        float *const own = of_lane<mma_operand>(operands, lane)->d;
        const uint64_t upper = ((pair4)d[lane / 4])[lane % 4];
        const uint64_t lower = ((pair4)d[lane / 4 + 8])[lane % 4];

        memcpy(own, &upper, sizeof upper);
        memcpy(own + 2, &lower, sizeof lower);
    }
}

/* The elements of 8 registers, which hold two each, low half first. */
struct halves {
    row8 low;
    row8 high;
};

void split(bf16, const uint32_t *registers, halves *result)
{
    word8 words;

    memcpy(&words, registers, sizeof words);
    result->low = (row8)(words << 16);
    result->high = (row8)(words & 0xffff0000u);
}

/* As to_float(). */
void split(f16, const uint32_t *registers, halves *result)
{
    word8 words;

    memcpy(&words, registers, sizeof words);
    for (row8 *const half : {&result->low, &result->high}) {
        const word8 sign = (words & 0x8000u) << 16;
        const word8 size = (words & 0x7fffu) << 13;
        const word8 special = (word8)(size >= 0x0f800000u) & (0x70000000u | size);
        const word8 finite = (word8)(size < 0x0f800000u) & (word8)((row8)size * 0x1p112f);

        *half = (row8)(sign | special | finite);
        words >>= 16;
    }
}

/* A register of row i holds columns 2 j and 2 j + 1 of a; one of column i the same rows of b. The
 * products are exact in float32; sums in order of k. */
template <typename T> void mma_16_bit(void *const *operands)
{
    uint32_t a[16][8];
    uint32_t b[8][8];
    halves rows_of_b[8];
    row8 d[16];

    for (int lane = 0; lane < 32; lane++) {
        const mma_operand *const own = of_lane<const mma_operand>(operands, lane);
        const int group = lane / 4;
        const int pair = lane % 4;

        a[group][pair] = own->a[0];
        a[group + 8][pair] = own->a[1];
        a[group][pair + 4] = own->a[2];
        a[group + 8][pair + 4] = own->a[3];
        b[pair][group] = own->b[0];
        b[pair + 4][group] = own->b[1];
    }
    for (int j = 0; j < 8; j++) {
        split(T(), b[j], &rows_of_b[j]);
    }
    gather_sums(operands, d);
    for (int row = 0; row < 16; row++) {
        halves own;
        row8 sums = d[row];

        split(T(), a[row], &own);
        for (int j = 0; j < 8; j++) {
            sums += own.low[j] * rows_of_b[j].low;
            sums += own.high[j] * rows_of_b[j].high;
        }
        d[row] = sums;
    }
    scatter_sums(d, operands);
}

/* The bits below a tf32's mantissa are not seen. */
float tf32_of(uint32_t bits)
{
    return bits_float(bits & 0xffffe000u);
}

void exchange_rows(void *const *operands, bool transposed)
{
    for (int lane = 0; lane < 32; lane++) {
        const int first = lane / 4;
        const int second = 2 * (lane % 4);

        for (int matrix = 0; matrix < 4; matrix++) {
            const auto element = [=](int i, int j) -> uint32_t {
                const int row = transposed ? j : i;
                const int column = transposed ? i : j;

                return of_lane<const ldmatrix_operand>(operands, 8 * matrix + row)->row[column];
            };

            of_lane<ldmatrix_operand>(operands, lane)->r[matrix] =
                element(first, second) | element(first, second + 1) << 16;
        }
    }
}

} /* namespace */

void shuffle_lanes(void *const *operands)
{
    for (int lane = 0; lane < 32; lane++) {
        shuffle_operand *const own = of_lane<shuffle_operand>(operands, lane);

        own->result = of_lane<const shuffle_operand>(operands, own->source)->value;
    }
}

void ldmatrix_lanes(void *const *operands)
{
    exchange_rows(operands, false);
}

void ldmatrix_trans_lanes(void *const *operands)
{
    exchange_rows(operands, true);
}

void mma_bf16_lanes(void *const *operands)
{
    mma_16_bit<bf16>(operands);
}

void mma_f16_lanes(void *const *operands)
{
    mma_16_bit<f16>(operands);
}

/* Lane 4 i + k has a (i, k), (i + 8, k), (i, k + 4), (i + 8, k + 4), and b (k, i), (k + 4, i). */
void mma_tf32_lanes(void *const *operands)
{
    row8 b[8];
    row8 d[16];

    for (int lane = 0; lane < 32; lane++) {
        const uint32_t *const own = of_lane<const mma_operand>(operands, lane)->b;

        b[lane % 4][lane / 4] = tf32_of(own[0]);
        b[lane % 4 + 4][lane / 4] = tf32_of(own[1]);
    }
    gather_sums(operands, d);
    for (int group = 0; group < 8; group++) {
        row8 upper = d[group];
        row8 lower = d[group + 8];

        for (int k = 0; k < 8; k++) {
            const uint32_t *const own =
                of_lane<const mma_operand>(operands, 4 * group + k % 4)->a + k / 4 * 2;

            upper += tf32_of(own[0]) * b[k];
            lower += tf32_of(own[1]) * b[k];
        }
        d[group] = upper;
        d[group + 8] = lower;
    }
    scatter_sums(d, operands);
}

} /* namespace gdncp_emulated */
