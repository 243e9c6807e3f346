/**
 * @file
 * Operators for decoding: a few new tokens of many sequences, whose states lie in a pool.
 *
 * A pool is a tensor of slots, each with room for what one sequence must remember. A sequence
 * names the slot that its state is read from, and those that states are written to. These
 * operators read and write the pool in place.
 *
 * Beside the conventions of ops.h, these hold:
 * - Slot numbers, has_initial_state and num_accepted are tensors on the device of the others,
 *   contiguous. On the CPU a number that is out of range is an error, and so is a slot that one
 *   sequence writes and another reads or writes. On a CUDA device the numbers are not seen by the
 *   host: a number out of range makes its sequence, or where that is said its token, a pad, and
 *   slots shared by sequences of which one writes give undefined states.
 * - A negative slot is a pad: its sequence is left out, its rows of the output are zero, and no
 *   state of it is read or written.
 * - A sequence without tokens reads and writes nothing; its numbers may be anything.
 * - Slots that are not named keep their bits.
 *
 * Speculative decoding: a call takes the last token that is certain and some guessed ones after it.
 * Later it is known how many of them are good, and the next call starts behind those. That number,
 * the first token included, is num_accepted, 1 at least. States are kept such that none of the
 * tokens that were not accepted has an effect.
 */
#ifndef GDNCP_OPS_DECODE_H
#define GDNCP_OPS_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "export.h"
#include "memory.h"
#include "ops.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

/* -------------------------------------------------------- recurrent step */

/**
 * The gated delta rule token by token, as gdncp_delta_rule_t gives it, from states in a pool.
 *
 * With slots [N], sequence n starts from states[slots[n]], and after its last token its state is
 * there.
 *
 * With slots [N, M] no sequence has more than M tokens. Sequence n starts from
 * states[slots[n, num_accepted[n] - 1]], and after each of its tokens i the state is written to
 * states[slots[n, i]]. So each row of slots keeps the state after any number of tokens that the
 * next call may find accepted. A row whose starting slot is a pad is a pad. Any other pad (on a
 * CUDA device, any other number out of range) leaves the state after that one token unwritten.
 * Entries of a row that are neither its start nor that of a token may be anything.
 *
 * On a CUDA device dk is 256 at most, else GDNCP_ERR_NOT_SUPPORTED; dv is free.
 */
typedef struct gdncp_recurrent_step_t {
    gdncp_tensor_t q;            /**< [T, Hk, dk] */
    gdncp_tensor_t k;            /**< [T, Hk, dk] */
    gdncp_tensor_t v;            /**< [T, Hv, dv] */
    gdncp_tensor_t g;            /**< [T, Hv] F32, contiguous */
    gdncp_tensor_t beta;         /**< [T, Hv] F32, contiguous */
    gdncp_tensor_t states;       /**< [num_slots, Hv, dk, dv] F32, contiguous; read and written */
    gdncp_tensor_t slots;        /**< [N] or [N, M], I32 or I64 */
    gdncp_tensor_t num_accepted; /**< [N], dtype of slots, 1..M; only where slots is [N, M], and
                                      optional there: 1 */
    const int64_t *cu_seqlens;   /**< [N + 1] */
    const int64_t *cu_seqlens_cuda; /**< [N + 1] in device memory; NULL on the CPU */
    int64_t num_sequences;
    int64_t group_size;  /**< as in gdncp_delta_rule_t */
    int64_t group_phase; /**< as in gdncp_delta_rule_t */
    float scale;         /**< of q; 0: dk^-1/2 */
    bool qk_l2norm;      /**< normalise q and k per head first, eps 1e-6 */
} gdncp_recurrent_step_t;

/** @param o  [T, Hv, dv], dtype of v */
GDNCP_API gdncp_status_t gdncp_recurrent_step(const gdncp_recurrent_step_t *step,
                                              const gdncp_tensor_t *o,
                                              gdncp_workspace_t *workspace);

/* --------------------------------------------------------- conv1d update */

/**
 * The convolution of gdncp_conv1d_t, with the tokens before each sequence in a pool.
 *
 * A slot has S >= W-1 rows. Without num_accepted the window of sequence n is rows 0 .. W-2 of
 * states[slots[n]], and after the call they are the last W-1 tokens of window and sequence
 * together; the rows after them stay.
 *
 * With num_accepted no sequence has more than S - (W-1) + 1 tokens. The window is rows a-1 ..
 * a-1 + W-2, with a = num_accepted[n], and after the call rows 0 .. W-2 + n_tokens-1 are the last
 * of window and sequence together, but for the first row of the window. So the next call finds its
 * window whatever number of tokens is accepted then. After a call without num_accepted it is 1.
 */
typedef struct gdncp_conv1d_update_t {
    gdncp_tensor_t x;                 /**< [T, C], token stride free */
    gdncp_tensor_t weight;            /**< [C, W] F32, 1 <= W <= 8 */
    gdncp_tensor_t bias;              /**< [C] F32, optional */
    gdncp_tensor_t states;            /**< [num_slots, S, C], dtype of x, contiguous; read and
                                           written */
    gdncp_tensor_t slots;             /**< [N], I32 or I64 */
    gdncp_tensor_t has_initial_state; /**< [N] I8, optional: 1. Where 0, the window is zeros and
                                           num_accepted is not read */
    gdncp_tensor_t num_accepted;      /**< [N], dtype of slots, 1..S - (W-1) + 1; optional */
    const int64_t *cu_seqlens;        /**< [N + 1] */
    const int64_t *cu_seqlens_cuda;   /**< [N + 1] in device memory; NULL on the CPU */
    int64_t num_sequences;
    gdncp_activation_t activation;
} gdncp_conv1d_update_t;

/** @param y  [T, C], dtype of x or F32, token stride free; not x */
GDNCP_API gdncp_status_t gdncp_conv1d_update(const gdncp_conv1d_update_t *update,
                                             const gdncp_tensor_t *y, gdncp_workspace_t *workspace);

GDNCP_END_DECLS

#endif
