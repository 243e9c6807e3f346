/* Layer patterns and pipeline stages: Megatron's where it has one, and every layer on one stage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/pattern.h"
#include "support/refused.h"

enum { MAX_LAYERS = 128 };

static void check_attention(int64_t num_layers, const gdncp_frequency_t *frequency,
                            const char *expected)
{
    gdncp_attention_kind_t kinds[MAX_LAYERS];

    assert_int_equal(strlen(expected), num_layers);
    assert_int_equal(gdncp_attention_pattern(num_layers, frequency, kinds), GDNCP_OK);
    for (int64_t i = 0; i < num_layers; i++) {
        assert_int_equal(kinds[i],
                         expected[i] == 'L' ? GDNCP_ATTENTION_LINEAR : GDNCP_ATTENTION_FULL);
    }
}

static void check_mlp(int64_t num_layers, const gdncp_frequency_t *frequency, const char *expected)
{
    gdncp_mlp_kind_t kinds[MAX_LAYERS];

    assert_int_equal(strlen(expected), num_layers);
    assert_int_equal(gdncp_mlp_pattern(num_layers, frequency, kinds), GDNCP_OK);
    for (int64_t i = 0; i < num_layers; i++) {
        assert_int_equal(kinds[i], expected[i] == 'E' ? GDNCP_MLP_EXPERTS : GDNCP_MLP_DENSE);
    }
}

static void patterns_are_megatrons(void **state)
{
    const int64_t list[] = {1, 0, 0, 1, 1};

    (void)state;
    check_attention(10, &(gdncp_frequency_t){.every = 4}, "LLLFLLLFLL");
    check_attention(4, &(gdncp_frequency_t){.every = 1}, "FFFF");
    check_attention(5, &(gdncp_frequency_t){.every = 2}, "LFLFL");
    check_attention(3, &(gdncp_frequency_t){.every = INT64_MAX}, "LLL");
    check_attention(5, &(gdncp_frequency_t){.list = list, .list_length = 5}, "LFFLL");
    check_mlp(7, &(gdncp_frequency_t){.every = 3}, "EddEddE");
    check_mlp(3, &(gdncp_frequency_t){.every = 1}, "EEE");
    check_mlp(3, &(gdncp_frequency_t){.every = INT64_MAX}, "Edd");
    check_mlp(5, &(gdncp_frequency_t){.list = list, .list_length = 5}, "EddEE");
}

static gdncp_layer_range_t range_of(const gdncp_pipeline_t *pipeline, int rank, int virtual_stage)
{
    gdncp_layer_range_t range = {-7, -7};

    assert_int_equal(gdncp_pipeline_layers(pipeline, rank, virtual_stage, &range), GDNCP_OK);
    return range;
}

/* "first+count" of each rank's stages: those of rank 0, then those of rank 1, ... */
static void check_stages(const gdncp_pipeline_t *pipeline, const int64_t (*expected)[2])
{
    for (int rank = 0; rank < pipeline->num_ranks; rank++) {
        for (int stage = 0; stage < pipeline->num_virtual_stages; stage++) {
            const gdncp_layer_range_t range = range_of(pipeline, rank, stage);

            assert_int_equal(range.first, (*expected)[0]);
            assert_int_equal(range.count, (*expected)[1]);
            expected++;
        }
    }
}

