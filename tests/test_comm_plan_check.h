/*
 * Plans of all ranks in one process, against an element by element map.
 *
 * A test writes the map from the formulas of the public headers; what is checked here is the
 * forward run, the transposes, conservation of messages and fingerprints.
 */
#ifndef GDNCP_TEST_COMM_PLAN_CHECK_H
#define GDNCP_TEST_COMM_PLAN_CHECK_H

#include "test_comm_plan_random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gdncp/plan.h"
#include "plan_internal.h"

/* What no rank's element is: zero, or in a gap between rows, which is to be left alone. */
enum { MAP_ZERO = -1, MAP_GAP = -2 };

/* Where every output element of every rank comes from. */
typedef struct index_map {
    int num_ranks;
    int64_t in_elements[MAX_RANKS];
    int64_t out_elements[MAX_RANKS];
    int *from_rank[MAX_RANKS];      /* [out_elements], or MAP_ZERO or MAP_GAP */
    int64_t *from_index[MAX_RANKS]; /* [out_elements] */
    char *in_gap[MAX_RANKS];        /* [in_elements]: not of any row */
    int64_t *order[MAX_RANKS];      /* [out_elements]; transposes add a rank's lowest first */
} index_map_t;

static inline void map_start_rank(index_map_t *map, int rank, int64_t in_elements,
                                  int64_t out_elements)
{
    map->in_elements[rank] = in_elements;
    map->out_elements[rank] = out_elements;
    map->from_rank[rank] = test_alloc(out_elements, sizeof(int));
    map->from_index[rank] = test_alloc(out_elements, sizeof(int64_t));
    map->order[rank] = test_alloc(out_elements, sizeof(int64_t));
    map->in_gap[rank] = test_alloc(in_elements, 1);
    memset(map->in_gap[rank], 0, (size_t)in_elements);
    for (int64_t i = 0; i < out_elements; i++) {
        map->from_rank[rank][i] = MAP_ZERO;
        map->order[rank][i] = i;
    }
}

static inline void map_free(index_map_t *map)
{
    for (int rank = 0; rank < map->num_ranks; rank++) {
        free(map->from_rank[rank]);
        free(map->from_index[rank]);
        free(map->order[rank]);
        free(map->in_gap[rank]);
    }
}

static inline void run_rank(gdncp_plan_t *const *plans, int rank, void *const *ins, void *out)
{
    const gdncp_plan_t *const plan = plans[rank];
    const int64_t size = (int64_t)gdncp_dtype_size(plan->dtype);
    const void *messages[MAX_RANKS] = {NULL};

    gdncp_plan_clear(plan, out);
    gdncp_plan_copy_local(plan, ins[rank], out);
    for (int peer = 0; peer < plan->num_ranks; peer++) {
        const gdncp_block_list_t *const list = &plans[peer]->sends[rank];

        if (peer != rank && list->elements > 0) {
            void *const message = test_alloc(list->elements, (size_t)size);

            gdncp_plan_pack(plans[peer], list, ins[peer], message);
            messages[peer] = message;
        }
    }
    gdncp_plan_deliver(plan, ins[rank], messages, out);
    for (int peer = 0; peer < plan->num_ranks; peer++) {
        free((void *)(uintptr_t)messages[peer]);
    }
}

/* What i sends to j is what j expects from i, and no message is listed that is not there. */
static inline void check_conservation(gdncp_plan_t *const *plans, int num_ranks)
{
    int64_t sent[MAX_RANKS][MAX_RANKS] = {{0}};
    int64_t received[MAX_RANKS][MAX_RANKS] = {{0}};

    for (int rank = 0; rank < num_ranks; rank++) {
        int64_t count;
        const gdncp_message_t *const messages = gdncp_plan_messages(plans[rank], &count);
        int64_t total = 0;

        for (int64_t m = 0; m < count; m++) {
            assert_true(messages[m].peer != rank);
            assert_true(m == 0 || messages[m - 1].peer < messages[m].peer);
            assert_true(messages[m].send_bytes > 0 || messages[m].recv_bytes > 0);
            sent[rank][messages[m].peer] = messages[m].send_bytes;
            received[rank][messages[m].peer] = messages[m].recv_bytes;
            total += messages[m].send_bytes;
        }
        assert_int_equal(total, gdncp_plan_bytes_sent(plans[rank]));
    }
    for (int i = 0; i < num_ranks; i++) {
        for (int j = 0; j < num_ranks; j++) {
            assert_int_equal(sent[i][j], received[j][i]);
        }
    }
}

