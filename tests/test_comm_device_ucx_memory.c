/* What gdncp asks of UCX for the memory of devices: with calls of UCX that are watched, or answered
 * as by a UCX without CUDA. */
#include "test_comm_device.h"

#include <dlfcn.h>

#include <ucp/api/ucp.h>

#include "comm_internal.h"
#include "forked_ranks.h"
#include "stream_group.h"

enum { NUM_RANKS = 2, SHARD = 1000 };

/* Of a rank's process. */
static bool has_no_types;   /* UCX says that it moves no type of memory */
static int64_t num_watched; /* messages to and from others */
static int64_t num_untyped; /* those without the type of the emulated device's memory */

static void *next_of(const char *name)
{
    void *const function = dlsym(RTLD_NEXT, name);

    if (function == NULL) {
        abort();
    }
    return function;
}

static void watch(const ucp_request_param_t *param)
{
    num_watched++;
    num_untyped += (param->op_attr_mask & UCP_OP_ATTR_FIELD_MEMORY_TYPE) == 0 ||
                   param->memory_type != UCS_MEMORY_TYPE_HOST;
}

ucs_status_t ucp_context_query(ucp_context_h context, ucp_context_attr_t *attributes)
{
    ucs_status_t (*next)(ucp_context_h, ucp_context_attr_t *);

    *(void **)&next = next_of("ucp_context_query");
    const ucs_status_t status = next(context, attributes);

    if (has_no_types) {
        attributes->memory_types = 0;
    }
    return status;
}

ucs_status_ptr_t ucp_tag_send_nbx(ucp_ep_h endpoint, const void *buffer, size_t count,
                                  ucp_tag_t tag, const ucp_request_param_t *param)
{
    ucs_status_ptr_t (*next)(ucp_ep_h, const void *, size_t, ucp_tag_t,
                             const ucp_request_param_t *);

    *(void **)&next = next_of("ucp_tag_send_nbx");
    watch(param);
    return next(endpoint, buffer, count, tag, param);
}

ucs_status_ptr_t ucp_tag_recv_nbx(ucp_worker_h worker, void *buffer, size_t count, ucp_tag_t tag,
                                  ucp_tag_t mask, const ucp_request_param_t *param)
{
    ucs_status_ptr_t (*next)(ucp_worker_h, void *, size_t, ucp_tag_t, ucp_tag_t,
                             const ucp_request_param_t *);

    *(void **)&next = next_of("ucp_tag_recv_nbx");
    watch(param);
    return next(worker, buffer, count, tag, mask, param);
}

/* An all-gather of whole numbers; what is wrong with it, or "". */
static void gather(gdncp_comm_t *comm, char *problem, size_t size)
{
    static const int64_t lengths[NUM_RANKS] = {SHARD, SHARD};
    float in[SHARD];
    float out[NUM_RANKS * SHARD];
    gdncp_stream_t stream = NULL;
    gdncp_plan_t *plan = NULL;
    device_run_t run = {.in = in, .out = out};
    gdncp_status_t status = gdncp_plan_all_gather_concat(NUM_RANKS, gdncp_comm_rank(comm),
                                                         GDNCP_F32, 1, lengths, 1, &plan);

    for (int i = 0; i < SHARD; i++) {
        in[i] = (float)(SHARD * gdncp_comm_rank(comm) + i);
    }
    run.plan = plan;
    status = status == GDNCP_OK ? gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream) : status;
    status = status == GDNCP_OK ? open_run(&run, comm, stream) : status;
    status = status == GDNCP_OK ? start_run(&run) : status;
    status = status == GDNCP_OK ? download_run(&run) : status;
    status = status == GDNCP_OK ? gdncp_exchange_check(run.exchange) : status;
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    for (int i = 0; i < NUM_RANKS * SHARD && status == GDNCP_OK; i++) {
        if (out[i] != (float)i) {
            snprintf(problem, size, "element %d is %g", i, (double)out[i]);
        }
    }
    close_run(&run);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_plan_destroy(plan);
}

