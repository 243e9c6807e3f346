#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/safetensors.h"
#include "layer_reference.h"
#include "op_case.h"
#include "random.h"
#include "tolerances.h"

/* A layer with its gradients, as a file or random numbers give it. */
typedef struct layer_case {
    test_arena_t arena;
    gdncp_layer_reference_t layer;
    int64_t num_tokens;
    double *hidden, *grad_output; /* [T, hidden size] */
    double *parameters[GDNCP_NUM_PARAMETERS];
    double *output, *grad_hidden; /* [T, hidden size] */
    double *grads[GDNCP_NUM_PARAMETERS];
} layer_case_t;

static int64_t parameter_elements(const gdncp_layer_shape_t *shape, gdncp_parameter_t parameter)
{
    int ndim;
    int64_t dims[2] = {1, 1};

    assert_int_equal(gdncp_parameter_shape(shape, parameter, &ndim, dims), GDNCP_OK);
    return ndim == 2 ? dims[0] * dims[1] : dims[0];
}

/* Room for all that belongs to a shape and a number of tokens. */
static void alloc_case(layer_case_t *c)
{
    const int64_t count = c->num_tokens * c->layer.shape.hidden_size;

    c->hidden = test_doubles(&c->arena, count);
    c->grad_output = test_doubles(&c->arena, count);
    c->output = test_doubles(&c->arena, count);
    c->grad_hidden = test_doubles(&c->arena, count);
    c->layer.hidden = c->hidden;
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        const int64_t elements = parameter_elements(&c->layer.shape, (gdncp_parameter_t)i);

        c->parameters[i] = test_doubles(&c->arena, elements);
        c->grads[i] = test_doubles(&c->arena, elements);
        c->layer.parameters[i] = c->parameters[i];
    }
}

/* ----- a layer out of a file */

typedef struct layer_file {
    gdncp_safetensors_t *file;
    gdncp_family_t family;
    const char *path;
} layer_file_t;

static const float *tensor_of(const layer_file_t *file, const char *prefix, const char *name,
                              gdncp_tensor_t *tensor)
{
    char full_name[128];

    assert_true(snprintf(full_name, sizeof full_name, "%s%s", prefix, name) <
                (int)sizeof full_name);
    assert_int_equal(gdncp_safetensors_get(file->file, full_name, tensor), GDNCP_OK);
    assert_int_equal(tensor->dtype, GDNCP_F32);
    return tensor->data;
}

static double *widened(test_arena_t *arena, const float *values, int64_t count)
{
    double *const wide = test_doubles(arena, count);

    for (int64_t i = 0; i < count; i++) {
        wide[i] = (double)values[i];
    }
    return wide;
}

static const char *metadata_of(const layer_file_t *file, const char *key)
{
    const char *const value = gdncp_safetensors_metadata(file->file, key);

    assert_non_null(value);
    return value;
}

static int64_t integer_of(const layer_file_t *file, const char *key)
{
    return strtoll(metadata_of(file, key), NULL, 10);
}

/* cu_seqlens as the file has them, or one sequence a row of the batch. */
static void read_sequences(const layer_file_t *file, const gdncp_tensor_t *hidden, layer_case_t *c)
{
    gdncp_tensor_t tensor;
    int64_t *rows;

    if (gdncp_safetensors_get(file->file, "cu_seqlens", &tensor) == GDNCP_OK) {
        assert_int_equal(tensor.dtype, GDNCP_I64);
        assert_int_equal(hidden->shape[0], 1);
        c->layer.cu_seqlens = tensor.data;
        c->layer.num_sequences = tensor.shape[0] - 1;
        return;
    }
    rows = test_arena_alloc(&c->arena, (hidden->shape[0] + 1) * (int64_t)sizeof *rows);
    for (int64_t i = 0; i <= hidden->shape[0]; i++) {
        rows[i] = i * hidden->shape[1];
    }
    c->layer.cu_seqlens = rows;
    c->layer.num_sequences = hidden->shape[0];
}

