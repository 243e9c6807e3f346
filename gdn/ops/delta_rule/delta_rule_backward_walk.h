/*
 * The backward of one sequence and the value heads of one key head, block by block.
 *
 * A block's work is a row of stages, each a loop over chunks or over panels of v's columns whose
 * turns do not depend on each other. Where there are sequences and heads enough for the threads,
 * one thread takes all turns; else all threads share each stage. The bits are the same.
 */
#ifndef GDNCP_DELTA_RULE_BACKWARD_WALK_H
#define GDNCP_DELTA_RULE_BACKWARD_WALK_H

#include "delta_rule_chunk_backward.h"

/* A backward call. */
typedef struct gdncp_backward_run {
    gdncp_rule_problem_t problem;
    const gdncp_tensor_t *grad_o;
    const gdncp_tensor_t *grad_final_state; /* NULL: zeros */
    const gdncp_delta_rule_grads_t *grads;
    bool has_saved;
    bool is_shared;       /* stages are shared by the threads */
    int64_t panel_width;  /* columns of a turn of the walks */
    int64_t block_chunks; /* of a block; fewer than could be where no sequence has as many */
    size_t shared_bytes;  /* of what the turns of one item share: gdncp_backward_measure() */
    size_t thread_bytes;  /* of what each thread needs beside */
    gdncp_scratch_t scratch;
} gdncp_backward_run_t;

/* Fill in the bytes, once all else is. */
void gdncp_backward_measure(gdncp_backward_run_t *run);

/* Item index = sequence * key heads + key head. shared: what turns share; thread_memory: that of
 * the one thread, or with is_shared of all, each thread_bytes apart. */
void gdncp_backward_item(const gdncp_backward_run_t *run, int64_t index, char *shared,
                         char *thread_memory);

#endif