/* Bytes that must cross: one for each output element that comes from another rank. */
static inline void check_no_byte_too_many(gdncp_plan_t *const *plans, const index_map_t *map)
{
    int64_t expected = 0;
    int64_t got = 0;

    for (int rank = 0; rank < map->num_ranks; rank++) {
        for (int64_t i = 0; i < map->out_elements[rank]; i++) {
            expected += map->from_rank[rank][i] >= 0 && map->from_rank[rank][i] != rank;
        }
        got += gdncp_plan_bytes_sent(plans[rank]);
    }
    assert_int_equal(got, expected * (int64_t)gdncp_dtype_size(plans[0]->dtype));
}

/* Write what a rank's output becomes; gaps keep what they hold. */
static inline void expect_forward(const index_map_t *map, int rank, size_t size, void *const *ins,
                                  void *out)
{
    for (int64_t i = 0; i < map->out_elements[rank]; i++) {
        const int from = map->from_rank[rank][i];
        char *const element = (char *)out + (size_t)i * size;

        if (from >= 0) {
            memcpy(element, (const char *)ins[from] + (size_t)map->from_index[rank][i] * size,
                   size);
        } else if (from == MAP_ZERO) {
            memset(element, 0, size);
        }
    }
}

static inline void check_forward(gdncp_plan_t *const *plans, const index_map_t *map,
                                 void *const *ins)
{
    const size_t size = gdncp_dtype_size(plans[0]->dtype);

    for (int rank = 0; rank < map->num_ranks; rank++) {
        const int64_t count = map->out_elements[rank];
        char *const out = test_alloc(count, size);
        char *const expected = test_alloc(count, size);

        assert_int_equal(gdncp_plan_input_elements(plans[rank]), map->in_elements[rank]);
        assert_int_equal(gdncp_plan_output_elements(plans[rank]), count);
        memset(out, 0xff, (size_t)count * size);
        memset(expected, 0xff, (size_t)count * size);
        expect_forward(map, rank, size, ins, expected);
        run_rank(plans, rank, ins, out);
        assert_memory_equal(out, expected, (size_t)count * size);
        free(out);
        free(expected);
    }
}

typedef struct ordered_index {
    int64_t order;
    int64_t index;
} ordered_index_t;

static inline int compare_ordered(const void *left, const void *right)
{
    const ordered_index_t *const a = left;
    const ordered_index_t *const b = right;

    if (a->order != b->order) {
        return a->order < b->order ? -1 : 1;
    }
    return (a->index > b->index) - (a->index < b->index);
}

/* One element's sum, in float32 but for F64, that is rounded when it is read. */
typedef struct total {
    bool started;
    float f32;
    double f64;
    uint64_t bits;
} total_t;

static inline void add_to_total(total_t *total, gdncp_dtype_t dtype, const void *value)
{
    float f32 = 0.0f;
    double f64 = 0.0;

    if (dtype == GDNCP_F64) {
        memcpy(&f64, value, sizeof f64);
    } else if (dtype_adds(dtype)) {
        gdncp_convert_to_f32(dtype, value, 1, &f32);
    }
    total->f32 = total->started ? total->f32 + f32 : f32;
    total->f64 = total->started ? total->f64 + f64 : f64;
    memcpy(&total->bits, value, gdncp_dtype_size(dtype));
    total->started = true;
}

static inline void read_total(const total_t *total, gdncp_dtype_t dtype, void *value)
{
    if (!total->started) {
        memset(value, 0, gdncp_dtype_size(dtype));
    } else if (dtype == GDNCP_F64) {
        memcpy(value, &total->f64, sizeof total->f64);
    } else if (dtype_adds(dtype)) {
        gdncp_convert_from_f32(&total->f32, 1, dtype, value);
    } else {
        memcpy(value, &total->bits, gdncp_dtype_size(dtype));
    }
}

/* totals [rank][in_elements]: with what each holds before. */
static inline void add_all(const index_map_t *map, gdncp_dtype_t dtype, void *const *gradients,
                           total_t *const *totals)
{
    for (int rank = 0; rank < map->num_ranks; rank++) {
        const int64_t count = map->out_elements[rank];
        ordered_index_t *const order = test_alloc(count, sizeof *order);

        for (int64_t i = 0; i < count; i++) {
            order[i] = (ordered_index_t){map->order[rank][i], i};
        }
        qsort(order, (size_t)count, sizeof *order, compare_ordered);
        for (int64_t o = 0; o < count; o++) {
            const int64_t i = order[o].index;
            const int from = map->from_rank[rank][i];

            if (from >= 0) {
                add_to_total(&totals[from][map->from_index[rank][i]], dtype,
                             (const char *)gradients[rank] + (size_t)i * gdncp_dtype_size(dtype));
            }
        }
        free(order);
    }
}

