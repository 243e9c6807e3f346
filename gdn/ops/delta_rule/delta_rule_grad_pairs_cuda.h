/*
 * From sums over the columns of v to gradients of the delta rule's inputs: what matrices over pairs
 * of tokens pass on, and the gradients of g and beta.
 */
#ifndef GDNCP_DELTA_RULE_GRAD_PAIRS_CUDA_H
#define GDNCP_DELTA_RULE_GRAD_PAIRS_CUDA_H

#include "delta_rule_grad_slices_cuda.h"

namespace GDNCP_KERNELS
{

/* Of sums over pairs; rows and columns of it are read by lanes side by side. */
constexpr int PREFIX_LD = CHUNK + 4;

/* What the gates of a value head are, of which the next head's arrive early. */
struct gates_shared {
    double sums[CHUNK];
    float rows[GATE_FLOATS];
};

/* Shared memory beside that of slices, or by panels with it: slices and a panel of K and Q take
 * turns. */
template <typename T, int DK, bool by_panels> struct inputs_shared {
    using element = mma_element<T>;
    static constexpr int key_ld =
        key_panel<DK, by_panels>::columns + slice_shared<T, DK, by_panels>::odd;
    static constexpr int pair_ld = CHUNK + 8;
    static constexpr int pair_plane = CHUNK * pair_ld;
    static constexpr int parts = grad_share<DK>::parts;

    /* Where the calling warp's rows and columns of k and q begin. */
    GDNCP_FN static int own_place()
    {
        constexpr int columns = key_panel<DK, by_panels>::tiles * TILE;

        return warp() / parts * TILE * key_ld + warp() % parts * columns;
    }

    inputs_item item;
    alignas(16) element k[CHUNK * key_ld]; /* as given; its gradient at the end */
    element q[CHUNK * key_ld];
    element grad_qk[chunk_records<T>::planes * pair_plane]; /* of qk' as given, where i >= j; P */
    element grad_kk[chunk_records<T>::planes * pair_plane]; /* of kk' as given, where i > j */
    gates_shared gates[2];                                  /* of heads by turns */
    float factors[2 * CHUNK];                               /* r_k, r_q */
    float dots_q[parts][CHUNK];                             /* q_i . S0 dO_i */
    float dots_k[parts][CHUNK];                             /* k_i . S0 dR_i */
    float dots_end[parts][CHUNK];                           /* k_i . dS U_i */
    float dots_beta[parts][CHUNK];                          /* of rows of A and dR U' */
    float dots_values[CHUNK];                               /* V_i . dR_i */
    float of_start[CHUNK];                                  /* what e^G_i receives, times it */
    float of_end[CHUNK];                    /* what e^(G_C - G_i) receives, likewise */
    float of_states[grad_share<DK>::warps]; /* parts of <dS, S0> */
};

/* The sum over the four lanes that share rows of a tile. */
GDNCP_FN float sum_of_row(float value)
{
    value += shuffle_xor(value, 1);
    return value + shuffle_xor(value, 2);
}

/* dot += what this lane has of the products of rows of x and of tiles. */
template <int tiles, typename Element>
GDNCP_FN void add_row_dots(const Element *x, int ld, const tile *sums, float dot[2])
{
    GDNCP_UNROLL
    for (int n = 0; n < tiles; n++) {
        tile part;

        load_tile(part, x + n * TILE, ld);
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            dot[i / 2 % 2] = fmaf(part.x[i / 4][i % 4], sums[n].x[i / 4][i % 4], dot[i / 2 % 2]);
        }
    }
}

/* dots[row] = the sum of what its lanes have. */
GDNCP_FN void write_row_dots(const float dot[2], float *dots)
{
    GDNCP_UNROLL
    for (int h = 0; h < 2; h++) {
        const float sum = sum_of_row(dot[h]);

        if (lane() % 4 == 0) {
            dots[tile_row(h)] = sum;
        }
    }
}

/*
 * From dO U' and dR U': E and F, for the products to come, and what the gradients of g and beta
 * take from pairs. On entry grad_qk holds P and prefix A, whose places E and what each decay
 * receives, times that decay, take.
 */
template <typename T, int DK, bool by_panels>
GDNCP_FN void grad_pairs(float scale, const gates_shared &gates,
                         const slice_sums<DK, by_panels> &sums,
                         inputs_shared<T, DK, by_panels> &shared, float *prefix)
{
    using layout = inputs_shared<T, DK, by_panels>;
    using share = grad_share<DK>;
    const int row = warp() / share::parts * TILE;
    const int part = warp() % share::parts;
    float dot[2] = {0.0f, 0.0f};

    GDNCP_UNROLL
    for (int n = 0; n < share::pair_tiles; n++) {
        const int column = (part * share::pair_tiles + n) * TILE;
        const int corner = row * layout::pair_ld + column;
        tile grad_qk;
        tile grad_kk;

        if (column > row) {
            continue;
        }
        GDNCP_UNROLL
        for (int x = 0; x < 8; x++) {
            const int h = x / 2 % 2;
            const int i = row + tile_row(h);
            const int j = column + tile_column(x / 4, x % 2);
            const float p =
                record_value(shared.grad_qk + i * layout::pair_ld + j, layout::pair_plane);
            const float a = prefix[i * PREFIX_LD + j];
            const float grad_p = sums.dots_u[n].x[x / 4][x % 4];
            const float grad_a = -gates.rows[BETA * CHUNK + i] * sums.dots_ru[n].x[x / 4][x % 4];
            const float decay = expf((float)(gates.sums[i] - gates.sums[j])) * shared.factors[j];

            /* Selected, not multiplied by zero: above the diagonal a decay may be infinite. */
            grad_qk.x[x / 4][x % 4] =
                i >= j ? scale * decay * shared.factors[CHUNK + i] * grad_p : 0.0f;
            grad_kk.x[x / 4][x % 4] = i > j ? decay * shared.factors[i] * grad_a : 0.0f;
            prefix[i * PREFIX_LD + j] = fmaf(grad_p, p, grad_a * a);
            dot[h] = fmaf(sums.dots_ru[n].x[x / 4][x % 4], a, dot[h]);
        }
        store_pieces(grad_qk, shared.grad_qk + corner, layout::pair_ld, layout::pair_plane);
        store_pieces(grad_kk, shared.grad_kk + corner, layout::pair_ld, layout::pair_plane);
    }
    write_row_dots(dot, shared.dots_beta[part] + row);
}

