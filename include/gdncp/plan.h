/**
 * @file
 * Plans: which bytes move between ranks, and the transpose of every plan.
 *
 * A plan is one rank's part of a linear map from an input buffer on every rank
 * to an output buffer on every rank. It is made locally, without data and
 * without peers, for any rank of any number of ranks. It knows what it sends
 * and to whom, so a whole message schedule can be made on a laptop.
 *
 * The backward of a communication is its plan's transpose: sends become
 * receives, and a value that was read k times has its k gradients added.
 *
 * Plans are immutable and may be shared among threads. gdncp_exchange_t (see
 * exchange.h) binds a plan to a communicator and runs it.
 *
 * Of a padded pack (see layout.h), padding is moved like any token and counted among a rank's
 * tokens and all tokens, but no halo is made of it.
 *
 * Units: offsets, strides and counts are elements of the plan's dtype.
 *
 * A batch is B rows of one layout, all of which are laid out alike. The functions that end in _rows
 * take one, with a gdncp_rows_t for each buffer; those without move one row a token.
 */
#ifndef GDNCP_PLAN_H
#define GDNCP_PLAN_H

#include <stdint.h>
#include <stdio.h>

#include "export.h"
#include "heads.h"
#include "layout.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

typedef struct gdncp_plan gdncp_plan_t;

/** What a plan does to its output buffer. */
typedef enum gdncp_plan_write {
    GDNCP_PLAN_ASSIGN = 0, /**< output = A input; elements that nothing reaches become zero */
    GDNCP_PLAN_ADD         /**< output += A input; needs F32, F64, BF16 or F16 */
} gdncp_plan_write_t;

/**
 * How the rows of a batch lie in a buffer: token t of batch row b begins at element
 * t*token_stride + b*batch_stride, from where its channels follow each other.
 *
 * Rows may lie in any order and with gaps, but not in each other: either all batch rows of a token
 * lie between that token and the next, or all tokens of a batch row between that row and the next.
 * What lies in gaps is neither read nor written. Ranks may have different strides.
 */
typedef struct gdncp_rows {
    int64_t batch;        /**< B > 0; the same in all buffers and on all ranks */
    int64_t token_stride; /**< >= 0 */
    int64_t batch_stride; /**< >= 0; of no meaning where batch is 1 */
} gdncp_rows_t;

/** The rows of a tensor [tokens, batch, elements] without gaps. */
GDNCP_API gdncp_rows_t gdncp_rows_token_major(int64_t batch, int64_t elements);

/** The rows of a tensor [batch, tokens, elements] without gaps; tokens as this rank's buffer has.
 */
GDNCP_API gdncp_rows_t gdncp_rows_batch_major(int64_t batch, int64_t tokens, int64_t elements);

/** The order of all tokens where heads are split (the output of cp2hp, the input of hp2cp). */
typedef enum gdncp_token_order {
    /** Sequence after sequence: what Megatron-LM calls attention load balancing is undone. */
    GDNCP_TOKENS_IN_PACK_ORDER = 0,
    /** The tokens of rank 0 in the order of its buffer, then those of rank 1, …: as they arrive. */
    GDNCP_TOKENS_BY_RANK
} gdncp_token_order_t;

/** What cp2hp and hp2cp split, and in which order tokens lie where it is split. */
typedef struct gdncp_head_split {
    int64_t num_key_heads;           /**< > 0, divides num_value_heads */
    int64_t num_value_heads;         /**< > 0 */
    const gdncp_section_t *sections; /**< [num_sections], disjoint */
    int64_t num_sections;            /**< > 0 */
    int64_t row_channels;            /**< channels of a token with all heads; every section fits */
    gdncp_token_order_t order;
} gdncp_head_split_t;

/** One message of a rank's schedule. */
typedef struct gdncp_message {
    int peer;
    int64_t send_bytes; /**< to the peer; 0: none */
    int64_t recv_bytes; /**< from the peer; 0: none */
} gdncp_message_t;

/**
 * Plan the exchange from context parallel (my tokens, all heads) to head
 * parallel (all tokens, my heads).
 *
 * With my_head = gdncp_head_range(section.kind), the output holds section after
 * section the channels of my heads: element (t, c) of section s of the output is
 * channel section.offset + my_head.first*head_dim + c of pack token t, wherever
 * that token was. Tokens come out in pack order, so every sequence is whole.
 *
 * @param layout        who holds which token before
 * @param rank          0 <= rank < gdncp_layout_num_ranks(layout)
 * @param sections      [num_sections], disjoint; channels in no section stay where they are
 * @param row_channels  elements between two tokens of the input; every section must fit
 * @param plan_p        set on success; free with gdncp_plan_destroy()
 *
 * in  [local tokens, row_channels]                read
 * out [all tokens, sum of my heads' channels]     written in full
 *
 * @return GDNCP_OK, GDNCP_ERR_INVALID_ARGUMENT, GDNCP_ERR_OUT_OF_MEMORY.
 * Local call: talks to no peer. Its transpose adds the gradients of a key head
 * that several ranks received.
 */