/* Write what the outputs of all ranks become in a transpose; gaps keep what they hold. */
static inline void expect_transpose(const index_map_t *map, gdncp_dtype_t dtype,
                                    gdncp_plan_write_t write, void *const *gradients,
                                    void *const *outs)
{
    const size_t size = gdncp_dtype_size(dtype);
    total_t *totals[MAX_RANKS];

    for (int rank = 0; rank < map->num_ranks; rank++) {
        const int64_t count = map->in_elements[rank];

        totals[rank] = test_alloc(count, sizeof **totals);
        memset(totals[rank], 0, (size_t)count * sizeof **totals);
        for (int64_t i = 0; i < count && write == GDNCP_PLAN_ADD; i++) {
            add_to_total(&totals[rank][i], dtype, (const char *)outs[rank] + (size_t)i * size);
        }
    }
    add_all(map, dtype, gradients, totals);
    for (int rank = 0; rank < map->num_ranks; rank++) {
        for (int64_t i = 0; i < map->in_elements[rank]; i++) {
            if (map->in_gap[rank][i] == 0) {
                read_total(&totals[rank][i], dtype, (char *)outs[rank] + (size_t)i * size);
            }
        }
        free(totals[rank]);
    }
}

static inline bool map_reads_overlap(const index_map_t *map)
{
    bool overlaps = false;

    for (int holder = 0; holder < map->num_ranks; holder++) {
        char *const seen = test_alloc(map->in_elements[holder], 1);

        memset(seen, 0, (size_t)map->in_elements[holder]);
        for (int rank = 0; rank < map->num_ranks; rank++) {
            for (int64_t i = 0; i < map->out_elements[rank]; i++) {
                if (map->from_rank[rank][i] == holder) {
                    overlaps |= seen[map->from_index[rank][i]]++ != 0;
                }
            }
        }
        free(seen);
    }
    return overlaps;
}

/* Of what map->from_rank or map->in_gap says is no gap. */
static inline double dot_f64(const double *a, const double *b, int64_t count, const int *from_rank,
                             const char *in_gap)
{
    double sum = 0.0;

    for (int64_t i = 0; i < count; i++) {
        if (from_rank != NULL ? from_rank[i] != MAP_GAP : in_gap[i] == 0) {
            sum += a[i] * b[i];
        }
    }
    return sum;
}

static inline void check_transpose(test_random_t *random, gdncp_plan_t *const *plans,
                                   const index_map_t *map, void *const *ins,
                                   gdncp_plan_write_t write)
{
    const gdncp_dtype_t dtype = plans[0]->dtype;
    const size_t size = gdncp_dtype_size(dtype);
    const bool is_refused =
        !dtype_adds(dtype) && (write == GDNCP_PLAN_ADD || map_reads_overlap(map));
    gdncp_plan_t *transposes[MAX_RANKS] = {NULL};
    void *gradients[MAX_RANKS];
    void *outs[MAX_RANKS];
    void *expected[MAX_RANKS];
    double y_ax = 0.0;
    double aty_x = 0.0;

    for (int rank = 0; rank < map->num_ranks; rank++) {
        assert_int_equal(gdncp_plan_transpose(plans[rank], write, &transposes[rank]),
                         is_refused ? GDNCP_ERR_INVALID_ARGUMENT : GDNCP_OK);
    }
    if (is_refused) {
        assert_null(transposes[0]);
        return;
    }
    for (int rank = 0; rank < map->num_ranks; rank++) {
        const int64_t count = map->in_elements[rank];

        gradients[rank] = test_alloc(map->out_elements[rank], size);
        fill_values(random, dtype, map->out_elements[rank], gradients[rank]);
        outs[rank] = test_alloc(count, size);
        expected[rank] = test_alloc(count, size);
        memset(outs[rank], 0xff, (size_t)count * size);
        if (write == GDNCP_PLAN_ADD) {
            fill_values(random, dtype, count, outs[rank]);
        }
        memcpy(expected[rank], outs[rank], (size_t)count * size);
    }
    expect_transpose(map, dtype, write, gradients, expected);
    check_conservation(transposes, map->num_ranks);
    check_no_byte_too_many(transposes, map);
    for (int rank = 0; rank < map->num_ranks; rank++) {
        const int64_t count = map->in_elements[rank];

        assert_int_equal(gdncp_plan_fingerprint(transposes[rank]),
                         gdncp_plan_fingerprint(transposes[0]));
        run_rank(transposes, rank, gradients, outs[rank]);
        assert_memory_equal(outs[rank], expected[rank], (size_t)count * size);
        if (dtype == GDNCP_F64 && write == GDNCP_PLAN_ASSIGN) {
            double *const forward = test_alloc(map->out_elements[rank], size);

            run_rank(plans, rank, ins, forward);
            y_ax += dot_f64(gradients[rank], forward, map->out_elements[rank], map->from_rank[rank],
                            NULL);
            aty_x += dot_f64(outs[rank], ins[rank], count, NULL, map->in_gap[rank]);
            free(forward);
        }
    }
    assert_true(!(fabs(y_ax - aty_x) > 1e-12 * (1.0 + fabs(y_ax))));
    for (int rank = 0; rank < map->num_ranks; rank++) {
        free(gradients[rank]);
        free(outs[rank]);
        free(expected[rank]);
        gdncp_plan_destroy(transposes[rank]);
    }
}

