/* A run of another length than the dump's, from the same text. */
#include "problem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

/* One row of the batch before and after; every row is cut alike. */
typedef struct resize {
    int64_t old_tokens;
    int64_t new_tokens;
    int64_t kept;       /* documents: those that begin before new_tokens */
    int64_t tile_begin; /* what is repeated: the last document */
    int64_t tile_tokens;
} resize_t;

static resize_t make_resize(const run_problem_t *problem, int64_t row_tokens)
{
    const int64_t *const cu_seqlens = problem->sequences.cu_seqlens;
    const int64_t documents = problem->sequences.count / problem->rows;
    resize_t resize = {.old_tokens = problem->tokens / problem->rows, .new_tokens = row_tokens};

    while (resize.kept < documents && cu_seqlens[resize.kept] < row_tokens) {
        resize.kept++;
    }
    resize.tile_begin = cu_seqlens[documents - 1];
    resize.tile_tokens = resize.old_tokens - resize.tile_begin;
    if (resize.tile_tokens == 0) {
        resize.tile_begin = 0;
        resize.tile_tokens = resize.old_tokens;
    }
    return resize;
}

/* Token of the old row that is token t of the new one. */
static int64_t source_token(const resize_t *resize, int64_t t)
{
    return t < resize->old_tokens
               ? t
               : resize->tile_begin + (t - resize->tile_begin) % resize->tile_tokens;
}

static gdncp_status_t resize_tokens(const resize_t *resize, int64_t rows, run_input_t *input)
{
    const int64_t channels = run_spec_row(&input->spec);
    const int64_t tokens = rows * resize->new_tokens;

    if (tokens > INT64_MAX / (int64_t)sizeof(float) / channels) {
        return run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %s of %" PRId64 " tokens",
                        input->spec.name, tokens);
    }
    float *const values = run_alloc((size_t)(tokens * channels), sizeof *values, input->spec.name);
    if (values == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t t = 0; t < resize->new_tokens; t++) {
            memcpy(&values[(row * resize->new_tokens + t) * channels],
                   &input->values[(row * resize->old_tokens + source_token(resize, t)) * channels],
                   (size_t)channels * sizeof *values);
        }
    }
    free(input->values);
    input->values = values;
    return GDNCP_OK;
}

static gdncp_status_t resize_sequences(const resize_t *resize, run_problem_t *problem)
{
    run_sequences_t *const sequences = &problem->sequences;
    const int64_t count = problem->rows * resize->kept;
    int64_t *const cu_seqlens = run_alloc((size_t)count + 1, sizeof *cu_seqlens, "cu_seqlens");

    if (cu_seqlens == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    for (int64_t row = 0; row < problem->rows; row++) {
        for (int64_t i = 0; i < resize->kept; i++) {
            cu_seqlens[row * resize->kept + i] =
                row * resize->new_tokens + sequences->cu_seqlens[i];
        }
    }
    cu_seqlens[count] = problem->rows * resize->new_tokens;
    free(sequences->cu_seqlens);
    *sequences = (run_sequences_t){.cu_seqlens = cu_seqlens, .count = count};
    problem->tokens = cu_seqlens[count];
    return GDNCP_OK;
}

static void resize_spec(const run_problem_t *problem, run_spec_t *spec)
{
    if (spec->place == RUN_TOKENS) {
        spec->shape[0] = problem->tokens;
    } else if (spec->place != RUN_PARAMETER) {
        /* Only rules have states, and they have one row: the first documents are those kept. */
        spec->shape[0] = problem->sequences.count;
    }
}

gdncp_status_t run_problem_set_tokens(run_problem_t *problem, int64_t row_tokens)
{
    const resize_t resize = make_resize(problem, row_tokens);
    gdncp_status_t status = GDNCP_OK;

    if (row_tokens == resize.old_tokens) {
        return GDNCP_OK;
    }
    if (problem->sequences.cu_seqlens_padded != NULL) {
        return run_fail(GDNCP_ERR_INVALID_ARGUMENT,
                        "--tokens: expected the %" PRId64
                        " of the dump, which is a padded pack, got %" PRId64,
                        resize.old_tokens, row_tokens);
    }
    for (int i = 0; i < problem->num_inputs && status == GDNCP_OK; i++) {
        if (problem->inputs[i].spec.place == RUN_TOKENS) {
            status = resize_tokens(&resize, problem->rows, &problem->inputs[i]);
        }
    }
    if (status == GDNCP_OK) {
        status = resize_sequences(&resize, problem);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int i = 0; i < problem->num_inputs; i++) {
        resize_spec(problem, &problem->inputs[i].spec);
    }
    for (int i = 0; i < problem->num_outputs; i++) {
        resize_spec(problem, &problem->outputs[i]);
    }
    for (int i = 0; i < problem->num_reported; i++) {
        run_reported_t *const reported = &problem->reported[i];

        free(reported->expected);
        reported->expected = NULL;
        if (reported->output >= 0) {
            reported->count = run_spec_count(&problem->outputs[reported->output]);
        }
    }
    return GDNCP_OK;
}
