#define _GNU_SOURCE /* CPU_COUNT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "topology_internal.h"

static hwloc_topology_t synthetic(const char *description)
{
    hwloc_topology_t topology = NULL;

    assert_int_equal(hwloc_topology_init(&topology), 0);
    assert_int_equal(hwloc_topology_set_synthetic(topology, description), 0);
    assert_int_equal(hwloc_topology_load(topology), 0);
    return topology;
}

/* The shares of all ranks: expected[r] is the list of rank r's processing units. */
static void check_shares(const char *description, const char *allowed_list, int local_size,
                         const int *num_cores, const char *const *expected, bool shared)
{
    hwloc_topology_t const topology = synthetic(description);
    hwloc_cpuset_t const allowed = hwloc_bitmap_alloc();
    hwloc_cpuset_t const cpus = hwloc_bitmap_alloc();

    assert_int_equal(hwloc_bitmap_list_sscanf(allowed, allowed_list), 0);
    for (int rank = 0; rank < local_size; rank++) {
        gdncp_core_share_t share = {.num_cores = -1};
        char text[64];

        assert_int_equal(gdncp_topology_share(topology, allowed, rank, local_size, &share, cpus),
                         GDNCP_OK);
        hwloc_bitmap_list_snprintf(text, sizeof text, cpus);
        assert_string_equal(text, expected[rank]);
        assert_int_equal(share.num_cores, num_cores[rank]);
        assert_int_equal(share.shared, shared);
        assert_false(share.bound);
    }
    hwloc_bitmap_free(cpus);
    hwloc_bitmap_free(allowed);
    hwloc_topology_destroy(topology);
}

static void cores_are_split_evenly(void **state)
{
    (void)state;
    check_shares("package:2 core:4 pu:1", "0-7", 2, (int[]){4, 4}, (const char *[]){"0-3", "4-7"},
                 false);
    check_shares("package:2 core:4 pu:1", "0-7", 3, (int[]){2, 3, 3},
                 (const char *[]){"0-1", "2-4", "5-7"}, false);
    check_shares("package:2 core:4 pu:1", "0-7", 1, (int[]){8}, (const char *[]){"0-7"}, false);
    check_shares("package:1 core:2 pu:1", "0-1", 2, (int[]){1, 1}, (const char *[]){"0", "1"},
                 false);
}

static void hardware_threads_stay_together(void **state)
{
    (void)state;
    check_shares("package:1 core:4 pu:2", "0-7", 2, (int[]){2, 2}, (const char *[]){"0-3", "4-7"},
                 false);
}

static void only_allowed_cores_are_given(void **state)
{
    (void)state;
    check_shares("package:2 core:4 pu:1", "2,5-7", 2, (int[]){2, 2}, (const char *[]){"2,5", "6-7"},
                 false);
    /* Of the second core only one hardware thread is allowed. */
    check_shares("package:1 core:4 pu:2", "0-1,3,4-5", 3, (int[]){1, 1, 1},
                 (const char *[]){"0-1", "3", "4-5"}, false);
}

static void too_few_cores_are_shared(void **state)
{
    (void)state;
    check_shares("package:1 core:2 pu:1", "0-1", 3, (int[]){1, 1, 1},
                 (const char *[]){"0-1", "0-1", "0-1"}, true);
}

static void this_machine_is_split(void **state)
{
    cpu_set_t allowed;
    gdncp_core_share_t share = {.num_cores = -1};

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    assert_int_equal(gdncp_topology_bind(0, CPU_COUNT(&allowed) + 1, &share), GDNCP_OK);
    assert_int_equal(share.num_cores, 1);
    assert_true(share.shared);
    assert_false(share.bound);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        cpu_set_t bound;
        gdncp_core_share_t alone;
        const bool works = gdncp_topology_bind(0, 1, &alone) == GDNCP_OK && !alone.shared &&
                           alone.num_cores >= 1 && alone.num_cores <= CPU_COUNT(&allowed);
        const int half = alone.num_cores >= 2 ? 2 : 1;
        const bool splits = gdncp_topology_bind(half - 1, half, &share) == GDNCP_OK &&
                            share.bound && !share.shared &&
                            sched_getaffinity(0, sizeof bound, &bound) == 0 &&
                            share.num_cores <= CPU_COUNT(&bound) &&
                            (half == 1 || CPU_COUNT(&bound) < CPU_COUNT(&allowed));
        _exit(!(works && splits));
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void arguments_are_checked(void **state)
{
    gdncp_core_share_t share = {.num_cores = -1};

    (void)state;
    assert_int_equal(gdncp_topology_bind(0, 0, &share), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "local_size"));
    assert_int_equal(gdncp_topology_bind(-1, 2, &share), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "local_rank"));
    assert_int_equal(gdncp_topology_bind(2, 2, &share), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "local_rank"));
    assert_int_equal(share.num_cores, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cores_are_split_evenly),
        cmocka_unit_test(hardware_threads_stay_together),
        cmocka_unit_test(only_allowed_cores_are_given),
        cmocka_unit_test(too_few_cores_are_shared),
        cmocka_unit_test(this_machine_is_split),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests_name("topology", tests, NULL, NULL);
}