/* What get_transformer_layer_offset() and get_num_layers_to_build() give. */
static void stages_are_megatrons(void **state)
{
    const int64_t even[][2] = {{0, 3}, {3, 3}, {6, 3}, {9, 3}};
    const int64_t interleaved[][2] = {{0, 1}, {2, 1}, {4, 1}, {6, 1},
                                      {1, 1}, {3, 1}, {5, 1}, {7, 1}};
    const int64_t two_and_two[][2] = {{0, 2}, {4, 2}, {2, 2}, {6, 2}};
    const int64_t first_less[][2] = {{0, 1}, {1, 4}, {5, 4}};
    const int64_t both[][2] = {{0, 1}, {1, 3}, {4, 3}, {7, 2}};
    const int64_t both_of_two[][2] = {{0, 5}, {5, 3}};
    const int64_t last_interleaved[][2] = {{0, 2}, {5, 2}, {2, 2}, {7, 2}, {4, 1}, {9, 1}};
    const int64_t with_embedding[][2] = {{0, 3}, {3, 4}, {7, 4}, {11, 3}};
    const int64_t with_embedding_only[][2] = {{0, 1}, {3, 2}, {1, 2}, {5, 2}};
    const int64_t nothing_but[][2] = {{0, 0}, {0, 1}, {1, 1}, {2, 0}};
    const int64_t none_between[][2] = {{0, 4}, {4, 0}, {4, 4}};
    const int64_t alone[][2] = {{0, 6}};

    (void)state;
    check_stages(&(gdncp_pipeline_t){12, 4, 1, 0, 0, false, false}, even);
    check_stages(&(gdncp_pipeline_t){8, 2, 4, 0, 0, false, false}, interleaved);
    check_stages(&(gdncp_pipeline_t){8, 2, 2, 0, 0, false, false}, two_and_two);
    check_stages(&(gdncp_pipeline_t){9, 3, 1, 1, 0, false, false}, first_less);
    check_stages(&(gdncp_pipeline_t){9, 4, 1, 1, 2, false, false}, both);
    check_stages(&(gdncp_pipeline_t){8, 2, 1, 5, 3, false, false}, both_of_two);
    check_stages(&(gdncp_pipeline_t){10, 3, 2, 0, 2, false, false}, last_interleaved);
    check_stages(&(gdncp_pipeline_t){14, 4, 1, 0, 0, true, true}, with_embedding);
    check_stages(&(gdncp_pipeline_t){7, 2, 2, 0, 0, true, false}, with_embedding_only);
    check_stages(&(gdncp_pipeline_t){2, 4, 1, 0, 0, true, true}, nothing_but);
    check_stages(&(gdncp_pipeline_t){8, 3, 1, 4, 4, false, false}, none_between);
    check_stages(&(gdncp_pipeline_t){6, 1, 1, 0, 0, false, false}, alone);
    check_stages(&(gdncp_pipeline_t){6, 1, 1, 0, 0, true, true}, alone);
    check_stages(&(gdncp_pipeline_t){6, 1, 1, 6, 0, false, false}, alone);
    check_stages(&(gdncp_pipeline_t){6, 1, 1, 0, 6, false, false}, alone);
}

/* Whatever is accepted deals out all layers, in the order in which a model passes the stages. */
static int passes_all_layers(const gdncp_pipeline_t *pipeline)
{
    gdncp_layer_range_t range;
    int64_t next = 0;

    if (gdncp_pipeline_layers(pipeline, 0, 0, &range) != GDNCP_OK) {
        return 0;
    }
    for (int stage = 0; stage < pipeline->num_virtual_stages; stage++) {
        for (int rank = 0; rank < pipeline->num_ranks; rank++) {
            range = range_of(pipeline, rank, stage);
            assert_int_equal(range.first, next);
            assert_true(range.count >= 0);
            next += range.count;
        }
    }
    assert_int_equal(next, pipeline->num_layers);
    return 1;
}

static void every_layer_is_on_one_stage(void **state)
{
    int accepted = 0;

    (void)state;
    for (int i = 0; i < 30 * 5 * 4 * 5 * 5 * 4; i++) {
        const gdncp_pipeline_t pipeline = {
            .num_layers = 1 + i % 30,
            .num_ranks = 1 + i / 30 % 5,
            .num_virtual_stages = 1 + i / 150 % 4,
            .first_rank_layers = i / 600 % 5,
            .last_rank_layers = i / 3000 % 5,
            .embedding_is_layer = i / 15000 % 2,
            .loss_is_layer = i / 30000 % 2,
        };

        accepted += passes_all_layers(&pipeline);
    }
    assert_true(accepted > 1000);
}

