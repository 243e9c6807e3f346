/*
 * States at the borders between pieces of sequences, so that pieces can be walked at once: the map
 * of each piece, then along each sequence S <- M S + U.
 */
#include "delta_rule_launch_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

/* Chunks that a piece has at least. */
constexpr int64_t SHORTEST_PIECE = 8;

/* A sequence is cut where it is longer than this many pieces. */
constexpr int64_t FEWEST_PIECES = 6;

/* What keeps a multiprocessor busy: two for each of its four parts. */
constexpr int WARPS_OF_MULTIPROCESSOR = 8;

constexpr int PANEL = 64; /* rows of M in shared memory at once */
constexpr int PANEL_TILES = PANEL / TILE;

struct border_chain {
    rule_pack pack;
    window_pieces pieces;
    state_starts starts;
    border_scratch borders;
    int num_heads;
    int dk;
    int dv;
};

/* next' = S' M' + U' for rows first_row .. of M, in shared memory, and of the next state. */
template <int DK> GDNCP_FN void multiply_panel(const tile *state, const float *panel, tile *next)
{
    constexpr int ld = DK + 8;

    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        operand_a<float, 2> left;

        set_operand(left, state[n]);
        GDNCP_UNROLL
        for (int t = 0; t < PANEL_TILES; t++) {
            operand_b<float, 2> right;

            load_b_across(right, panel + t * TILE * ld + n * TILE, ld);
            mma(next[t], left, right);
        }
    }
}

/* One step: target [dk, width] = M S + U, a warp for each 16 columns. */
template <int DK>
GDNCP_FN void step(const tile *state, const float *transition, const state_columns &columns, int dk)
{
    float *const panel = reinterpret_cast<float *>(shared_memory()); /* [PANEL, DK + 8] */

    for (int first_row = 0; first_row < dk; first_row += PANEL) {
        const int rows = dk - first_row < PANEL ? dk - first_row : PANEL;
        state_columns part = columns;
        tile next[PANEL_TILES];

        copy_rows(panel, DK + 8, DK, transition + (int64_t)first_row * dk, dk, 0, dk, rows,
                  dk % 4 == 0);
        cp_async_commit();
        part.source += (int64_t)first_row * columns.width;
        part.target += (int64_t)first_row * columns.width;
        load_state<PANEL>(next, part, rows);
        cp_async_wait<0>();
        sync_block();
        multiply_panel<DK>(state, panel, next);
        store_state<PANEL>(next, part, rows);
        sync_block();
    }
}

/* A block has one value head of one of the window's sequences, and goes from border to border. */
template <int DK> GDNCP_KERNEL(WALK_WARPS *WARP, 1) void chain_kernel(border_chain chain)
{
    const int head = (int)(block_x() % chain.num_heads);
    const int warps = num_threads() / WARP;
    int64_t piece = first_piece(chain.pack, chain.pieces, block_x() / chain.num_heads);
    walk_span span = span_of_piece(chain.pack, chain.pieces, piece);
    state_columns columns = {};
    tile state[DK / TILE];

    columns.width = chain.dv;
    columns.first = (block_y() * warps + warp()) * TILE;
    columns.source = chain.starts.of(span, head);
    load_state<DK>(state, columns, chain.dk);
    while (!span.is_last) {
        const int64_t rows = (span.index * chain.num_heads + head) * chain.dk;

        columns.source = chain.borders.contribution + rows * chain.dv;
        columns.target = chain.borders.states + rows * chain.dv;
        step<DK>(state, chain.borders.transition + rows * chain.dk, columns, chain.dk);
        /* Each lane reads what it wrote itself. */
        columns.source = columns.target;
        load_state<DK>(state, columns, chain.dk);
        piece++;
        span = span_of_piece(chain.pack, chain.pieces, piece);
    }
}

gdncp_status_t walk_chains(const border_chain &chain, const gdncp_device_info_t &device,
                           gdncp_stream_t stream)
{
    const int64_t num = chain.pieces.num_sequences * chain.num_heads;
    const int column_tiles = tiles_of(chain.dv);
    const int warps = warps_of_blocks(num, column_tiles, device);

    return with_key_dim(chain.dk, [&](auto dim) {
        constexpr int DK = decltype(dim)::value;

        return launch("delta_rule_borders", chain_kernel<DK>,
                      {num, (column_tiles + warps - 1) / warps, 1}, warps * WARP,
                      PANEL * (DK + 8) * sizeof(float), stream, chain);
    });
}

} /* namespace */

int64_t piece_length(const gdncp_rule_problem_t &problem, int64_t slots,
                     const gdncp_device_info_t &device)
{
    const int64_t warps = problem.num_value_heads * tiles_of(problem.dv);
    const int64_t room = (int64_t)device.num_multiprocessors * WARPS_OF_MULTIPROCESSOR;
    const int64_t even = (slots * warps + room - 1) / room;
    const int64_t length = even > SHORTEST_PIECE ? even : SHORTEST_PIECE;
    const int64_t chunks = (problem.longest + CHUNK - 1) / CHUNK;

    return (chunks < slots ? chunks : slots) >= FEWEST_PIECES * length ? length : slots;
}

border_scratch borders_take(gdncp_arena_t *arena, const gdncp_rule_problem_t &problem,
                            int64_t borders)
{
    const int64_t rows = borders * problem.num_value_heads * problem.dk;
    border_scratch scratch;

    scratch.transition = gdncp_arena_floats(arena, rows * problem.dk);
    scratch.contribution = gdncp_arena_floats(arena, rows * problem.dv);
    scratch.states = gdncp_arena_floats(arena, rows * problem.dv);
    return scratch;
}

template <typename T>
gdncp_status_t walk_borders(const gdncp_rule_problem_t &problem, rule_walk<T> walk,
                            const border_scratch &borders, const gdncp_device_info_t &device,
                            gdncp_stream_t stream)
{
    const int64_t num = num_borders(walk.pieces) + walk.pieces.num_sequences;

    walk.by_piece = true;
    walk.m_tiles = tiles_of(problem.dk);
    walk.transition = borders.transition;
    walk.contribution = borders.contribution;
    const gdncp_status_t status = walk_summaries(problem, walk, num, device, stream);

    if (status != GDNCP_OK) {
        return status;
    }
    return walk_chains({walk.rule.pack, walk.pieces, walk.starts, borders,
                        walk.rule.num_value_heads, walk.rule.dk, walk.rule.dv},
                       device, stream);
}

template gdncp_status_t walk_borders(const gdncp_rule_problem_t &, rule_walk<float>,
                                     const border_scratch &, const gdncp_device_info_t &,
                                     gdncp_stream_t);
template gdncp_status_t walk_borders(const gdncp_rule_problem_t &, rule_walk<bf16>,
                                     const border_scratch &, const gdncp_device_info_t &,
                                     gdncp_stream_t);
template gdncp_status_t walk_borders(const gdncp_rule_problem_t &, rule_walk<f16>,
                                     const border_scratch &, const gdncp_device_info_t &,
                                     gdncp_stream_t);

} /* namespace GDNCP_KERNELS */