GDNCP_API gdncp_status_t gdncp_plan_cp2hp(const gdncp_layout_t *layout, int rank,
                                          gdncp_dtype_t dtype, int64_t num_key_heads,
                                          int64_t num_value_heads, const gdncp_section_t *sections,
                                          int64_t num_sections, int64_t row_channels,
                                          gdncp_plan_t **plan_p);

/**
 * Plan the way back: from all tokens of my heads to my tokens of all heads.
 *
 * The inverse of gdncp_plan_cp2hp() with the same arguments. A key head that
 * several ranks hold is taken from the lowest of them.
 *
 * in  [all tokens, sum of my heads' channels]   read
 * out [local tokens, row_channels]              the sections written; with channels in no
 *                                               section, those become zero (GDNCP_PLAN_ASSIGN)
 */
GDNCP_API gdncp_status_t gdncp_plan_hp2cp(const gdncp_layout_t *layout, int rank,
                                          gdncp_dtype_t dtype, int64_t num_key_heads,
                                          int64_t num_value_heads, const gdncp_section_t *sections,
                                          int64_t num_sections, int64_t row_channels,
                                          gdncp_plan_t **plan_p);

/**
 * gdncp_plan_cp2hp() of a batch, with a choice of the order in which tokens come out.
 *
 * Where N divides both numbers of heads and the layout is dual_chunk_swap, this is Megatron-LM's
 * tensor_a2a_cp2hp() of a tensor [tokens, batch, channels] with its split_sections, and with
 * undo_attention_load_balancing for GDNCP_TOKENS_IN_PACK_ORDER, without for GDNCP_TOKENS_BY_RANK.
 *
 * @param split  same on all ranks; copied
 * @param in     of [local tokens] rows of split->row_channels, read
 * @param out    of [all tokens] rows of my heads' channels, written in full
 *
 * @return GDNCP_OK, GDNCP_ERR_INVALID_ARGUMENT, GDNCP_ERR_OUT_OF_MEMORY. Local, as
 * gdncp_plan_cp2hp().
 */
GDNCP_API gdncp_status_t gdncp_plan_cp2hp_rows(const gdncp_layout_t *layout, int rank,
                                               gdncp_dtype_t dtype, const gdncp_head_split_t *split,
                                               const gdncp_rows_t *in, const gdncp_rows_t *out,
                                               gdncp_plan_t **plan_p);

/**
 * gdncp_plan_hp2cp() of a batch: the inverse of gdncp_plan_cp2hp_rows(), and where that is
 * Megatron-LM's tensor_a2a_cp2hp() this is its tensor_a2a_hp2cp(), with
 * redo_attention_load_balancing for GDNCP_TOKENS_IN_PACK_ORDER.
 *
 * @param in   of [all tokens] rows of my heads' channels, read
 * @param out  of [local tokens] rows of split->row_channels; as gdncp_plan_hp2cp() writes them
 */
GDNCP_API gdncp_status_t gdncp_plan_hp2cp_rows(const gdncp_layout_t *layout, int rank,
                                               gdncp_dtype_t dtype, const gdncp_head_split_t *split,
                                               const gdncp_rows_t *in, const gdncp_rows_t *out,
                                               gdncp_plan_t **plan_p);

/**
 * Plan the move of every token from where one layout puts it to where another does.
 *
 * @param from, to  two layouts of the same pack (equal cu_seqlens and cu_seqlens_padded) and number
 *                  of ranks
 *
 * in  [tokens of rank under from, channels]   read
 * out [tokens of rank under to, channels]     written in full
 * Each token is sent once at most; one that stays is copied locally.
 *
 * Any permutation of tokens over ranks is such a plan, between two layouts made by
 * gdncp_layout_from_positions(). Where each row of a batch has a permutation of its own, lay the
 * batch out as a pack of B sequences: token t of row b is pack position b*tokens + t, and each rank
 * lists its positions in the order of its buffer, row after row or token after token.
 */
GDNCP_API gdncp_status_t gdncp_plan_relayout(const gdncp_layout_t *from, const gdncp_layout_t *to,
                                             int rank, gdncp_dtype_t dtype, int64_t channels,
                                             gdncp_plan_t **plan_p);

/**
 * gdncp_plan_relayout() of a batch.
 *
 * @param in   of [tokens of rank under from] rows of channels, read
 * @param out  of [tokens of rank under to] rows of channels, written in full
 */
GDNCP_API gdncp_status_t gdncp_plan_relayout_rows(const gdncp_layout_t *from,
                                                  const gdncp_layout_t *to, int rank,
                                                  gdncp_dtype_t dtype, int64_t channels,
                                                  const gdncp_rows_t *in, const gdncp_rows_t *out,
                                                  gdncp_plan_t **plan_p);