/* The transpose of the transpose is the plan again. */
static inline void check_double_transpose(gdncp_plan_t *const *plans, const index_map_t *map,
                                          void *const *ins)
{
    gdncp_plan_t *again[MAX_RANKS] = {NULL};

    for (int rank = 0; rank < map->num_ranks; rank++) {
        gdncp_plan_t *transpose = NULL;

        if (gdncp_plan_transpose(plans[rank], GDNCP_PLAN_ASSIGN, &transpose) != GDNCP_OK) {
            return;
        }
        assert_true(gdncp_plan_fingerprint(transpose) != gdncp_plan_fingerprint(plans[rank]));
        assert_int_equal(gdncp_plan_transpose(transpose, GDNCP_PLAN_ASSIGN, &again[rank]),
                         GDNCP_OK);
        gdncp_plan_destroy(transpose);
        assert_string_equal(gdncp_plan_name(again[rank]), gdncp_plan_name(plans[rank]));
        assert_int_equal(gdncp_plan_fingerprint(again[rank]), gdncp_plan_fingerprint(plans[rank]));
    }
    check_forward(again, map, ins);
    for (int rank = 0; rank < map->num_ranks; rank++) {
        gdncp_plan_destroy(again[rank]);
    }
}

/* Check the plans of all ranks against their map, and destroy both. */
static inline void check_plans(test_random_t *random, gdncp_plan_t **plans, index_map_t *map)
{
    const gdncp_dtype_t dtype = plans[0]->dtype;
    void *ins[MAX_RANKS];

    for (int rank = 0; rank < map->num_ranks; rank++) {
        ins[rank] = test_alloc(map->in_elements[rank], gdncp_dtype_size(dtype));
        fill_values(random, dtype, map->in_elements[rank], ins[rank]);
        assert_int_equal(gdncp_plan_rank(plans[rank]), rank);
        assert_int_equal(gdncp_plan_num_ranks(plans[rank]), map->num_ranks);
        assert_int_equal(gdncp_plan_dtype(plans[rank]), dtype);
        assert_int_equal(gdncp_plan_fingerprint(plans[rank]), gdncp_plan_fingerprint(plans[0]));
    }
    check_conservation(plans, map->num_ranks);
    check_no_byte_too_many(plans, map);
    check_forward(plans, map, ins);
    check_transpose(random, plans, map, ins, GDNCP_PLAN_ASSIGN);
    check_transpose(random, plans, map, ins, GDNCP_PLAN_ADD);
    check_double_transpose(plans, map, ins);
    for (int rank = 0; rank < map->num_ranks; rank++) {
        free(ins[rank]);
        gdncp_plan_destroy(plans[rank]);
    }
    map_free(map);
}

/* The call failed as an invalid argument, and its sentence begins with the argument's name. */
static inline void check_refused(gdncp_status_t status, const char *argument)
{
    if (status != GDNCP_ERR_INVALID_ARGUMENT ||
        strncmp(gdncp_last_error(), argument, strlen(argument)) != 0) {
        fail_msg("expected an error about %s, got %s: %s", argument, gdncp_status_string(status),
                 gdncp_last_error());
    }
}

#endif