static void a_stages_layers_have_both_kinds(void **state)
{
    const gdncp_pipeline_t pipeline = {12, 2, 2, 0, 0, false, false};
    const gdncp_frequency_t attention = {.every = 4};
    const gdncp_frequency_t mlp = {.every = 2};
    const gdncp_stage_layer_t expected[] = {
        {6, GDNCP_ATTENTION_LINEAR, GDNCP_MLP_EXPERTS},
        {7, GDNCP_ATTENTION_FULL, GDNCP_MLP_DENSE},
        {8, GDNCP_ATTENTION_LINEAR, GDNCP_MLP_EXPERTS},
    };
    gdncp_stage_layer_t layers[4];

    (void)state;
    memset(layers, 0x5a, sizeof layers);
    assert_int_equal(gdncp_pipeline_stage(&pipeline, 0, 1, &attention, &mlp, 3, layers), GDNCP_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(layers[i].layer, expected[i].layer);
        assert_int_equal(layers[i].attention, expected[i].attention);
        assert_int_equal(layers[i].mlp, expected[i].mlp);
    }
    assert_int_equal(layers[3].layer, 0x5a5a5a5a5a5a5a5a);

    assert_int_equal(gdncp_pipeline_stage(&pipeline, 1, 1, NULL, NULL, 12, layers), GDNCP_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(layers[i].layer, 9 + i);
        assert_int_equal(layers[i].attention, GDNCP_ATTENTION_FULL);
        assert_int_equal(layers[i].mlp, GDNCP_MLP_DENSE);
    }
}

static void frequencies_are_checked(void **state)
{
    const int64_t list[] = {1, 0, 2};
    const int64_t negative[] = {-1, 0, 1};
    const struct {
        gdncp_frequency_t frequency;
        const char *member;
        const char *got;
    } cases[] = {
        {{.every = 0}, ".every:", "at least 1, or a list, got 0"},
        {{.every = -4}, ".every:", "got -4"},
        {{4, list, 3}, ".every:", "0 beside a list, got 4"},
        {{4, NULL, 3}, ".list_length:", "0 without a list, got 3"},
        {{0, list, 2}, ".list_length:", "expected 3, as there are layers, got 2"},
        {{0, list, 4}, ".list_length:", "expected 3, as there are layers, got 4"},
        {{0, list, 3}, ".list[2]:", "0 or 1, got 2"},
        {{0, negative, 3}, ".list[0]:", "0 or 1, got -1"},
    };
    const gdncp_frequency_t good = {.every = 4};
    const gdncp_pipeline_t pipeline = {.num_layers = 3, .num_ranks = 1, .num_virtual_stages = 1};
    gdncp_attention_kind_t attention[3] = {(gdncp_attention_kind_t)77};
    gdncp_mlp_kind_t mlp[3] = {(gdncp_mlp_kind_t)77};
    gdncp_stage_layer_t layers[3] = {{.layer = 77}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const gdncp_frequency_t *const bad = &cases[i].frequency;
        char argument[64];

        snprintf(argument, sizeof argument, "frequency%s", cases[i].member);
        check_refused(gdncp_attention_pattern(3, bad, attention), argument, cases[i].got);
        check_refused(gdncp_mlp_pattern(3, bad, mlp), argument, cases[i].got);
        snprintf(argument, sizeof argument, "attention%s", cases[i].member);
        check_refused(gdncp_pipeline_stage(&pipeline, 0, 0, bad, &good, 3, layers), argument,
                      cases[i].got);
        snprintf(argument, sizeof argument, "mlp%s", cases[i].member);
        check_refused(gdncp_pipeline_stage(&pipeline, 0, 0, &good, bad, 3, layers), argument,
                      cases[i].got);
    }
    check_refused(gdncp_attention_pattern(0, &good, attention), "num_layers:", "got 0");
    check_refused(gdncp_mlp_pattern(-3, &good, mlp), "num_layers:", "got -3");
    check_refused(gdncp_attention_pattern(3, NULL, attention), "frequency:", "NULL");
    check_refused(gdncp_mlp_pattern(3, NULL, mlp), "frequency:", "NULL");
    check_refused(gdncp_attention_pattern(3, &good, NULL), "kinds:", "3 layers, got NULL");
    check_refused(gdncp_mlp_pattern(3, &good, NULL), "kinds:", "3 layers, got NULL");
    check_refused(gdncp_pipeline_stage(&pipeline, 0, 0, &good, &good, 2, layers),
                  "capacity:", "at least the stage's 3 layers, got 2");
    check_refused(gdncp_pipeline_stage(&pipeline, 0, 0, &good, &good, 3, NULL),
                  "layers:", "3 layers, got NULL");
    check_refused(gdncp_pipeline_stage(NULL, 0, 0, &good, &good, 3, layers), "pipeline:", "NULL");
    assert_int_equal(attention[0], 77);
    assert_int_equal(mlp[0], 77);
    assert_int_equal(layers[0].layer, 77);
}

