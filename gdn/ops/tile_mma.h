/*
 * Matrix products of one warp, in blocks of 16x16, at the precision that an operator asks for.
 *
 * T is the element type of the tensors that a kernel works on and picks the matrix instruction:
 * bf16 for bf16, tf32 for float and f16, whose values tf32 holds exactly. A number enters an
 * instruction as one piece, rounded to its format, or as two, high + low, which keep 16 bits of
 * a float for bf16 and 21 for tf32. Products of pieces are summed in float32, small ones first,
 * without low times low.
 *
 * All lanes hold the same elements of a block whatever T is: with q = lane() % 4 and
 * p = lane() / 4, element x[s][2h + e] of a tile (rows by columns) or of a left operand (rows by
 * depth) is (p + 8h, 8s + 2q + e), and that of a right operand (depth by columns) is
 * (8s + 2q + e, p + 8h). So a tile can be a left operand, and its transpose a right one, without
 * a move between lanes: the order of tf32's depth is permuted on both sides to that end.
 *
 * Matrices in shared memory have rows of ld elements. For what is read by ldmatrix (16-bit) ld is
 * a multiple of 8, and rows begin at different 16-byte banks where ld / 8 is odd. Rows of floats
 * meet no bank twice where ld % 32 is 8 or 24, if blocks are read along their rows, or 4 or 12 if
 * across; ld is even.
 */
#ifndef GDNCP_TILE_MMA_H
#define GDNCP_TILE_MMA_H

#include "kernel.h"

namespace GDNCP_KERNELS
{

constexpr int TILE = 16;

/* What elements of tensors of T are in shared memory, and the pieces that one is exactly. */
template <typename T> struct mma_format {
    using element = float;
    static constexpr int exact = 1;
};

template <> struct mma_format<bf16> {
    using element = bf16;
    static constexpr int exact = 1;
};

template <> struct mma_format<float> {
    using element = float;
    static constexpr int exact = 2;
};

template <typename T> using mma_element = typename mma_format<T>::element;

/* The row and the column of element x[s][2h + e] of the calling lane. */
GDNCP_FN int tile_row(int h)
{
    return lane() / 4 + 8 * h;
}

GDNCP_FN int tile_column(int s, int e = 0)
{
    return 8 * s + 2 * (lane() % 4) + e;
}

/* A block of sums. */
struct tile {
    float x[2][4];
};

GDNCP_FN void clear(tile &t)
{
    GDNCP_UNROLL
    for (int i = 0; i < 8; i++) {
        t.x[i / 4][i % 4] = 0.0f;
    }
}

/* Registers of a block as operand: per piece two 16x8 halves of the depth for a left one; per
 * piece two halves of the columns for a right one. */
template <typename T, int pieces> struct operand_a {
    uint32_t r[pieces][2][4];
};

template <typename T, int pieces> struct operand_b {
    uint32_t r[pieces][2][4];
};

template <int pieces> struct operand_a<bf16, pieces> {
    uint32_t r[pieces][4];
};

template <int pieces> struct operand_b<bf16, pieces> {
    uint32_t r[pieces][4];
};

/* Elements 2q, 2q+1 of half s of the depth, in row half h (left) or column half h (right). */
template <int pieces>
GDNCP_FN void set_pair(operand_a<bf16, pieces> &a, int s, int h, float x0, float x1)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        const bf16 low = from_float<bf16>(x0);
        const bf16 high = from_float<bf16>(x1);

        a.r[i][2 * s + h] = pack(low, high);
        x0 -= to_float(low);
        x1 -= to_float(high);
    }
}

template <int pieces>
GDNCP_FN void set_pair(operand_b<bf16, pieces> &b, int s, int h, float x0, float x1)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        const bf16 low = from_float<bf16>(x0);
        const bf16 high = from_float<bf16>(x1);

        b.r[i][2 * h + s] = pack(low, high);
        x0 -= to_float(low);
        x1 -= to_float(high);
    }
}

template <typename T, int pieces>
GDNCP_FN void set_pair(operand_a<T, pieces> &a, int s, int h, float x0, float x1)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        const uint32_t bits0 = to_tf32(x0);
        const uint32_t bits1 = to_tf32(x1);

        a.r[i][s][h] = bits0;
        a.r[i][s][h + 2] = bits1;
        x0 -= bits_float(bits0);
        x1 -= bits_float(bits1);
    }
}

