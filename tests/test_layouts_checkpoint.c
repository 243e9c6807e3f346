/* Shards of checkpoints: names, places and replicas, and every element saved once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/checkpoint.h"
#include "support/refused.h"

static const gdncp_layer_shape_t small = {.hidden_size = 5,
                                          .num_key_heads = 4,
                                          .num_value_heads = 8,
                                          .key_head_dim = 2,
                                          .value_head_dim = 3,
                                          .conv_kernel_dim = 4};

static int64_t list_shards(const gdncp_layer_shape_t *shape, int tp_size, int tp_rank, int cp_size,
                           int cp_rank, gdncp_shard_t *shards)
{
    const gdncp_place_t place = {tp_size, tp_rank, cp_size, cp_rank};
    int64_t count = -1;

    assert_int_equal(gdncp_checkpoint_shards(shape, &place, shards, &count), GDNCP_OK);
    assert_true(count >= 1 && count <= GDNCP_MAX_SHARDS);
    return count;
}

/* What the second of two tensor-parallel ranks, third of four context-parallel ones, has. */
static void dividing_counts_make_megatrons_shards(void **state)
{
    const struct {
        const char *name;
        gdncp_parameter_t parameter;
        int ndim;
        int64_t global_shape[3];
        int64_t global_offset[3];
        int64_t shape[3];
        int64_t local_offset;
        int tp_replica;
    } expected[] = {
        {"in_proj.weight.query", 0, 2, {8, 5}, {4, 0}, {4, 5}, 0, 0},
        {"in_proj.weight.key", 0, 2, {8, 5}, {4, 0}, {4, 5}, 4 * 5, 0},
        {"in_proj.weight.value", 0, 2, {24, 5}, {12, 0}, {12, 5}, 8 * 5, 0},
        {"in_proj.weight.z", 0, 2, {24, 5}, {12, 0}, {12, 5}, 20 * 5, 0},
        {"in_proj.weight.beta", 0, 2, {8, 5}, {4, 0}, {4, 5}, 32 * 5, 0},
        {"in_proj.weight.alpha", 0, 2, {8, 5}, {4, 0}, {4, 5}, 36 * 5, 0},
        {"conv1d.weight.query", 1, 3, {8, 1, 4}, {4, 0, 0}, {4, 1, 4}, 0, 0},
        {"conv1d.weight.key", 1, 3, {8, 1, 4}, {4, 0, 0}, {4, 1, 4}, 4 * 4, 0},
        {"conv1d.weight.value", 1, 3, {24, 1, 4}, {12, 0, 0}, {12, 1, 4}, 8 * 4, 0},
        {"A_log", 2, 1, {8}, {4}, {4}, 0, 0},
        {"dt_bias", 3, 1, {8}, {4}, {4}, 0, 0},
        {"out_norm.weight", 4, 1, {3}, {0}, {3}, 0, 1},
        {"out_proj.weight", 5, 2, {5, 24}, {0, 12}, {5, 12}, 0, 0},
    };
    gdncp_shard_t shards[GDNCP_MAX_SHARDS];

    (void)state;
    assert_int_equal(list_shards(&small, 2, 1, 4, 2, shards), sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const gdncp_shard_t *const shard = &shards[i];

        assert_string_equal(shard->name, expected[i].name);
        assert_int_equal(shard->parameter, expected[i].parameter);
        assert_int_equal(shard->ndim, expected[i].ndim);
        for (int d = 0; d < GDNCP_MAX_DIMS; d++) {
            assert_int_equal(shard->global_shape[d], d < 3 ? expected[i].global_shape[d] : 0);
            assert_int_equal(shard->global_offset[d], d < 3 ? expected[i].global_offset[d] : 0);
            assert_int_equal(shard->shape[d], d < 3 ? expected[i].shape[d] : 0);
        }
        assert_int_equal(shard->local_offset, expected[i].local_offset);
        assert_int_equal(shard->tp_replica, expected[i].tp_replica);
        assert_int_equal(shard->cp_replica, 2);
    }
}