static void pipelines_are_checked(void **state)
{
    const struct {
        gdncp_pipeline_t pipeline;
        const char *argument;
        const char *got;
    } cases[] = {
        {{0, 2, 1, 0, 0, false, false}, "pipeline.num_layers:", "at least 1, got 0"},
        {{-8, 2, 1, 0, 0, false, false}, "pipeline.num_layers:", "got -8"},
        {{8, 0, 1, 0, 0, false, false}, "pipeline.num_ranks:", "at least 1, got 0"},
        {{8, 2, 0, 0, 0, false, false}, "pipeline.num_virtual_stages:", "at least 1, got 0"},
        {{8, 2, 1, -1, 0, false, false}, "pipeline.first_rank_layers:", "at least 0, got -1"},
        {{8, 2, 1, 0, -2, false, false}, "pipeline.last_rank_layers:", "at least 0, got -2"},
        {{8, 1, 2, 0, 0, false, false}, "pipeline.num_virtual_stages:", "1 with one rank, got 2"},
        {{8, 2, 1, 3, 0, true, false}, "pipeline.embedding_is_layer:", "expected false"},
        {{8, 2, 1, 0, 3, false, true}, "pipeline.loss_is_layer:", "expected false"},
        {{9, 2, 1, 0, 0, false, false},
         "pipeline.num_layers:",
         "which 2 ranks get equally many, got 9, which makes 9 to"},
        {{8, 2, 1, 0, 0, true, false},
         "pipeline.num_layers:",
         "which 2 ranks get equally many, got 8, which makes 9 to"},
        {{8, 2, 3, 0, 0, false, false},
         "pipeline.num_virtual_stages:",
         "the 4 layers of each rank, got 3"},
        {{12, 4, 1, 1, 0, false, false},
         "pipeline.num_layers:",
         "which 3 ranks get equally many, got 12, which makes 11 to"},
        {{12, 2, 1, 5, 6, false, false},
         "pipeline.num_layers:",
         "which 0 ranks get equally many, got 12, which makes 1 to"},
        {{12, 4, 2, 3, 5, false, false},
         "pipeline.num_virtual_stages:",
         "layers of the first rank"},
        {{12, 4, 2, 4, 2, false, false}, "pipeline.num_virtual_stages:", "3 layers of each rank"},
        {{12, 4, 2, 4, 3, false, false}, "pipeline.num_layers:", "which makes 5 to"},
        {{13, 4, 2, 2, 7, false, false},
         "pipeline.num_virtual_stages:",
         "7 layers of the last rank"},
        {{8, 1, 1, 4, 4, false, false}, "pipeline.last_rank_layers:", "got 4"},
        {{8, 3, 1, 9, 0, false, false}, "pipeline.num_layers:", "first rank's 9"},
        {{8, 3, 1, 4, 5, false, false}, "pipeline.num_layers:", "last rank's 5, got 8"},
        {{INT64_MAX, 1, 1, 0, 0, true, false}, "pipeline.num_layers:", "less than 2^63"},
    };
    const gdncp_pipeline_t good = {8, 2, 2, 0, 0, false, false};
    gdncp_layer_range_t range = {-7, -7};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_refused(gdncp_pipeline_layers(&cases[i].pipeline, 0, 0, &range), cases[i].argument,
                      cases[i].got);
    }
    check_refused(gdncp_pipeline_layers(NULL, 0, 0, &range), "pipeline:", "NULL");
    check_refused(gdncp_pipeline_layers(&good, 2, 0, &range), "rank:", "0..1, got 2");
    check_refused(gdncp_pipeline_layers(&good, -1, 0, &range), "rank:", "got -1");
    check_refused(gdncp_pipeline_layers(&good, 0, 2, &range), "virtual_stage:", "0..1, got 2");
    check_refused(gdncp_pipeline_layers(&good, 0, -1, &range), "virtual_stage:", "got -1");
    check_refused(gdncp_pipeline_layers(&good, 0, 0, NULL), "range_p:", "NULL");
    assert_int_equal(range.count, -7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_megatrons),
        cmocka_unit_test(stages_are_megatrons),
        cmocka_unit_test(every_layer_is_on_one_stage),
        cmocka_unit_test(a_stages_layers_have_both_kinds),
        cmocka_unit_test(frequencies_are_checked),
        cmocka_unit_test(pipelines_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
