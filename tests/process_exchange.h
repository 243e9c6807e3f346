/* Exchanges of a job's ranks that are forked processes: what each is to do is made before the
 * fork, together with what must come out. */
#ifndef GDNCP_PROCESS_EXCHANGE_H
#define GDNCP_PROCESS_EXCHANGE_H

#include "test_comm_plan_check.h"
#include "test_comm_plan_kinds.h"

#include "conformance_rank.h"
#include "forked_ranks.h"
#include "gdncp/exchange.h"

/* One plan of all ranks, with data. */
typedef struct process_exchange {
    int num_ranks;
    gdncp_plan_t *plans[MAX_RANKS];
    void *ins[MAX_RANKS];
    void *outs[MAX_RANKS];     /* poisoned, or to be added to */
    void *expected[MAX_RANKS]; /* outs after a run */
} process_exchange_t;

static inline size_t output_bytes(const gdncp_plan_t *plan)
{
    return (size_t)plan->output_elements * gdncp_dtype_size(plan->dtype);
}

/* plans are set */
static inline void fill_exchange(process_exchange_t *e, test_random_t *random, int num_ranks)
{
    e->num_ranks = num_ranks;
    for (int rank = 0; rank < num_ranks; rank++) {
        const gdncp_plan_t *const plan = e->plans[rank];
        const size_t bytes = output_bytes(plan);

        e->ins[rank] = test_alloc(plan->input_elements, gdncp_dtype_size(plan->dtype));
        fill_values(random, plan->dtype, plan->input_elements, e->ins[rank]);
        e->outs[rank] = test_alloc((int64_t)bytes, 1);
        e->expected[rank] = test_alloc((int64_t)bytes, 1);
        memset(e->outs[rank], 0xff, bytes); /* NaN in every dtype */
        if (plan->write == GDNCP_PLAN_ADD) {
            fill_values(random, plan->dtype, plan->output_elements, e->outs[rank]);
        }
        memcpy(e->expected[rank], e->outs[rank], bytes);
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        run_rank(e->plans, rank, e->ins, e->expected[rank]);
    }
}

static inline void free_exchange(process_exchange_t *e)
{
    for (int rank = 0; rank < e->num_ranks; rank++) {
        gdncp_plan_destroy(e->plans[rank]);
        free(e->ins[rank]);
        free(e->outs[rank]);
        free(e->expected[rank]);
    }
}

/* cp2hp of one sequence, as large as is asked for. */
static inline void fill_cp2hp(process_exchange_t *e, test_random_t *random, int num_ranks,
                              int64_t tokens, int64_t head_dim, int direction)
{
    const int64_t cu_seqlens[] = {0, tokens};
    const gdncp_section_t section = {GDNCP_VALUE_HEADS, head_dim, 1};
    gdncp_layout_t *layout = NULL;

    assert_int_equal(
        gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, num_ranks, &layout),
        GDNCP_OK);
    for (int rank = 0; rank < num_ranks; rank++) {
        gdncp_plan_t *plan = NULL;

        assert_int_equal(gdncp_plan_cp2hp(layout, rank, GDNCP_F32, 1, num_ranks, &section, 1,
                                          num_ranks * head_dim + 3, &plan),
                         GDNCP_OK);
        e->plans[rank] = plan;
        if (direction > 0) {
            assert_int_equal(
                gdncp_plan_transpose(plan, direction == 1 ? GDNCP_PLAN_ASSIGN : GDNCP_PLAN_ADD,
                                     &e->plans[rank]),
                GDNCP_OK);
            gdncp_plan_destroy(plan);
        }
    }
    gdncp_layout_destroy(layout);
    fill_exchange(e, random, num_ranks);
}

/* In a rank's process: its communicator and its count of failures. */
static inline conformance_t start_rank(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms)
{
    return (conformance_t){.comm = create_or_exit(bootstrap, timeout_ms),
                           .rank = bootstrap->rank,
                           .size = bootstrap->size};
}

static inline int end_rank(conformance_t *c)
{
    gdncp_comm_destroy(c->comm);
    if (c->num_failures > 0) {
        fprintf(stderr, "rank %d: %s\n", c->rank, c->first_failure);
    }
    return c->num_failures > 0;
}

static inline void expect_output(conformance_t *c, const process_exchange_t *e)
{
    expect(c, memcmp(e->outs[c->rank], e->expected[c->rank], output_bytes(e->plans[c->rank])) == 0,
           gdncp_plan_name(e->plans[c->rank]));
}

static inline gdncp_exchange_t *bind_exchange(conformance_t *c, const process_exchange_t *e)
{
    gdncp_exchange_t *exchange = NULL;

    expect_ok(c, gdncp_exchange_create(c->comm, e->plans[c->rank], &exchange), "create");
    return exchange;
}

#endif
