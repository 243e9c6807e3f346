/* Dumps of whole layers, with parameters under the names of their family. */
#include "problem_kinds.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

#define MAX_SIZE (1 << 20)

static gdncp_status_t read_config(const run_dump_t *dump, run_problem_t *problem)
{
    gdncp_layer_shape_t *const shape = &problem->layer.shape;
    const struct {
        const char *key;
        int64_t *value;
    } sizes[] = {
        {"hidden_size", &shape->hidden_size},         {"num_key_heads", &shape->num_key_heads},
        {"num_value_heads", &shape->num_value_heads}, {"key_head_dim", &shape->key_head_dim},
        {"value_head_dim", &shape->value_head_dim},   {"conv_kernel_dim", &shape->conv_kernel_dim},
    };
    const char *family;
    int64_t allow_neg_eigval = 0;
    gdncp_status_t status = run_dump_text(dump, "family", &family);

    if (status == GDNCP_OK) {
        status = gdncp_family_from_name(family, &problem->family);
        if (status != GDNCP_OK) {
            return run_fail(status, "%s: metadata 'family': %s", dump->path, gdncp_last_error());
        }
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && status == GDNCP_OK; i++) {
        status = run_dump_integer(dump, sizes[i].key, 1, MAX_SIZE, sizes[i].value);
    }
    if (status == GDNCP_OK) {
        status = run_dump_positive(dump, "norm_eps", &problem->layer.norm_eps);
    }
    if (status == GDNCP_OK) {
        status = run_dump_integer(dump, "allow_neg_eigval", 0, 1, &allow_neg_eigval);
    }
    problem->layer.allow_neg_eigval = allow_neg_eigval == 1;
    if (status == GDNCP_OK) {
        status = gdncp_layer_shape_check(shape);
        if (status != GDNCP_OK) {
            return run_fail(status, "%s: metadata: %s", dump->path, gdncp_last_error());
        }
    }
    return status;
}