template <typename T, int pieces>
GDNCP_FN void set_pair(operand_b<T, pieces> &b, int s, int h, float x0, float x1)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        const uint32_t bits0 = to_tf32(x0);
        const uint32_t bits1 = to_tf32(x1);

        b.r[i][h][2 * s] = bits0;
        b.r[i][h][2 * s + 1] = bits1;
        x0 -= bits_float(bits0);
        x1 -= bits_float(bits1);
    }
}

/* A tile as left operand, or its transpose as right operand. */
template <typename Operand> GDNCP_FN void set_operand(Operand &operand, const tile &t)
{
    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        set_pair(operand, i / 2, i % 2, t.x[i / 2][i % 2 * 2], t.x[i / 2][i % 2 * 2 + 1]);
    }
}

/* d += a b. */
template <int pieces_a, int pieces_b>
GDNCP_FN void mma(tile &d, const operand_a<bf16, pieces_a> &a, const operand_b<bf16, pieces_b> &b)
{
    GDNCP_UNROLL
    for (int n = 0; n < 2; n++) {
        if constexpr (pieces_a == 2) {
            mma_bf16(d.x[n], a.r[1], b.r[0] + 2 * n);
        }
        if constexpr (pieces_b == 2) {
            mma_bf16(d.x[n], a.r[0], b.r[1] + 2 * n);
        }
        mma_bf16(d.x[n], a.r[0], b.r[0] + 2 * n);
    }
}

template <typename T, int pieces_a, int pieces_b>
GDNCP_FN void mma(tile &d, const operand_a<T, pieces_a> &a, const operand_b<T, pieces_b> &b)
{
    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        const int n = i % 2;
        const int s = i / 2;

        if constexpr (pieces_a == 2) {
            mma_tf32(d.x[n], a.r[1][s], b.r[0][n] + 2 * s);
        }
        if constexpr (pieces_b == 2) {
            mma_tf32(d.x[n], a.r[0][s], b.r[1][n] + 2 * s);
        }
        mma_tf32(d.x[n], a.r[0][s], b.r[0][n] + 2 * s);
    }
}

/*
 * Loads of operands from shared memory: `source` is the block's first element.
 *
 * load_a:        a (row, depth)    = source[row * ld + depth]
 * load_a_across: a (row, depth)    = source[depth * ld + row]
 * load_b:        b (depth, column) = source[depth * ld + column]
 * load_b_across: b (depth, column) = source[column * ld + depth]
 *
 * From floats for every T, in one or two pieces. From bf16 for T = bf16: one plane gives one
 * piece; two pieces come from two planes, the second `plane` elements after the first.
 */
struct alignas(8) float_pair {
    float x[2];
};

/* An operand's elements come in pairs along its depth, which lies along the matrix's rows here. */
template <typename Operand>
GDNCP_FN void load_along_depth(Operand &operand, const float *source, int ld)
{
    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        const float *const place = source + tile_row(i % 2) * ld + tile_column(i / 2);
        const float_pair pair = *reinterpret_cast<const float_pair *>(place);

        set_pair(operand, i / 2, i % 2, pair.x[0], pair.x[1]);
    }
}

template <typename Operand>
GDNCP_FN void load_across_depth(Operand &operand, const float *source, int ld)
{
    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        const float *const place = source + tile_column(i / 2) * ld + tile_row(i % 2);

        set_pair(operand, i / 2, i % 2, place[0], place[ld]);
    }
}

template <typename T, int pieces>
GDNCP_FN void load_a(operand_a<T, pieces> &a, const float *source, int ld, int = 0)
{
    load_along_depth(a, source, ld);
}

template <typename T, int pieces>
GDNCP_FN void load_a_across(operand_a<T, pieces> &a, const float *source, int ld, int = 0)
{
    load_across_depth(a, source, ld);
}

template <typename T, int pieces>
GDNCP_FN void load_b(operand_b<T, pieces> &b, const float *source, int ld, int = 0)
{
    load_across_depth(b, source, ld);
}

template <typename T, int pieces>
GDNCP_FN void load_b_across(operand_b<T, pieces> &b, const float *source, int ld, int = 0)
{
    load_along_depth(b, source, ld);
}