/* A row of prefix: at t its sum over j < t, which is wanted up to the diagonal and means nothing
 * beyond. A lane has two tokens. */
GDNCP_FN void sum_along_row(float *row)
{
    const int token = 2 * lane();
    const float first = row[token];
    const float second = row[token + 1];
    float sum = first + second;

    GDNCP_UNROLL
    for (int distance = 1; distance < WARP; distance *= 2) {
        const float below = shuffle_up(sum, distance);

        sum += lane() >= distance ? below : 0.0f;
    }
    const float below = shuffle_up(sum, 1);
    const float left = lane() > 0 ? below : 0.0f;

    sync_warp();
    row[token] = left;
    row[token + 1] = left + first;
}

/* grad_q += E K, grad_k += E' Q + (F + F') K, of the panel's columns. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void add_pair_terms(const inputs_shared<T, DK, by_panels> &shared, tile *grad_q,
                             tile *grad_k)
{
    using layout = inputs_shared<T, DK, by_panels>;
    using share = grad_share<DK>;
    constexpr int exact = mma_format<T>::exact;
    constexpr int tiles = key_panel<DK, by_panels>::tiles;
    const int row = warp() / share::parts;
    const int column = warp() % share::parts * tiles * TILE;
    operand_a<T, 2> of_qk;
    operand_a<T, 2> of_kk;
    operand_b<T, exact> b;

    for (int j = 0; j <= row; j++) {
        const int corner = (row * layout::pair_ld + j) * TILE;
        const int keys = j * TILE * layout::key_ld + column;

        load_a(of_qk, shared.grad_qk + corner, layout::pair_ld, layout::pair_plane);
        load_a(of_kk, shared.grad_kk + corner, layout::pair_ld, layout::pair_plane);
        GDNCP_UNROLL
        for (int n = 0; n < tiles; n++) {
            load_b(b, shared.k + keys + n * TILE, layout::key_ld);
            mma(grad_q[n], of_qk, b);
            mma(grad_k[n], of_kk, b);
        }
    }
    for (int i = row; i < CHUNK_TILES; i++) {
        const int corner = (i * layout::pair_ld + row) * TILE;
        const int keys = i * TILE * layout::key_ld + column;

        load_a_across(of_qk, shared.grad_qk + corner, layout::pair_ld, layout::pair_plane);
        load_a_across(of_kk, shared.grad_kk + corner, layout::pair_ld, layout::pair_plane);
        GDNCP_UNROLL
        for (int n = 0; n < tiles; n++) {
            load_b(b, shared.q + keys + n * TILE, layout::key_ld);
            mma(grad_k[n], of_qk, b);
            load_b(b, shared.k + keys + n * TILE, layout::key_ld);
            mma(grad_k[n], of_kk, b);
        }
    }
}

/* What a token's decays receive; returns the gradient of its beta. */
template <typename T, int DK, bool by_panels>
GDNCP_FN float finish_token(const gates_shared &gates, int token,
                            inputs_shared<T, DK, by_panels> &shared)
{
    float of_q = 0.0f;
    float of_k = 0.0f;
    float of_end = 0.0f;
    float of_beta = 0.0f;

    for (int i = 0; i < grad_share<DK>::parts; i++) {
        of_q += shared.dots_q[i][token];
        of_k += shared.dots_k[i][token];
        of_end += shared.dots_end[i][token];
        of_beta += shared.dots_beta[i][token];
    }
    of_k *= gates.rows[FROM_START * CHUNK + token];
    shared.of_start[token] =
        gates.rows[OUT * CHUNK + token] * of_q - gates.rows[BETA * CHUNK + token] * of_k;
    shared.of_end[token] = gates.rows[TO_END * CHUNK + token] * of_end;
    return shared.dots_values[token] - of_k - of_beta;
}

/* The gradient of a token's g, by the threads of the token: what all decays that contain g receive,
 * times the decay. */
template <typename T, int DK, bool by_panels>
GDNCP_FN float grad_of_gate(const gates_shared &gates,
                            const inputs_shared<T, DK, by_panels> &shared, const float *prefix)
{
    constexpr int token_threads = grad_share<DK>::token_threads;
    const int token = thread_index() / token_threads;
    float sum = 0.0f;
    float states = 0.0f;

    for (int i = token + thread_index() % token_threads; i < CHUNK; i += token_threads) {
        sum += prefix[i * PREFIX_LD + token] + shared.of_start[i];
    }
    for (int j = thread_index() % token_threads; j < token; j += token_threads) {
        sum += shared.of_end[j];
    }
    GDNCP_UNROLL
    for (int mask = 1; mask < token_threads; mask *= 2) {
        sum += shuffle_xor(sum, mask);
    }
    for (int i = 0; i < grad_share<DK>::warps; i++) {
        states += shared.of_states[i];
    }
    return fmaf(gates.rows[GATE_TOTAL], states, sum);
}

} /* namespace GDNCP_KERNELS */

#endif