static bool is_parameter_of(const run_problem_t *problem, const char *name)
{
    gdncp_family_tensor_t tensor;

    for (int64_t i = 0; i < gdncp_family_num_tensors(problem->family); i++) {
        if (gdncp_family_tensor(problem->family, &problem->layer.shape, i, &tensor) == GDNCP_OK &&
            strcmp(tensor.name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A parameter that the family does not have, say a bias, would be left out in silence. */
static gdncp_status_t check_no_other_parameters(const run_dump_t *dump,
                                                const run_problem_t *problem)
{
    static const char *const prefixes[] = {"param.", "grad."};

    for (int64_t i = 0; i < gdncp_safetensors_num_tensors(dump->file); i++) {
        const char *const name = gdncp_safetensors_name(dump->file, i);

        for (int p = 0; p < 2; p++) {
            const size_t length = strlen(prefixes[p]);

            if (strncmp(name, prefixes[p], length) == 0 &&
                !is_parameter_of(problem, name + length)) {
                return run_fail(GDNCP_ERR_FORMAT,
                                "%s: tensor '%s': family %s has no parameter of that name",
                                dump->path, name, gdncp_family_name(problem->family));
            }
        }
    }
    return GDNCP_OK;
}

/* Before any memory is made for them: sizes in the metadata may be anything. */
static gdncp_status_t check_parameter_shapes(const run_dump_t *dump, const run_problem_t *problem)
{
    gdncp_family_tensor_t tensor;
    char name[80];

    for (int64_t i = 0; i < gdncp_family_num_tensors(problem->family); i++) {
        gdncp_status_t status =
            gdncp_family_tensor(problem->family, &problem->layer.shape, i, &tensor);
        if (status == GDNCP_OK) {
            snprintf(name, sizeof name, "param.%s", tensor.name);
            status = run_dump_check(dump, name, tensor.ndim, tensor.shape);
        }
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t parameter_spec(const run_problem_t *problem, gdncp_parameter_t parameter,
                                     run_spec_t *spec)
{
    *spec = (run_spec_t){
        .name = gdncp_parameter_name(parameter),
        .place = RUN_PARAMETER,
        .narrow = parameter == GDNCP_PARAMETER_IN_PROJ_WEIGHT ||
                  parameter == GDNCP_PARAMETER_OUT_PROJ_WEIGHT,
    };
    return gdncp_parameter_shape(&problem->layer.shape, parameter, &spec->ndim, spec->shape);
}

/* Inputs of zeros, for the family's tensors to be gathered into, and outputs of their shape. */
static gdncp_status_t add_parameters(run_problem_t *problem)
{
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        run_input_t *const input = &problem->inputs[problem->num_inputs];
        run_spec_t *const output = &problem->outputs[problem->num_outputs];
        const gdncp_status_t status = parameter_spec(problem, (gdncp_parameter_t)p, &input->spec);

        if (status != GDNCP_OK) {
            return status;
        }
        input->values =
            run_alloc((size_t)run_spec_count(&input->spec), sizeof(float), input->spec.name);
        if (input->values == NULL) {
            return GDNCP_ERR_OUT_OF_MEMORY;
        }
        *output = input->spec;
        output->narrow = false; /* gradients of parameters are float32 in every dtype */
        problem->num_inputs++;
        problem->num_outputs++;
    }
    return GDNCP_OK;
}

static gdncp_status_t read_parameter(const run_dump_t *dump, int64_t index, run_problem_t *problem)
{
    void *parameters[GDNCP_NUM_PARAMETERS];
    run_reported_t *const reported = &problem->reported[problem->num_reported];
    gdncp_family_tensor_t tensor;
    char name[80];
    float *values;
    gdncp_status_t status =
        gdncp_family_tensor(problem->family, &problem->layer.shape, index, &tensor);

    if (status != GDNCP_OK) {
        return status;
    }
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        parameters[p] = problem->inputs[RUN_LAYER_FIRST_PARAMETER + p].values;
    }
    snprintf(name, sizeof name, "param.%s", tensor.name);
    status = run_dump_read(dump, name, tensor.ndim, tensor.shape, &values);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_family_gather(problem->family, &problem->layer.shape, index, sizeof(float),
                                 values, parameters);
    free(values);
    if (status != GDNCP_OK) {
        return status;
    }
    *reported = (run_reported_t){.output = -1, .family_tensor = index, .count = 1};
    snprintf(reported->name, sizeof reported->name, "grad.%s", tensor.name);
    for (int d = 0; d < tensor.ndim; d++) {
        reported->count *= tensor.shape[d];
    }
    status = run_dump_read(dump, reported->name, tensor.ndim, tensor.shape, &reported->expected);
    if (status == GDNCP_OK) {
        problem->num_reported++;
    }
    return status;
}

/* Sequences of the pack that the rows of the batch make, end to end. */
static gdncp_status_t read_sequences(const run_dump_t *dump, int64_t row_tokens,
                                     run_problem_t *problem)
{
    static const char *const names[] = {"cu_seqlens", "cu_seqlens_padded"};

    if (problem->rows == 1) {
        return run_dump_sequences(dump, row_tokens, &problem->sequences);
    }
    for (int i = 0; i < 2; i++) {
        if (run_dump_has(dump, names[i])) {
            return run_fail(GDNCP_ERR_FORMAT,
                            "%s: tensor '%s': expected a batch of 1 with it, got %" PRId64,
                            dump->path, names[i], problem->rows);
        }
    }
    int64_t *const cu_seqlens =
        run_alloc((size_t)problem->rows + 1, sizeof *cu_seqlens, "cu_seqlens");
    if (cu_seqlens == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    for (int64_t row = 0; row <= problem->rows; row++) {
        cu_seqlens[row] = row * row_tokens;
    }
    problem->sequences = (run_sequences_t){.cu_seqlens = cu_seqlens, .count = problem->rows};
    return GDNCP_OK;
}

/* Hidden states are [batch, tokens, D] in the dump and [batch * tokens, D] from here on. */
static void join_rows(run_spec_t *spec)
{
    spec->shape[0] *= spec->shape[1];
    spec->shape[1] = spec->shape[2];
    spec->ndim = 2;
}

static gdncp_status_t read_token_tensors(const run_dump_t *dump, int64_t row_tokens,
                                         run_problem_t *problem)
{
    static const char *const inputs[] = {"hidden_states", "grad_output"};
    static const char *const outputs[] = {"output", "grad_hidden_states"};
    static const char *const reported[] = {"output", "grad.hidden_states"};
    run_spec_t spec = {.place = RUN_TOKENS,
                       .narrow = true,
                       .ndim = 3,
                       .shape = {problem->rows, row_tokens, problem->layer.shape.hidden_size}};

    for (int i = 0; i < 2; i++) {
        spec.name = inputs[i];
        gdncp_status_t status = run_problem_read_input(dump, &spec, problem);
        if (status == GDNCP_OK) {
            join_rows(&problem->inputs[i].spec);
            spec.name = outputs[i];
            status = run_problem_add_output(dump, &spec, reported[i], problem);
        }
        if (status != GDNCP_OK) {
            return status;
        }
        join_rows(&problem->outputs[i]);
    }
    return GDNCP_OK;
}

gdncp_status_t run_problem_load_layer(const run_dump_t *dump, run_problem_t *problem)
{
    int64_t row_tokens = 0;
    gdncp_status_t status = read_config(dump, problem);

    problem->kind = RUN_LAYER;
    problem->operation = &run_layer_operation;
    if (status == GDNCP_OK) {
        status = check_no_other_parameters(dump, problem);
    }
    if (status == GDNCP_OK) {
        status = check_parameter_shapes(dump, problem);
    }
    if (status == GDNCP_OK) {
        status = run_dump_size(dump, "hidden_states", 3, 0, &problem->rows);
    }
    if (status == GDNCP_OK) {
        status = run_dump_size(dump, "hidden_states", 3, 1, &row_tokens);
    }
    if (status == GDNCP_OK) {
        problem->tokens = problem->rows * row_tokens;
        status = read_sequences(dump, row_tokens, problem);
    }
    if (status == GDNCP_OK) {
        status = read_token_tensors(dump, row_tokens, problem);
    }
    if (status == GDNCP_OK) {
        status = add_parameters(problem);
    }
    for (int64_t i = 0; status == GDNCP_OK && i < gdncp_family_num_tensors(problem->family); i++) {
        status = read_parameter(dump, i, problem);
    }
    return status;
}