static void read_parameters(const layer_file_t *file, layer_case_t *c)
{
    for (int64_t i = 0; i < gdncp_family_num_tensors(file->family); i++) {
        gdncp_family_tensor_t expected;
        gdncp_tensor_t tensor;

        assert_int_equal(gdncp_family_tensor(file->family, &c->layer.shape, i, &expected),
                         GDNCP_OK);
        const float *const values = tensor_of(file, "param.", expected.name, &tensor);
        const int64_t count = gdncp_tensor_num_elements(&tensor);

        assert_int_equal(tensor.ndim, expected.ndim);
        assert_memory_equal(tensor.shape, expected.shape,
                            (size_t)tensor.ndim * sizeof tensor.shape[0]);
        assert_int_equal(gdncp_family_gather(file->family, &c->layer.shape, i, sizeof(double),
                                             widened(&c->arena, values, count),
                                             (void *const *)c->parameters),
                         GDNCP_OK);
    }
}

static layer_case_t read_case(const layer_file_t *file)
{
    gdncp_tensor_t hidden;
    gdncp_tensor_t grad_output;
    layer_case_t c = {0};
    const float *const hidden_values = tensor_of(file, "", "hidden_states", &hidden);
    const float *const grad_values = tensor_of(file, "", "grad_output", &grad_output);
    const int64_t count = gdncp_tensor_num_elements(&hidden);

    assert_int_equal(hidden.ndim, 3);
    assert_int_equal(gdncp_tensor_num_elements(&grad_output), count);
    c.layer.shape = (gdncp_layer_shape_t){
        .hidden_size = integer_of(file, "hidden_size"),
        .num_key_heads = integer_of(file, "num_key_heads"),
        .num_value_heads = integer_of(file, "num_value_heads"),
        .key_head_dim = integer_of(file, "key_head_dim"),
        .value_head_dim = integer_of(file, "value_head_dim"),
        .conv_kernel_dim = integer_of(file, "conv_kernel_dim"),
    };
    c.layer.norm_eps = strtod(metadata_of(file, "norm_eps"), NULL);
    c.layer.allow_neg_eigval = integer_of(file, "allow_neg_eigval") != 0;
    read_sequences(file, &hidden, &c);
    c.num_tokens = hidden.shape[0] * hidden.shape[1];
    assert_int_equal(c.layer.cu_seqlens[c.layer.num_sequences], c.num_tokens);
    alloc_case(&c);
    c.hidden = widened(&c.arena, hidden_values, count);
    c.layer.hidden = c.hidden;
    c.grad_output = widened(&c.arena, grad_values, count);
    read_parameters(file, &c);
    return c;
}

/* The file's tensor against the reference's; each tensor by itself, as small ones would hide. */
static void check_file_tensor(const layer_file_t *file, const char *prefix, const char *name,
                              const double *reference, double tolerance)
{
    gdncp_tensor_t tensor;
    char what[256];
    const float *const values = tensor_of(file, prefix, name, &tensor);

    snprintf(what, sizeof what, "%s %s%s", strrchr(file->path, '/') + 1, prefix, name);
    assert_rms_ratio(what, values, reference, gdncp_tensor_num_elements(&tensor), tolerance);
}

