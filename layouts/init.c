/* Values of new parameters, each a function of its own place. */
#include "gdncp/init.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>

#include "error.h"
#include "philox.h"
#include "place.h"

gdncp_status_t gdncp_philox_4x32(const uint32_t *counter, const uint32_t *key, uint32_t *out)
{
    gdncp_random_words_t words;

    if (counter == NULL || key == NULL || out == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          counter == NULL ? "counter: expected 4 words"
                          : key == NULL   ? "key: expected 2 words"
                                          : "out: expected a place for 4 words");
    }
    words = gdncp_philox((gdncp_random_words_t){{counter[0], counter[1], counter[2], counter[3]}},
                         (uint64_t)key[1] << 32 | key[0]);
    for (int i = 0; i < 4; i++) {
        out[i] = words.word[i];
    }
    return GDNCP_OK;
}

gdncp_init_t gdncp_init_default(uint64_t seed, uint32_t layer)
{
    return (gdncp_init_t){
        .seed = seed,
        .layer = layer,
        .A_min = 1.0,
        .A_max = 16.0,
        .dt = GDNCP_DT_ONES,
        .dt_min = 0.001,
        .dt_max = 0.1,
        .dt_floor = 1e-4,
        .in_proj_std = 0.02,
        .out_proj_std = 0.02,
    };
}

static gdncp_status_t check_init(const gdncp_init_t *init)
{
    if (init == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "init: expected a description, got NULL");
    }
    if (init->dt != GDNCP_DT_ONES && init->dt != GDNCP_DT_LOG_UNIFORM) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "init.dt: expected GDNCP_DT_ONES or GDNCP_DT_LOG_UNIFORM, got %d",
                          (int)init->dt);
    }

    const bool uses_dt = init->dt == GDNCP_DT_LOG_UNIFORM;
    const struct {
        const char *name;
        double value;
        double least;
        bool may_be_least;
        bool is_used;
    } members[] = {
        {"A_min", init->A_min, 0.0, true, true},
        {"A_max", init->A_max, init->A_min, true, true},
        {"A_max", init->A_max, 0.0, false, true},
        {"dt_min", init->dt_min, 0.0, false, uses_dt},
        {"dt_max", init->dt_max, init->dt_min, true, uses_dt},
        {"dt_floor", init->dt_floor, 0.0, true, uses_dt},
        {"conv_bound", init->conv_bound, 0.0, true, true},
        {"in_proj_std", init->in_proj_std, 0.0, true, true},
        {"out_proj_std", init->out_proj_std, 0.0, true, true},
    };

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const double value = members[i].value;
        const bool is_enough =
            value > members[i].least || (members[i].may_be_least && value == members[i].least);

        if (members[i].is_used && !(is_enough && isfinite(value))) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "init.%s: expected a finite number %s %g, got %g", members[i].name,
                              members[i].may_be_least ? "of at least" : "above", members[i].least,
                              value);
        }
    }
    return GDNCP_OK;
}

/* In (0, 1), and never either end. */
static double uniform(uint32_t high, uint32_t low)
{
    const uint64_t k = ((uint64_t)high << 32 | low) >> 12;

    return ((double)k + 0.5) * 0x1p-52;
}

/* By Box and Muller. */
static double normal(const gdncp_random_words_t *words)
{
    const double two_pi = 6.283185307179586;
    const double radius = sqrt(-2.0 * log(uniform(words->word[0], words->word[1])));

    return radius * cos(two_pi * uniform(words->word[2], words->word[3]));
}

/* x with log(1 + exp(x)) = dt. */
static double inverse_softplus(double dt)
{
    return dt + log(-expm1(-dt));
}

static double value_of_dt_bias(const gdncp_init_t *init, double u)
{
    const double low = log(init->dt_min);

    return init->dt == GDNCP_DT_ONES
               ? 1.0
               : inverse_softplus(fmax(exp(low + u * (log(init->dt_max) - low)), init->dt_floor));
}

/* What the bias of the convolution is to the generator, beside the parameters. */
enum { CONV_BIAS = GDNCP_NUM_PARAMETERS };

