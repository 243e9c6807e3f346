/* Rings between processes: who gets them. */
#include "process_exchange.h"

#include <sys/resource.h>

#include "shared_rings.h"

/* How a rank is kept from sharing. */
typedef enum hindrance { NOTHING, NO_DESCRIPTORS, NO_SPACE } hindrance_t;

static rlim_t used_address_space(void)
{
    FILE *const file = fopen("/proc/self/statm", "r");
    long pages = 0;

    if (file != NULL) {
        if (fscanf(file, "%ld", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void limit(int resource, rlim_t value)
{
    struct rlimit both;

    getrlimit(resource, &both);
    both.rlim_cur = value;
    setrlimit(resource, &both);
}

/* Rank 1 is hindered: by address space for its own segment but not for another's, or by
 * descriptors for its own file but not for another's. */
static void hinder(hindrance_t hindrance)
{
    if (hindrance == NO_DESCRIPTORS) {
        const int next = dup(0);

        close(next);
        limit(RLIMIT_NOFILE, (rlim_t)next + 1);
    } else if (hindrance == NO_SPACE) {
        limit(RLIMIT_AS, used_address_space() + (rlim_t)(6 << 20));
    }
}

static int open_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const hindrance_t hindrance = *(const hindrance_t *)context;
    gdncp_shared_rings_t rings;

    setenv("GDNCP_SHARED_MEMORY", "0", 1);
    conformance_t c = start_rank(bootstrap, 30000);

    if (c.rank == 1) {
        hinder(hindrance);
    }
    expect_ok(&c, gdncp_shared_rings_open(c.comm, true, &rings), "open");
    limit(RLIMIT_AS, RLIM_INFINITY);
    limit(RLIMIT_NOFILE, 1024);
    for (int peer = 0; peer < c.size; peer++) {
        const bool expected =
            peer != c.rank && (hindrance == NOTHING || (peer != 1 && c.rank != 1));

        expect(&c, (rings.peers[peer].segment != NULL) == expected,
               "a ring where there can be one");
    }
    /* What is written at one end is seen at the other. */
    for (int peer = 0; peer < c.size; peer++) {
        if (rings.peers[peer].segment != NULL) {
            expect(&c, rings.peers[peer].in_capacity == rings.peers[peer].out_capacity, "capacity");
            atomic_store(&rings.peers[peer].out->written, 100 * c.rank + peer);
        }
    }
    expect_ok(&c, gdncp_comm_barrier(c.comm), "barrier");
    for (int peer = 0; peer < c.size; peer++) {
        if (rings.peers[peer].segment != NULL) {
            expect(&c, atomic_load(&rings.peers[peer].in->written) == 100 * peer + c.rank,
                   "the ring leads from one rank to the other");
        }
    }
    expect_ok(&c, gdncp_comm_barrier(c.comm), "barrier");
    if (c.rank == 0) {
        gdncp_shared_rings_close(&rings);
    }
    expect_ok(&c, gdncp_comm_barrier(c.comm), "barrier");
    for (int peer = 0; c.rank != 0 && peer < c.size; peer++) {
        if (rings.peers[peer].segment != NULL) {
            expect(&c, atomic_load(&rings.peers[peer].in->written) == 100 * peer + c.rank,
                   "what a rank wrote outlives it");
        }
    }
    if (c.rank != 0) {
        gdncp_shared_rings_close(&rings);
    }
    return end_rank(&c);
}

static void all_of_a_machine_get_rings(void **state)
{
    hindrance_t hindrance = NOTHING;

    (void)state;
    for (int size = 1; size <= 4; size++) {
        assert_int_equal(run_forked(size, open_body, &hindrance), 0);
    }
}

static void rank_without_descriptors_gets_none(void **state)
{
    hindrance_t hindrance = NO_DESCRIPTORS;

    (void)state;
    assert_int_equal(run_forked(3, open_body, &hindrance), 0);
}

static void rank_that_cannot_map_gets_none(void **state)
{
    hindrance_t hindrance = NO_SPACE;

    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* sanitizers take address space as they go */
#endif
    assert_int_equal(run_forked(3, open_body, &hindrance), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_a_machine_get_rings),
        cmocka_unit_test(rank_without_descriptors_gets_none),
        cmocka_unit_test(rank_that_cannot_map_gets_none),
    };

    return cmocka_run_group_tests_name("shared rings", tests, NULL, NULL);
}