static void check_file(void **state)
{
    layer_file_t file = {.path = *state};

    assert_int_equal(gdncp_safetensors_open(file.path, &file.file), GDNCP_OK);
    assert_int_equal(gdncp_family_from_name(metadata_of(&file, "family"), &file.family), GDNCP_OK);
    layer_case_t c = read_case(&file);

    assert_int_equal(gdncp_layer_reference_forward(&c.layer, c.output), GDNCP_OK);
    check_file_tensor(&file, "", "output", c.output, GDNCP_TOLERANCE_F32);

    assert_int_equal(
        gdncp_layer_reference_backward(&c.layer, c.grad_output, c.grad_hidden, c.grads), GDNCP_OK);
    check_file_tensor(&file, "", "grad_hidden_states", c.grad_hidden, GDNCP_TOLERANCE_F32);
    for (int64_t i = 0; i < gdncp_family_num_tensors(file.family); i++) {
        gdncp_family_tensor_t tensor;

        assert_int_equal(gdncp_family_tensor(file.family, &c.layer.shape, i, &tensor), GDNCP_OK);
        int64_t count = 1;

        for (int dim = 0; dim < tensor.ndim; dim++) {
            count *= tensor.shape[dim];
        }
        double *const grad = test_doubles(&c.arena, count);

        assert_int_equal(gdncp_family_scatter(file.family, &c.layer.shape, i, sizeof(double),
                                              (const void *const *)c.grads, grad),
                         GDNCP_OK);
        check_file_tensor(&file, "grad.", tensor.name, grad, GDNCP_TOLERANCE_F32);
    }
    test_arena_free(&c.arena);
    gdncp_safetensors_close(file.file);
}

/* ----- finite differences */

static double loss_of(void *context)
{
    layer_case_t *const c = context;
    double loss = 0.0;

    assert_int_equal(gdncp_layer_reference_forward(&c->layer, c->output), GDNCP_OK);
    for (int64_t i = 0; i < c->num_tokens * c->layer.shape.hidden_size; i++) {
        loss += c->grad_output[i] * c->output[i];
    }
    return loss;
}

static void fill(test_random_t *random, double *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = test_random_normal(random);
    }
}

static void gradients_are_finite_differences(void **state)
{
    static const int64_t cu_seqlens[] = {0, 5, 5, 6, 11};
    test_random_t random = test_random_start(__func__, 1);
    layer_case_t c = {.num_tokens = 11};

    (void)state;
    c.layer = (gdncp_layer_reference_t){.shape = {.hidden_size = 5,
                                                  .num_key_heads = 2,
                                                  .num_value_heads = 4,
                                                  .key_head_dim = 3,
                                                  .value_head_dim = 2,
                                                  .conv_kernel_dim = 3},
                                        .norm_eps = 1e-3,
                                        .allow_neg_eigval = true,
                                        .cu_seqlens = cu_seqlens,
                                        .num_sequences = 4};
    alloc_case(&c);
    fill(&random, c.hidden, 55);
    fill(&random, c.grad_output, 55);
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        fill(&random, c.parameters[i], parameter_elements(&c.layer.shape, (gdncp_parameter_t)i));
    }
    assert_int_equal(
        gdncp_layer_reference_backward(&c.layer, c.grad_output, c.grad_hidden, c.grads), GDNCP_OK);
    assert_gradient("hidden", loss_of, &c, c.hidden, c.grad_hidden, 55);
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        assert_gradient(gdncp_parameter_name((gdncp_parameter_t)i), loss_of, &c, c.parameters[i],
                        c.grads[i], parameter_elements(&c.layer.shape, (gdncp_parameter_t)i));
    }
    test_arena_free(&c.arena);
}

int main(void)
{
    glob_t files;
    struct CMUnitTest *tests;
    size_t num_tests = 1;
    int failed = 1;

    if (glob(GDNCP_TEST_DATA "/layer_*.safetensors", 0, NULL, &files) != 0) {
        fprintf(stderr, "no layer in %s\n", GDNCP_TEST_DATA);
        return 1;
    }
    tests = calloc(files.gl_pathc + 1, sizeof *tests);
    if (tests == NULL) {
        goto free_files;
    }
    tests[0] = (struct CMUnitTest)cmocka_unit_test(gradients_are_finite_differences);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        tests[num_tests++] = (struct CMUnitTest){.name = strrchr(files.gl_pathv[i], '/') + 1,
                                                 .test_func = check_file,
                                                 .initial_state = files.gl_pathv[i]};
    }
    /* What the macro cmocka_run_group_tests_name() stands for, as it takes arrays only. */
    failed = _cmocka_run_group_tests("layer_reference", tests, num_tests, NULL, NULL);
    free(tests);
free_files:
    globfree(&files);
    return failed;
}
