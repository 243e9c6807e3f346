/* Exchanges between buffers of the emulated device over UCX, in processes; and a process that dies.
 */
#include "test_comm_device.h"

#include <unistd.h>

#include "forked_ranks.h"

enum { NUM_CASES = 12 };

static gdncp_comm_t *create(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms)
{
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comm = NULL;

    if (gdncp_comm_create(bootstrap, &options, &comm) != GDNCP_OK) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
        fflush(stdout);
        _exit(98);
    }
    return comm;
}

static int say(const char *what, int rank, gdncp_status_t status)
{
    printf("%s, rank %d: %s\n", what, rank,
           status == GDNCP_OK ? "wrong output" : gdncp_last_error());
    fflush(stdout);
    return 1;
}

/* One stream, two runs of every case, nothing that waits in between. */
static int exchange_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    test_random_t random = *(const test_random_t *)context;
    gdncp_comm_t *const comm = create(bootstrap, 60000);
    gdncp_stream_t stream = NULL;
    gdncp_status_t status = gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream);
    int num_failures = 0;

    for (int c = 0; c < NUM_CASES && status == GDNCP_OK; c++) {
        device_case_t test = make_device_case(&random, c % NUM_PLAN_KINDS, bootstrap->size,
                                              c % 2 == 0 ? GDNCP_BF16 : GDNCP_F32, c % 2);
        device_run_t *const run = &test.runs[bootstrap->rank];

        status = open_run(run, comm, stream);
        for (int i = 0; i < 2 && status == GDNCP_OK; i++) {
            status = start_run(run);
            if (status == GDNCP_OK) {
                status = gdncp_exchange_wait(run->exchange);
            }
        }
        if (status == GDNCP_OK) {
            status = download_run(run);
        }
        if (status == GDNCP_OK) {
            status = gdncp_exchange_check(run->exchange);
        }
        if (status != GDNCP_OK || !is_expected(&test, bootstrap->rank)) {
            num_failures += say(gdncp_plan_name(run->plan), bootstrap->rank, status);
        }
        close_run(run);
        end_device_case(&test);
    }
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_comm_destroy(comm);
    return num_failures;
}

static void device_moves_what_plans_say(void **state)
{
    test_random_t random = test_random_start("exchanges on a device over UCX", 81);

    (void)state;
    for (int size = 2; size <= 4; size += 2) {
        assert_int_equal(run_forked(size, exchange_body, &random), 0);
    }
}

/* The others are told who is gone, by the stream's callback and long before the time-out. */
static int lost_peer_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    static const int64_t lengths[3] = {2, 2, 2};
    gdncp_comm_t *const comm = create(bootstrap, 60000);
    float in[2 * 4] = {0};
    float out[6 * 4];
    gdncp_plan_t *plan = NULL;
    gdncp_stream_t stream = NULL;
    device_run_t run = {.in = in, .out = out};

    (void)context;
    if (gdncp_plan_all_gather_concat(3, bootstrap->rank, GDNCP_F32, 1, lengths, 4, &plan) ||
        gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream)) {
        return 1;
    }
    run.plan = plan;
    if (open_run(&run, comm, stream) != GDNCP_OK) {
        return 2;
    }
    if (bootstrap->rank == 1) {
        _exit(0);
    }
    const gdncp_status_t started = start_run(&run);
    const gdncp_status_t drained = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream);
    const gdncp_status_t checked = gdncp_exchange_check(run.exchange);

    if (started != GDNCP_OK || drained != GDNCP_OK || checked != GDNCP_ERR_PEER_LOST ||
        strstr(gdncp_last_error(), "rank 1") == NULL) {
        return 2 + say("lost peer", bootstrap->rank, checked);
    }
    close_run(&run);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_comm_destroy(comm);
    gdncp_plan_destroy(plan);
    return 0;
}

static void lost_peer_is_told(void **state)
{
    (void)state;
    assert_int_equal(run_forked(3, lost_peer_body, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_moves_what_plans_say),
        cmocka_unit_test(lost_peer_is_told),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("exchanges on a device over UCX", tests, NULL, NULL);
}