static void a_convolutions_bias_is_cut_as_its_weight(void **state)
{
    gdncp_shard_t weight[GDNCP_MAX_SHARDS];
    gdncp_shard_t bias[GDNCP_MAX_SHARDS];
    const char *const bias_names[] = {"conv1d.bias.query", "conv1d.bias.key", "conv1d.bias.value"};

    (void)state;
    for (int rank = 0; rank < 3; rank++) {
        const gdncp_place_t place = {3, rank, 2, 1};
        int64_t count = -1;
        int64_t next = 0;
        const int64_t num_weight = list_shards(&small, 3, rank, 2, 1, weight);

        assert_int_equal(gdncp_checkpoint_conv_bias(&small, &place, bias, &count), GDNCP_OK);
        for (int64_t i = 0; i < num_weight; i++) {
            if (weight[i].parameter != GDNCP_PARAMETER_CONV_WEIGHT) {
                continue;
            }
            assert_true(next < count);
            assert_int_equal(strncmp(weight[i].name, "conv1d.weight", 13), 0);
            assert_string_equal(bias[next].name + 11, weight[i].name + 13);
            assert_true(strcmp(bias[next].name, bias_names[0]) == 0 ||
                        strcmp(bias[next].name, bias_names[1]) == 0 ||
                        strcmp(bias[next].name, bias_names[2]) == 0);
            assert_int_equal(bias[next].parameter, GDNCP_PARAMETER_CONV_WEIGHT);
            assert_int_equal(bias[next].ndim, 1);
            assert_int_equal(bias[next].global_shape[0], weight[i].global_shape[0]);
            assert_int_equal(bias[next].global_offset[0], weight[i].global_offset[0]);
            assert_int_equal(bias[next].shape[0], weight[i].shape[0]);
            assert_int_equal(bias[next].global_shape[1], 0);
            assert_int_equal(bias[next].shape[1], 0);
            assert_int_equal(bias[next].local_offset * 4, weight[i].local_offset);
            assert_int_equal(bias[next].tp_replica, weight[i].tp_replica);
            assert_int_equal(bias[next].cp_replica, 1);
            next++;
        }
        assert_int_equal(next, count);
    }
}

/* 2 key heads of 3 value heads each on 4 ranks, which have value heads 0 | 1 2 | 3 | 4 5. */
static void shared_key_heads_are_shards_of_their_own(void **state)
{
    const gdncp_layer_shape_t shape = {1, 2, 6, 10, 1, 1};
    const int64_t offsets[] = {0, 0, 10, 10};
    const int replicas[] = {0, 1, 0, 1};
    const gdncp_layer_shape_t wide = {1, 5, 5 * 3, 10, 1, 1};
    gdncp_shard_t shards[GDNCP_MAX_SHARDS];

    (void)state;
    for (int rank = 0; rank < 4; rank++) {
        assert_int_equal(list_shards(&shape, 4, rank, 1, 0, shards), 13);
        assert_int_equal(shards[0].global_offset[0], offsets[rank]);
        assert_int_equal(shards[0].shape[0], 10);
        assert_int_equal(shards[0].tp_replica, replicas[rank]);
    }
    /* 15 value heads on 2 ranks, 7 and 8: key heads 0 1 [2], [2] 3 4. */
    assert_int_equal(list_shards(&wide, 2, 1, 1, 0, shards), 17);
    assert_int_equal(shards[0].global_offset[0], 20);
    assert_int_equal(shards[0].shape[0], 10);
    assert_int_equal(shards[0].tp_replica, 1);
    assert_int_equal(shards[1].global_offset[0], 30);
    assert_int_equal(shards[1].shape[0], 20);
    assert_int_equal(shards[1].local_offset, 10);
    assert_int_equal(shards[1].tp_replica, 0);
}

/* One for all tensors of a name: which elements were saved, by shards that are first replicas. */
typedef struct saved {
    const char *name;
    int64_t size;
    int times[4096];
} saved_t;

static saved_t *find_saved(saved_t *all, const gdncp_shard_t *shard)
{
    for (int i = 0; i < 13; i++) {
        if (all[i].name == NULL) {
            all[i].name = shard->name;
            all[i].size = 1;
            for (int d = 0; d < shard->ndim; d++) {
                all[i].size *= shard->global_shape[d];
            }
            assert_true(all[i].size <= 4096);
        }
        if (strcmp(all[i].name, shard->name) == 0) {
            return &all[i];
        }
    }
    fail_msg("more names than 13");
    return NULL;
}

static void count_elements(saved_t *all, const gdncp_shard_t *shard)
{
    saved_t *const saved = find_saved(all, shard);
    int64_t index[3];
    const int64_t rows = shard->global_shape[0];
    const int64_t columns = shard->ndim > 1 ? shard->global_shape[1] : 1;
    const int64_t width = shard->ndim > 2 ? shard->global_shape[2] : 1;

    for (int64_t i = 0; i < rows * columns * width; i++) {
        int is_inside = 1;

        index[0] = i / width / columns;
        index[1] = i / width % columns;
        index[2] = i % width;
        for (int d = 0; d < shard->ndim; d++) {
            is_inside &= index[d] >= shard->global_offset[d] &&
                         index[d] < shard->global_offset[d] + shard->shape[d];
        }
        saved->times[i] += is_inside;
    }
}

