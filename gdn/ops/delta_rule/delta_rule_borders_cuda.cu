/*
 * States at the borders between pieces of sequences, so that pieces can be walked at once: the map
 * of each piece, then along each sequence S <- M S + U.
 */
#include "delta_rule_launch_cuda.h"
#include "state_chain_cuda.h"

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

struct border_chain {
    rule_pack pack;
    window_pieces pieces;
    state_starts starts;
    border_scratch borders;
    int num_heads;
    int dk;
    int dv;
};

/* A block goes from border to border of one value head of one of the window's sequences. */
template <int DK>
GDNCP_KERNEL((chain_layout<DK, false>::threads), 1)
void chain_kernel(border_chain chain)
{
    const int head = (int)(block_x() % chain.num_heads);
    const window_pieces &pieces = chain.pieces;
    const walk_span span = span_of_sequence(chain.pack, pieces.first, pieces.count,
                                            pieces.first_sequence + block_x() / chain.num_heads, 0);
    const int64_t first = (span.begin - pieces.first) / pieces.length;
    const int64_t last = (span.end - 1 - pieces.first) / pieces.length;

    if (span.begin >= span.end || first == last) {
        return;
    }
    walk_chain<DK, false>(
        {chain.borders.transition, chain.borders.contribution, chain.starts.of(span, head),
         chain.borders.states, first * chain.num_heads + head, first * chain.num_heads + head,
         chain.num_heads, last - first, chain.dk, chain.dv, chain.starts.is_across(span)},
        block_y() * CHAIN_COLUMNS);
}

gdncp_status_t walk_chains(const border_chain &chain, gdncp_stream_t stream)
{
    return with_key_dim(chain.dk, [&](auto dim) {
        using layout = chain_layout<decltype(dim)::value, false>;

        return launch("delta_rule_borders", chain_kernel<decltype(dim)::value>,
                      chain_grid(chain.pieces.num_sequences * chain.num_heads, chain.dv),
                      layout::threads, layout::bytes, stream, chain);
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
                       stream);
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