/* The address of a lane for ldmatrix, where its matrices 0 to 3 go down first, or right first. */
GDNCP_FN const bf16 *down_first(const bf16 *source, int ld)
{
    return source + lane() % 16 * ld + lane() / 16 * 8;
}

GDNCP_FN const bf16 *right_first(const bf16 *source, int ld)
{
    return source + (lane() % 8 + lane() / 16 * 8) * ld + lane() / 8 % 2 * 8;
}

template <int pieces>
GDNCP_FN void load_a(operand_a<bf16, pieces> &a, const bf16 *source, int ld, int plane = 0)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        ldmatrix_x4(a.r[i], down_first(source + i * plane, ld));
    }
}

template <int pieces>
GDNCP_FN void load_a_across(operand_a<bf16, pieces> &a, const bf16 *source, int ld, int plane = 0)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        ldmatrix_x4_trans(a.r[i], right_first(source + i * plane, ld));
    }
}

template <int pieces>
GDNCP_FN void load_b(operand_b<bf16, pieces> &b, const bf16 *source, int ld, int plane = 0)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        ldmatrix_x4_trans(b.r[i], down_first(source + i * plane, ld));
    }
}

template <int pieces>
GDNCP_FN void load_b_across(operand_b<bf16, pieces> &b, const bf16 *source, int ld, int plane = 0)
{
    GDNCP_UNROLL
    for (int i = 0; i < pieces; i++) {
        ldmatrix_x4(b.r[i], right_first(source + i * plane, ld));
    }
}

/* t (row, column) = source[row * ld + column], or source[column * ld + row]. */
GDNCP_FN void load_tile(tile &t, const float *source, int ld)
{
    GDNCP_UNROLL
    for (int i = 0; i < 8; i++) {
        t.x[i / 4][i % 4] = source[tile_row(i / 2 % 2) * ld + tile_column(i / 4, i % 2)];
    }
}

GDNCP_FN void load_tile_across(tile &t, const float *source, int ld)
{
    GDNCP_UNROLL
    for (int i = 0; i < 8; i++) {
        t.x[i / 4][i % 4] = source[tile_column(i / 4, i % 2) * ld + tile_row(i / 2 % 2)];
    }
}

GDNCP_FN void unpack(tile &t, const uint32_t r[4])
{
    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        t.x[i / 2][i % 2 * 2] = bits_float(r[i] << 16);
        t.x[i / 2][i % 2 * 2 + 1] = bits_float(r[i] & 0xffff0000u);
    }
}

GDNCP_FN void load_tile(tile &t, const bf16 *source, int ld)
{
    uint32_t r[4];

    ldmatrix_x4(r, down_first(source, ld));
    unpack(t, r);
}

GDNCP_FN void load_tile_across(tile &t, const bf16 *source, int ld)
{
    uint32_t r[4];

    ldmatrix_x4_trans(r, right_first(source, ld));
    unpack(t, r);
}

/* target[row * ld + column] = t (row, column), in shared or global memory. */
template <typename Element> GDNCP_FN void store_tile(const tile &t, Element *target, int64_t ld)
{
    GDNCP_UNROLL
    for (int i = 0; i < 8; i++) {
        target[tile_row(i / 2 % 2) * ld + tile_column(i / 4, i % 2)] =
            from_float<Element>(t.x[i / 4][i % 4]);
    }
}

/* The pieces of t as load_a() and its like read them back in two pieces: target in one plane of
 * floats, or in two of bf16. Shared or global memory; pairs of elements are aligned to their size.
 */
GDNCP_FN void store_pieces(const tile &t, float *target, int ld, int)
{
    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        float *const place = target + tile_row(i % 2) * ld + tile_column(i / 2);

        *reinterpret_cast<float_pair *>(place) = {
            {t.x[i / 2][i % 2 * 2], t.x[i / 2][i % 2 * 2 + 1]}};
    }
}

GDNCP_FN void store_pieces(const tile &t, bf16 *target, int ld, int plane)
{
    operand_a<bf16, 2> pieces;

    set_operand(pieces, t);
    GDNCP_UNROLL
    for (int i = 0; i < 8; i++) {
        bf16 *const place = target + i / 4 * plane + tile_row(i % 2) * ld + tile_column(i / 2 % 2);

        *reinterpret_cast<uint32_t *>(place) = pieces.r[i / 4][i % 4];
    }
}

} /* namespace GDNCP_KERNELS */

#endif