static int is_same_piece(const gdncp_shard_t *a, const gdncp_shard_t *b)
{
    return strcmp(a->name, b->name) == 0 &&
           memcmp(a->global_offset, b->global_offset, sizeof a->global_offset) == 0 &&
           memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

/* Replica n of a piece comes after n others of it on the ranks before. */
static void check_replica(const gdncp_layer_shape_t *shape, int tp_size, int tp_rank,
                          const gdncp_shard_t *shard)
{
    gdncp_shard_t others[GDNCP_MAX_SHARDS];
    int before = 0;

    for (int rank = 0; rank < tp_rank; rank++) {
        const int64_t count = list_shards(shape, tp_size, rank, 1, 0, others);

        for (int64_t i = 0; i < count; i++) {
            before += is_same_piece(&others[i], shard);
        }
    }
    assert_int_equal(shard->tp_replica, before);
}

static void check_grid(const gdncp_layer_shape_t *shape, int tp_size, int cp_size)
{
    saved_t *const all = calloc(13, sizeof *all);
    gdncp_shard_t shards[GDNCP_MAX_SHARDS];

    assert_non_null(all);
    for (int rank = 0; rank < tp_size * cp_size; rank++) {
        const int tp_rank = rank % tp_size;
        const int64_t count = list_shards(shape, tp_size, tp_rank, cp_size, rank / tp_size, shards);

        for (int64_t i = 0; i < count; i++) {
            assert_int_equal(shards[i].cp_replica, rank / tp_size);
            check_replica(shape, tp_size, tp_rank, &shards[i]);
            if (shards[i].tp_replica == 0 && shards[i].cp_replica == 0) {
                count_elements(all, &shards[i]);
            }
        }
    }
    for (int i = 0; i < 13; i++) {
        assert_non_null(all[i].name);
        for (int64_t e = 0; e < all[i].size; e++) {
            assert_int_equal(all[i].times[e], 1);
        }
    }
    free(all);
}

static void every_element_is_saved_once(void **state)
{
    const gdncp_layer_shape_t shapes[] = {
        small, {3, 1, 4, 2, 1, 2}, {2, 3, 3, 2, 2, 1}, {1, 5, 15, 3, 1, 2}, {2, 2, 8, 1, 2, 3}};

    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (int tp_size = 1; tp_size <= 17; tp_size++) {
            check_grid(&shapes[s], tp_size, 1 + tp_size % 3);
        }
    }
}

static void arguments_are_checked(void **state)
{
    const gdncp_place_t place = {2, 1, 1, 0};
    const gdncp_place_t outside = {2, 2, 1, 0};
    const gdncp_layer_shape_t bad = {0};
    gdncp_shard_t shards[GDNCP_MAX_SHARDS] = {{.ndim = 77}};
    int64_t count = 77;

    (void)state;
    check_refused(gdncp_checkpoint_shards(NULL, &place, shards, &count), "shape:", "NULL");
    check_refused(gdncp_checkpoint_shards(&bad, &place, shards, &count),
                  "shape.hidden_size:", "got 0");
    check_refused(gdncp_checkpoint_shards(&small, NULL, shards, &count), "place:", "NULL");
    check_refused(gdncp_checkpoint_shards(&small, &outside, shards, &count),
                  "place.tp_rank:", "got 2");
    check_refused(gdncp_checkpoint_shards(&small, &place, NULL, &count),
                  "shards:", "21 shards, got NULL");
    check_refused(gdncp_checkpoint_shards(&small, &place, shards, NULL),
                  "num_shards_p:", "got NULL");
    check_refused(gdncp_checkpoint_conv_bias(NULL, &place, shards, &count), "shape:", "NULL");
    check_refused(gdncp_checkpoint_conv_bias(&small, &outside, shards, &count),
                  "place.tp_rank:", "got 2");
    check_refused(gdncp_checkpoint_conv_bias(&small, &place, NULL, &count), "shards:", "got NULL");
    check_refused(gdncp_checkpoint_conv_bias(&small, &place, shards, NULL),
                  "num_shards_p:", "got NULL");
    assert_int_equal(shards[0].ndim, 77);
    assert_int_equal(count, 77);
}