/* Element `index` of a whole parameter, or of the convolution's bias. */
static double value_of(const gdncp_init_t *init, const gdncp_layer_shape_t *shape, int parameter,
                       int64_t index)
{
    const double default_bound = 1.0 / sqrt((double)shape->conv_kernel_dim);
    const gdncp_random_words_t words =
        gdncp_philox((gdncp_random_words_t){{(uint32_t)index, (uint32_t)((uint64_t)index >> 32),
                                             (uint32_t)parameter, init->layer}},
                     init->seed);
    const double u = uniform(words.word[0], words.word[1]);

    switch (parameter) {
    case GDNCP_PARAMETER_IN_PROJ_WEIGHT:
        return init->in_proj_std * normal(&words);
    case GDNCP_PARAMETER_OUT_PROJ_WEIGHT:
        return init->out_proj_std * normal(&words);
    case GDNCP_PARAMETER_CONV_WEIGHT:
        return (2.0 * u - 1.0) * (init->conv_bound > 0.0 ? init->conv_bound : default_bound);
    case CONV_BIAS:
        return (2.0 * u - 1.0) * default_bound;
    case GDNCP_PARAMETER_A_LOG:
        return log(init->A_min + u * (init->A_max - init->A_min));
    case GDNCP_PARAMETER_DT_BIAS:
        return value_of_dt_bias(init, u);
    default:
        return init->norm_adds_one ? 0.0 : 1.0;
    }
}

/* The parts of a parameter that a place holds. */
typedef struct part {
    gdncp_held_rows_t blocks[GDNCP_MAX_SECTIONS];
    int64_t num_blocks;
    int64_t full_rows;
    int64_t rows;
    int64_t outer;
    int64_t inner;
} part_t;

static gdncp_status_t find_part(const gdncp_layer_shape_t *shape, const gdncp_place_t *place,
                                gdncp_parameter_t parameter, part_t *part)
{
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    gdncp_status_t status = gdncp_layer_shape_check(shape);

    if (status == GDNCP_OK) {
        status = gdncp_place_check(place);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (parameter == GDNCP_PARAMETER_NORM_WEIGHT) { /* whole on every rank */
        const int64_t rows = shape->value_head_dim;

        *part = (part_t){{{.rows = rows}}, 1, rows, rows, 1, 1};
        return GDNCP_OK;
    }
    status = gdncp_parameter_split(shape, parameter, sections, &split, &part->outer, &part->inner);
    if (status == GDNCP_OK) {
        status = gdncp_split_blocks(&split, GDNCP_EXTENT_WHOLE, place, part->blocks);
    }
    if (status == GDNCP_OK) {
        part->num_blocks = split.num_sections;
        part->full_rows = split.rows;
        status = gdncp_split_rows(&split, place, &part->rows);
    }
    return status;
}

static gdncp_status_t fill(const gdncp_init_t *init, const gdncp_layer_shape_t *shape,
                           int parameter, const part_t *part, const char *name, float *data)
{
    if (data == NULL && part->rows > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "data: expected the memory of %" PRId64 " elements of %s, got NULL",
                          part->outer * part->rows * part->inner, name);
    }
    for (int64_t o = 0; o < part->outer && part->rows > 0; o++) {
        for (int64_t b = 0; b < part->num_blocks; b++) {
            const gdncp_held_rows_t *const block = &part->blocks[b];
            const int64_t from = (o * part->full_rows + block->full_row) * part->inner;
            float *const to = data + (o * part->rows + block->local_row) * part->inner;

            for (int64_t i = 0; i < block->rows * part->inner; i++) {
                to[i] = (float)value_of(init, shape, parameter, from + i);
            }
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_init_parameter(const gdncp_init_t *init, const gdncp_layer_shape_t *shape,
                                    const gdncp_place_t *place, gdncp_parameter_t parameter,
                                    float *data)
{
    part_t part;
    gdncp_status_t status = check_init(init);

    if (status == GDNCP_OK) {
        status = find_part(shape, place, parameter, &part);
    }
    return status == GDNCP_OK
               ? fill(init, shape, (int)parameter, &part, gdncp_parameter_name(parameter), data)
               : status;
}

gdncp_status_t gdncp_init_conv_bias(const gdncp_init_t *init, const gdncp_layer_shape_t *shape,
                                    const gdncp_place_t *place, float *data)
{
    part_t part;
    gdncp_status_t status = check_init(init);

    if (status == GDNCP_OK) {
        status = find_part(shape, place, GDNCP_PARAMETER_CONV_WEIGHT, &part);
        part.inner = 1; /* its weight has as many rows */
    }
    return status == GDNCP_OK ? fill(init, shape, CONV_BIAS, &part, "the convolution's bias", data)
                              : status;
}