/**
 * Plan an all-gather that concatenates all ranks' shards along one dimension.
 *
 * A shard is [outer, lengths[rank], inner]; the output [outer, sum of lengths, inner] holds the
 * shard of rank i at [:, lengths[0] + … + lengths[i-1] + [0, lengths[i]), :].
 * The transpose sums over ranks and leaves each rank its shard.
 *
 * @param lengths  [num_ranks], >= 0
 */
GDNCP_API gdncp_status_t gdncp_plan_all_gather_concat(int num_ranks, int rank, gdncp_dtype_t dtype,
                                                      int64_t outer, const int64_t *lengths,
                                                      int64_t inner, gdncp_plan_t **plan_p);

/**
 * Plan the exchange that gives each local segment the tokens just before it.
 *
 * A causal convolution of width W needs width = W - 1. The transpose of this
 * plan with GDNCP_PLAN_ADD carries the halo's gradient home and adds it there.
 *
 * Row w of segment s of the halo is token begin(s) - width + w of that segment's
 * sequence, or zeros where the sequence starts later than that. A halo longer
 * than a neighbouring segment comes from several segments and ranks. The halo of a segment of
 * padding is zeros.
 *
 * @param channels    elements per token, > 0
 * @param row_stride  elements between two tokens of the input, >= channels; ranks may differ
 * @param width       tokens, >= 0
 *
 * in  [local tokens, row_stride], the first channels of each row   read
 * out [local segments, width, channels]                            written in full
 */
GDNCP_API gdncp_status_t gdncp_plan_conv_halo(const gdncp_layout_t *layout, int rank,
                                              gdncp_dtype_t dtype, int64_t channels,
                                              int64_t row_stride, int64_t width,
                                              gdncp_plan_t **plan_p);

/**
 * gdncp_plan_conv_halo() of a batch.
 *
 * @param in   of [local tokens] rows of channels, read
 * @param out  of [local segments * width] rows of channels, written in full: row w of segment s is
 *             token s*width + w of this buffer
 */
GDNCP_API gdncp_status_t gdncp_plan_conv_halo_rows(const gdncp_layout_t *layout, int rank,
                                                   gdncp_dtype_t dtype, int64_t channels,
                                                   int64_t width, const gdncp_rows_t *in,
                                                   const gdncp_rows_t *out, gdncp_plan_t **plan_p);

/**
 * The transpose of a plan: <y, A x> = <A' y, x>.
 *
 * Contributions to one element are added in float32 (float64 for F64), in fixed
 * order of rank. A plan whose input is read more than once at a place has a
 * transpose only for F32, F64, BF16 and F16.
 *
 * @param write  GDNCP_PLAN_ASSIGN: the old input's gradient is written in full;
 *               GDNCP_PLAN_ADD: it is added to what the buffer holds
 */
GDNCP_API gdncp_status_t gdncp_plan_transpose(const gdncp_plan_t *plan, gdncp_plan_write_t write,
                                              gdncp_plan_t **transpose_p);

/** Free a plan; NULL does nothing. Exchanges made from it must be destroyed before. */
GDNCP_API void gdncp_plan_destroy(gdncp_plan_t *plan);

/** "cp2hp", "transpose of conv_halo", … Owned by the plan. */
GDNCP_API const char *gdncp_plan_name(const gdncp_plan_t *plan);
GDNCP_API int gdncp_plan_rank(const gdncp_plan_t *plan);
GDNCP_API int gdncp_plan_num_ranks(const gdncp_plan_t *plan);
GDNCP_API gdncp_dtype_t gdncp_plan_dtype(const gdncp_plan_t *plan);

/** Elements a caller's buffers must hold on this rank: up to the end of the last row. */
GDNCP_API int64_t gdncp_plan_input_elements(const gdncp_plan_t *plan);
GDNCP_API int64_t gdncp_plan_output_elements(const gdncp_plan_t *plan);

/** Bytes this rank sends to others in one run. */
GDNCP_API int64_t gdncp_plan_bytes_sent(const gdncp_plan_t *plan);

/** This rank's messages, ordered by peer, never to itself. Owned by the plan. */
GDNCP_API const gdncp_message_t *gdncp_plan_messages(const gdncp_plan_t *plan, int64_t *count_p);

/**
 * A hash that is equal on all ranks exactly when they made parts of the same plan
 * (operation, layout, shapes, dtype, write mode). Strides are a rank's own.
 */
GDNCP_API uint64_t gdncp_plan_fingerprint(const gdncp_plan_t *plan);

/** Write the rank's schedule as one JSON object a line: the plan, then one a message. */
GDNCP_API gdncp_status_t gdncp_plan_write_schedule(const gdncp_plan_t *plan, FILE *stream);

GDNCP_END_DECLS

#endif