/* A change of a shard that must be refused, of the wanted and of the saved one. */
static void check_shard_refused(const gdncp_shard_t *good, const gdncp_shard_t *changed,
                                const char *after_name, const char *got)
{
    const int32_t data[64] = {0};
    int32_t parameter[64] = {77};
    char argument[64];
    int64_t count = 77;

    snprintf(argument, sizeof argument, "wanted%s", after_name);
    check_refused(gdncp_shard_load(changed, good, 4, data, parameter, &count), argument, got);
    snprintf(argument, sizeof argument, "saved%s", after_name);
    check_refused(gdncp_shard_load(good, changed, 4, data, parameter, &count), argument, got);
    assert_int_equal(count, 77);
    assert_int_equal(parameter[0], 77);
}

static void loads_are_checked(void **state)
{
    const int32_t data[64] = {0};
    int32_t parameter[64] = {77};
    gdncp_shard_t shards[GDNCP_MAX_SHARDS];
    int64_t count = 77;

    (void)state;
    list_shards(&small, 2, 1, 1, 0, shards);

    const gdncp_shard_t good = shards[0];
    gdncp_shard_t changed = good;

    changed.name = NULL;
    check_shard_refused(&good, &changed, "->name:", "NULL");
    changed = good;
    changed.ndim = 0;
    check_shard_refused(&good, &changed, "->ndim:", "1..3, got 0");
    changed.ndim = 4;
    check_shard_refused(&good, &changed, "->ndim:", "1..3, got 4");
    changed = good;
    changed.global_offset[0] = -1;
    check_shard_refused(&good, &changed, ":", "4 elements from -1 of 8 in dimension 0");
    changed.global_offset[0] = 5;
    check_shard_refused(&good, &changed, ":", "4 elements from 5 of 8 in dimension 0");
    changed = good;
    changed.shape[1] = 0;
    check_shard_refused(&good, &changed, ":", "0 elements from 0 of 5 in dimension 1");
    changed.shape[1] = 6;
    check_shard_refused(&good, &changed, ":", "6 elements from 0 of 5 in dimension 1");
    changed = good;
    changed.global_shape[0] = INT64_MAX / 16;
    check_shard_refused(&good, &changed, "->global_shape:", "got 5 in dimension 1");

    changed = good;
    changed.name = "in_proj.weight.key";
    check_refused(gdncp_shard_load(&good, &changed, 4, data, parameter, &count),
                  "saved->name:", "expected in_proj.weight.query, got in_proj.weight.key");
    changed = good;
    changed.ndim = 1;
    check_refused(gdncp_shard_load(&good, &changed, 4, data, parameter, &count),
                  "saved->ndim:", "expected 2 for in_proj.weight.query, got 1");
    changed = good;
    changed.global_shape[0] = 9;
    check_refused(gdncp_shard_load(&good, &changed, 4, data, parameter, &count),
                  "saved->global_shape[0]:", "expected 8 for in_proj.weight.query, got 9");
    changed = good;
    changed.local_offset = -1;
    check_refused(gdncp_shard_load(&changed, &good, 4, data, parameter, &count),
                  "wanted->local_offset:", "got -1");
    check_refused(gdncp_shard_load(NULL, &good, 4, data, parameter, &count), "wanted:", "NULL");
    check_refused(gdncp_shard_load(&good, NULL, 4, data, parameter, &count), "saved:", "NULL");
    check_refused(gdncp_shard_load(&good, &good, 0, data, parameter, &count),
                  "element_size:", "got 0");
    check_refused(gdncp_shard_load(&good, &good, 9, data, parameter, &count),
                  "element_size:", "got 9");
    check_refused(gdncp_shard_load(&good, &good, 4, NULL, parameter, &count), "data:", "NULL");
    check_refused(gdncp_shard_load(&good, &good, 4, data, NULL, &count), "parameter:", "NULL");
    check_refused(gdncp_shard_load(&good, &good, 4, data, parameter, NULL),
                  "num_elements_p:", "NULL");
    assert_int_equal(count, 77);
    assert_int_equal(parameter[0], 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dividing_counts_make_megatrons_shards),
        cmocka_unit_test(a_convolutions_bias_is_cut_as_its_weight),
        cmocka_unit_test(shared_key_heads_are_shards_of_their_own),
        cmocka_unit_test(every_element_is_saved_once),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(loads_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
