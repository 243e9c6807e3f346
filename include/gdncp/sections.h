/**
 * @file
 * Sharding of parameters: which rows of a parameter a rank holds, and copies both ways.
 *
 * Ranks form a tensor x context parallel grid. Tensor parallelism splits first: of Hv value heads
 * tensor-parallel rank t of T has [t*Hv/T, (t+1)*Hv/T), rounded down. Context parallelism then
 * splits what that rank has, n heads, in the same way: context-parallel rank c of C works on the
 * heads [c*n/C, (c+1)*n/C) of these. With every value head goes the key head that it reads, as in
 * heads.h; so any T and C will do, also those that divide neither number of heads.
 *
 * A parameter is split along one dimension, whose rows are a list of sections, each by itself; the
 * local parts follow each other in the order of the sections. Without sections its rows are cut as
 * value heads are. Where all counts divide, a cut over context-parallel ranks is what Megatron-LM's
 * get_parameter_local_cp() returns, with split_sections and without; where they do not, Megatron-LM
 * refuses, and here a key head may be on several ranks.
 *
 * Seen as memory a parameter is [outer, rows, inner], contiguous: in_proj_weight has inner =
 * hidden, a bias or A_log inner = 1, and out_proj_weight, which is split by columns, outer = hidden
 * and inner = 1.
 *
 * Index arithmetic and plain memory; every function is safe to call from any thread.
 */
#ifndef GDNCP_SECTIONS_H
#define GDNCP_SECTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "heads.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/** A rank's place in a tensor x context parallel grid. */
typedef struct gdncp_place {
    int tp_size; /**< > 0 */
    int tp_rank; /**< 0 <= tp_rank < tp_size */
    int cp_size; /**< > 0; 1 for what a whole tensor-parallel rank holds */
    int cp_rank; /**< 0 <= cp_rank < cp_size */
} gdncp_place_t;

/** The rows of a parameter along the dimension that is split. */
typedef struct gdncp_parameter_split {
    /** [num_sections], each beginning where the one before ends and the last ending at rows; NULL
     * for rows that are all alike */
    const gdncp_section_t *sections;
    int64_t num_sections;    /**< 0 where sections is NULL */
    int64_t num_key_heads;   /**< > 0, divides num_value_heads; not read without sections */
    int64_t num_value_heads; /**< > 0; not read without sections */
    int64_t rows;            /**< of the whole parameter, > 0 */
} gdncp_parameter_split_t;

/** Whose rows a place's rows are counted in. */
typedef enum gdncp_extent {
    GDNCP_EXTENT_WHOLE = 0, /**< those of the whole parameter */
    GDNCP_EXTENT_TP_RANK    /**< those that the place's tensor-parallel rank holds */
} gdncp_extent_t;

/** Rows that a place holds, in the same order on both sides. */
typedef struct gdncp_held_rows {
    int64_t full_row;  /**< first row in the whole parameter or in the tensor-parallel rank's */
    int64_t local_row; /**< first row in the place's own */
    int64_t rows;      /**< 0 where the place has no head of the section */
} gdncp_held_rows_t;

/**
 * The place of a rank of tp_size * cp_size, tensor-parallel ranks side by side as in Megatron-LM:
 * rank = cp_rank * tp_size + tp_rank.
 */
GDNCP_API gdncp_status_t gdncp_place_of_rank(int tp_size, int cp_size, int rank,
                                             gdncp_place_t *place_p);

/**
 * The heads of @p kind that a place works on, counted from the first of all heads. With tp_size 1
 * this is gdncp_head_range().
 *
 * @param num_key_heads    > 0, divides num_value_heads
 * @param num_value_heads  > 0
 */
GDNCP_API gdncp_status_t gdncp_place_heads(gdncp_head_kind_t kind, int64_t num_key_heads,
                                           int64_t num_value_heads, const gdncp_place_t *place,
                                           gdncp_head_range_t *range_p);

/** Number of rows that a place holds. */
GDNCP_API gdncp_status_t gdncp_split_rows(const gdncp_parameter_split_t *split,
                                          const gdncp_place_t *place, int64_t *rows_p);

/**
 * The rows that a place holds: one block a section, in order of the sections and of local rows.
 *
 * @param blocks  [num_sections], or [1] without sections
 */
GDNCP_API gdncp_status_t gdncp_split_blocks(const gdncp_parameter_split_t *split,
                                            gdncp_extent_t extent, const gdncp_place_t *place,
                                            gdncp_held_rows_t *blocks);

/**
 * Copy a place's rows out of a parameter.
 *
 * @param outer      times that the rows come, > 0
 * @param row_bytes  of one row, that is of inner elements, > 0
 * @param full       [outer, rows of extent, row_bytes]   read
 * @param local      [outer, the place's rows, row_bytes] written in full; may not overlap @p full
 */
GDNCP_API gdncp_status_t gdncp_split_gather(const gdncp_parameter_split_t *split,
                                            gdncp_extent_t extent, const gdncp_place_t *place,
                                            int64_t outer, size_t row_bytes, const void *full,
                                            void *local);

/**
 * Copy a place's rows back. The other rows of @p full are left as they are, so that @p full is
 * complete after all places; a key head on several of them is then the last one's.
 *
 * @param local  [outer, the place's rows, row_bytes]   read
 * @param full   [outer, rows of extent, row_bytes]     the place's rows written
 */
GDNCP_API gdncp_status_t gdncp_split_scatter(const gdncp_parameter_split_t *split,
                                             gdncp_extent_t extent, const gdncp_place_t *place,
                                             int64_t outer, size_t row_bytes, const void *local,
                                             void *full);

/**
 * Add a place's gradients to the full parameter's, in float32: the transpose of
 * gdncp_split_gather(). Called for every place in order of rank, on a @p full of zeros, it gives
 * each row the sum of all gradients of its copies, in order of rank.
 *
 * @param inner  elements of a row, > 0
 * @param local  [outer, the place's rows, inner]  read
 * @param full   [outer, rows of extent, inner]    the place's rows added to
 */
GDNCP_API gdncp_status_t gdncp_split_add(const gdncp_parameter_split_t *split,
                                         gdncp_extent_t extent, const gdncp_place_t *place,
                                         int64_t outer, int64_t inner, const float *local,
                                         float *full);

GDNCP_END_DECLS

#endif
