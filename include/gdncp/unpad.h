/**
 * @file
 * Taking the padding out of a batch and putting it back, as indices.
 *
 * A mask [batch, tokens] says which tokens are kept, anywhere in a row. Tokens count over the whole
 * batch: token t of row b is b*tokens + t. What is kept, in that order, is a pack of batch
 * sequences. Trainers call the two directions unpad_input and pad_input:
 *
 *     packed[i] = padded[indices[i]]
 *     padded[p] = scatter[p] < 0 ? 0 : packed[scatter[p]]
 *
 * Nothing is allocated. Functions may be called from several threads at once.
 */
#ifndef GDNCP_UNPAD_H
#define GDNCP_UNPAD_H

#include <stdint.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/**
 * The pack that is left when the padding is taken out.
 *
 * @param mask          [batch, tokens] a byte each, as bools are: 0 is padding, all else is kept
 * @param batch         > 0
 * @param tokens        >= 0
 * @param cu_seqlens    [batch + 1] set: the kept tokens of row b are cu_seqlens[b] ..
 *                      cu_seqlens[b+1]-1 of the pack; rows of padding are sequences of length zero
 * @param max_length_p  set to the most tokens that a row keeps
 *
 * @return GDNCP_OK, GDNCP_ERR_INVALID_ARGUMENT.
 */
GDNCP_API gdncp_status_t gdncp_unpad_lengths(const uint8_t *mask, int64_t batch, int64_t tokens,
                                             int64_t *cu_seqlens, int64_t *max_length_p);

/**
 * Which tokens are kept.
 *
 * @param mask         as above
 * @param num_indices  room in @p indices: at least what is kept, cu_seqlens[batch]
 * @param indices      [num_indices] the first cu_seqlens[batch] are set, ascending
 *
 * @return GDNCP_OK; GDNCP_ERR_INVALID_ARGUMENT, for too little room too, of which then no more than
 * num_indices were written.
 */
GDNCP_API gdncp_status_t gdncp_unpad_indices(const uint8_t *mask, int64_t batch, int64_t tokens,
                                             int64_t num_indices, int64_t *indices);

/**
 * The way back: where in the pack each token of the batch is, -1 for padding.
 *
 * @param indices      [num_indices] of gdncp_unpad_indices(), or any that differ, in any order
 * @param num_indices  >= 0
 * @param num_tokens   batch * tokens, >= num_indices
 * @param scatter      [num_tokens] written in full; on an error its contents are not defined
 *
 * @return GDNCP_OK; GDNCP_ERR_INVALID_ARGUMENT, which names the first index that is outside or that
 * was there before.
 */
GDNCP_API gdncp_status_t gdncp_repad_scatter(const int64_t *indices, int64_t num_indices,
                                             int64_t num_tokens, int64_t *scatter);

GDNCP_END_DECLS

#endif
