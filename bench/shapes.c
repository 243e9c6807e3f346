/* Shapes of models, and small ones for checks. */
#include "bench.h"

#include <string.h>

static const struct {
    const char *name;
    bench_shape_t shape;
} models[] = {
    {"qwen3_next",
     {.hidden = 2048, .key_heads = 16, .value_heads = 32, .key_dim = 128, .value_dim = 128}},
    {"qwen3_5_9b",
     {.hidden = 4096, .key_heads = 16, .value_heads = 32, .key_dim = 128, .value_dim = 128}},
    {"qwen3_5_27b",
     {.hidden = 5120, .key_heads = 16, .value_heads = 48, .key_dim = 128, .value_dim = 128}},
    {"qwen3_5_397b",
     {.hidden = 4096, .key_heads = 16, .value_heads = 64, .key_dim = 128, .value_dim = 128}},
    {"olmo_hybrid",
     {.hidden = 3840, .key_heads = 30, .value_heads = 30, .key_dim = 96, .value_dim = 192}},
};

bool bench_shape_of_model(const char *name, bench_shape_t *shape)
{
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        if (strcmp(models[i].name, name) == 0) {
            const int64_t tokens = shape->tokens;
            const int64_t batch = shape->batch;

            *shape = models[i].shape;
            shape->tokens = tokens;
            shape->batch = batch;
            return true;
        }
    }
    return false;
}

const char *bench_model_names(void)
{
    return "qwen3_next, qwen3_5_9b, qwen3_5_27b, qwen3_5_397b, olmo_hybrid";
}

static int64_t at_most(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

bench_shape_t bench_shape_to_check(const bench_shape_t *shape)
{
    bench_shape_t small = *shape;
    const int64_t group = shape->value_heads / shape->key_heads;

    /* Two chunks, of which one is not full; where a key head serves few value heads, two of it. */
    small.tokens = at_most(shape->tokens, BENCH_CHUNK + 25);
    small.batch = at_most(shape->batch, 3);
    small.hidden = at_most(shape->hidden, 72);
    small.key_heads = at_most(shape->key_heads, group > 2 ? 1 : 2);
    small.value_heads = small.key_heads * group;
    return small;
}
