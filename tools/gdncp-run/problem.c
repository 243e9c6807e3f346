#include "problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dump.h"
#include "fail.h"
#include "problem_kinds.h"

int64_t run_spec_row(const run_spec_t *spec)
{
    int64_t count = 1;

    for (int d = 1; d < spec->ndim; d++) {
        count *= spec->shape[d];
    }
    return count;
}

int64_t run_spec_count(const run_spec_t *spec)
{
    return spec->shape[0] * run_spec_row(spec);
}

gdncp_status_t run_problem_read_input(const run_dump_t *dump, const run_spec_t *spec,
                                      run_problem_t *problem)
{
    run_input_t *const input = &problem->inputs[problem->num_inputs];
    const gdncp_status_t status =
        run_dump_read(dump, spec->name, spec->ndim, spec->shape, &input->values);

    if (status == GDNCP_OK) {
        input->spec = *spec;
        problem->num_inputs++;
    }
    return status;
}

gdncp_status_t run_problem_add_output(const run_dump_t *dump, const run_spec_t *spec,
                                      const char *name, run_problem_t *problem)
{
    run_reported_t *const reported = &problem->reported[problem->num_reported];
    const gdncp_status_t status =
        run_dump_read(dump, spec->name, spec->ndim, spec->shape, &reported->expected);

    if (status != GDNCP_OK) {
        return status;
    }
    snprintf(reported->name, sizeof reported->name, "%s", name);
    reported->output = problem->num_outputs;
    reported->count = run_spec_count(spec);
    problem->num_reported++;
    problem->outputs[problem->num_outputs++] = *spec;
    return GDNCP_OK;
}

gdncp_status_t run_problem_load(const char *path, run_problem_t *problem)
{
    run_dump_t dump;
    const char *kind;
    gdncp_status_t status = run_dump_open(path, &dump);

    if (status != GDNCP_OK) {
        return status;
    }
    *problem = (run_problem_t){.path = path};
    status = run_dump_text(&dump, "kind", &kind);
    if (status != GDNCP_OK) {
        goto close_dump;
    }
    if (strcmp(kind, "layer") == 0) {
        status = run_problem_load_layer(&dump, problem);
    } else if (strcmp(kind, "rule") == 0) {
        status = run_problem_load_rule(&dump, problem);
    } else {
        status = run_fail(GDNCP_ERR_FORMAT,
                          "%s: metadata 'kind': expected layer or rule, got '%.80s'", path, kind);
    }
    if (status != GDNCP_OK) {
        run_problem_release(problem);
    }
close_dump:
    gdncp_safetensors_close(dump.file);
    return status;
}

static void drop_expected(run_problem_t *problem)
{
    for (int i = 0; i < problem->num_reported; i++) {
        free(problem->reported[i].expected);
        problem->reported[i].expected = NULL;
    }
}

void run_problem_release(run_problem_t *problem)
{
    drop_expected(problem);
    for (int i = 0; i < problem->num_inputs; i++) {
        free(problem->inputs[i].values);
    }
    free(problem->sequences.cu_seqlens);
    free(problem->sequences.cu_seqlens_padded);
    *problem = (run_problem_t){0};
}

gdncp_status_t run_problem_round(run_problem_t *problem)
{
    for (int i = 0; i < problem->num_inputs; i++) {
        const run_input_t *const input = &problem->inputs[i];
        const int64_t count = run_spec_count(&input->spec);
        void *const narrow = run_alloc((size_t)count, gdncp_dtype_size(GDNCP_BF16), "rounding");

        if (narrow == NULL) {
            return GDNCP_ERR_OUT_OF_MEMORY;
        }
        gdncp_status_t status = gdncp_convert_from_f32(input->values, count, GDNCP_BF16, narrow);
        if (status == GDNCP_OK) {
            status = gdncp_convert_to_f32(GDNCP_BF16, narrow, count, input->values);
        }
        free(narrow);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    drop_expected(problem);
    return GDNCP_OK;
}

bool run_problem_has_expected(const run_problem_t *problem)
{
    return problem->num_reported > 0 && problem->reported[0].expected != NULL;
}

/* FNV-1a (Fowler, Noll, Vo). */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *const p = data;

    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ p[i]) * 0x100000001b3u;
    }
    return hash;
}

gdncp_status_t run_problem_layout(const run_problem_t *problem, gdncp_layout_kind_t kind, int ranks,
                                  gdncp_layout_t **layout_p)
{
    const run_sequences_t *const sequences = &problem->sequences;

    return gdncp_layout_create_padded(kind, sequences->cu_seqlens, sequences->cu_seqlens_padded,
                                      sequences->count, ranks, layout_p);
}

uint64_t run_problem_hash(const run_problem_t *problem)
{
    const run_sequences_t *const sequences = &problem->sequences;
    const size_t offset_bytes = ((size_t)sequences->count + 1) * sizeof *sequences->cu_seqlens;
    uint64_t hash = 0xcbf29ce484222325u;

    hash = hash_bytes(hash, &problem->kind, sizeof problem->kind);
    hash = hash_bytes(hash, sequences->cu_seqlens, offset_bytes);
    if (sequences->cu_seqlens_padded != NULL) {
        hash = hash_bytes(hash, sequences->cu_seqlens_padded, offset_bytes);
    }
    for (int i = 0; i < problem->num_inputs; i++) {
        const run_input_t *const input = &problem->inputs[i];

        hash = hash_bytes(hash, input->spec.shape,
                          (size_t)input->spec.ndim * sizeof input->spec.shape[0]);
        hash = hash_bytes(hash, input->values,
                          (size_t)run_spec_count(&input->spec) * sizeof *input->values);
    }
    return hash;
}

gdncp_status_t run_problem_report(const run_problem_t *problem, const run_reported_t *reported,
                                  float *const *outputs, float *values)
{
    const void *parameters[GDNCP_NUM_PARAMETERS];

    if (reported->output >= 0) {
        memcpy(values, outputs[reported->output], (size_t)reported->count * sizeof *values);
        return GDNCP_OK;
    }
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        parameters[p] = outputs[RUN_LAYER_FIRST_PARAMETER_GRAD + p];
    }
    return gdncp_family_scatter(problem->family, &problem->layer.shape, reported->family_tensor,
                                sizeof(float), parameters, values);
}