/* Both messages lie one behind the other, but only the first is sent and received where it lies. */
static int neighbours_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { FLOATS = GDNCP_STREAM_MESSAGE_ALIGNMENT / sizeof(float) };
    const bool sends = bootstrap->rank == 0;
    const size_t bytes = FLOATS * sizeof(float);
    gdncp_stream_message_t messages[2] = {
        {.peer = 1 - bootstrap->rank, .is_send = sends, .is_fixed = true, .bytes = bytes},
        {.peer = 1 - bootstrap->rank, .is_send = sends, .bytes = bytes}};
    float block[2 * FLOATS];
    void *memory = NULL;
    gdncp_comm_t *comm = NULL;
    gdncp_stream_t stream = NULL;
    gdncp_stream_group_t *group = NULL;
    gdncp_status_t status = gdncp_comm_create(bootstrap, NULL, &comm);

    (void)context;
    for (int i = 0; i < 2 * FLOATS; i++) {
        block[i] = sends ? (float)i : -1.0f;
    }
    status = status == GDNCP_OK ? gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream) : status;
    status =
        status == GDNCP_OK ? gdncp_device_alloc(GDNCP_DEVICE_CUDA, sizeof block, &memory) : status;
    messages[0].buffer = memory;
    messages[1].buffer = (float *)memory + FLOATS;
    status = status == GDNCP_OK ? gdncp_stream_group_create(comm, messages, 2, &group) : status;
    status = status == GDNCP_OK
                 ? gdncp_device_copy(GDNCP_DEVICE_CUDA, memory, block, sizeof block, stream)
                 : status;
    status = status == GDNCP_OK ? gdncp_stream_group_run(group, stream) : status;
    status = status == GDNCP_OK
                 ? gdncp_device_copy(GDNCP_DEVICE_CUDA, block, memory, sizeof block, stream)
                 : status;
    status = status == GDNCP_OK ? gdncp_stream_group_check(group) : status;
    if (status != GDNCP_OK) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
    }
    for (int i = 0; i < 2 * FLOATS && status == GDNCP_OK; i++) {
        if (block[i] != (float)i) {
            printf("rank %d: element %d is %g\n", bootstrap->rank, i, (double)block[i]);
            status = GDNCP_ERR_INTERNAL;
        }
    }
    gdncp_stream_group_destroy(group);
    gdncp_device_free(GDNCP_DEVICE_CUDA, memory);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_comm_destroy(comm);
    return status != GDNCP_OK;
}

static void neighbours_may_differ(void **state)
{
    (void)state;
    assert_int_equal(run_forked(NUM_RANKS, neighbours_body, NULL), 0);
}

/* context: whether UCX knows the memory of the device. */
static int watched_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const bool knows = *(const bool *)context;
    char problem[512] = "";
    gdncp_comm_t *comm = NULL;

    has_no_types = !knows;
    if (gdncp_comm_create(bootstrap, NULL, &comm) != GDNCP_OK) {
        snprintf(problem, sizeof problem, "%s", gdncp_last_error());
    } else {
        const gdncp_status_t status = comm->transport->ops->check_device_memory(comm->transport);

        if (status != (knows ? GDNCP_OK : GDNCP_ERR_NOT_SUPPORTED) ||
            (!knows && strstr(gdncp_last_error(), "has no CUDA transports") == NULL)) {
            snprintf(problem, sizeof problem, "check_device_memory: %d, %s", (int)status,
                     gdncp_last_error());
        } else {
            gather(comm, problem, sizeof problem);
        }
    }
    gdncp_comm_destroy(comm);
    if (problem[0] == '\0' && (num_watched == 0 || num_untyped > 0)) {
        snprintf(problem, sizeof problem, "%lld of %lld messages had no type of memory",
                 (long long)num_untyped, (long long)num_watched);
    }
    if (problem[0] != '\0') {
        printf("rank %d: %s\n", bootstrap->rank, problem);
    }
    return problem[0] != '\0';
}

static void messages_name_their_memory(void **state)
{
    (void)state;
    assert_int_equal(run_forked(NUM_RANKS, watched_body, &(bool){true}), 0);
}

static void ucx_without_cuda_is_staged_for(void **state)
{
    (void)state;
    assert_int_equal(run_forked(NUM_RANKS, watched_body, &(bool){false}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_may_differ),
        cmocka_unit_test(messages_name_their_memory),
        cmocka_unit_test(ucx_without_cuda_is_staged_for),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("memory of devices and UCX", tests, NULL, NULL);
}
