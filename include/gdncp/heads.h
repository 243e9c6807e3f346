/**
 * @file
 * Head sections: how channels are split over ranks by heads.
 *
 * A channel dimension is a concatenation of sections, each made of heads of one
 * width. Rank r of N works on value heads [r*Hv/N, (r+1)*Hv/N), rounded down,
 * and on every key head one of them needs; value head j reads key head
 * floor(j*Hk/Hv). Where the counts divide, each head is on one rank and this is
 * what Megatron-LM's split_sections does. Where they do not, a key head may be
 * on several ranks.
 */
#ifndef GDNCP_HEADS_H
#define GDNCP_HEADS_H

#include <stdint.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

typedef enum gdncp_head_kind { GDNCP_KEY_HEADS = 0, GDNCP_VALUE_HEADS } gdncp_head_kind_t;

/** One section of a channel dimension: all heads of @p kind, head_dim channels each. */
typedef struct gdncp_section {
    gdncp_head_kind_t kind;
    int64_t head_dim; /**< channels per head, > 0 (1 for beta and alpha) */
    int64_t offset;   /**< first channel of the section in a row of all channels */
} gdncp_section_t;

/** First head and number of heads of one rank. */
typedef struct gdncp_head_range {
    int64_t first;
    int64_t count; /**< 0 where there are more ranks than value heads */
} gdncp_head_range_t;

/**
 * The heads of @p kind that @p rank of @p num_ranks works on.
 *
 * @param num_key_heads    > 0, divides num_value_heads
 * @param num_value_heads  > 0
 */
GDNCP_API gdncp_status_t gdncp_head_range(gdncp_head_kind_t kind, int64_t num_key_heads,
                                          int64_t num_value_heads, int num_ranks, int rank,
                                          gdncp_head_range_t *range_p);

GDNCP_END_DECLS

#endif
