/* Plans: what they tell about themselves, their transpose, their end. */
#include "gdncp/plan.h"

#include <inttypes.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "plan_internal.h"

static void free_lists(gdncp_block_list_t *lists, int num_ranks)
{
    for (int peer = 0; lists != NULL && peer < num_ranks; peer++) {
        gdncp_memory_free(lists[peer].blocks);
    }
    gdncp_memory_free(lists);
}

void gdncp_plan_destroy(gdncp_plan_t *plan)
{
    if (plan != NULL) {
        free_lists(plan->sends, plan->num_ranks);
        free_lists(plan->recvs, plan->num_ranks);
        gdncp_memory_free(plan->sums);
        gdncp_memory_free(plan->terms);
        gdncp_memory_free(plan->messages);
        gdncp_memory_free(plan);
    }
}

/* to is all zero; on failure it holds what is to be freed with free_lists(). */
static gdncp_status_t copy_lists(const gdncp_block_list_t *from, gdncp_block_list_t *to,
                                 int num_ranks)
{
    for (int peer = 0; peer < num_ranks; peer++) {
        const size_t bytes = (size_t)from[peer].count * sizeof *from[peer].blocks;

        if (bytes == 0) {
            continue;
        }
        to[peer].blocks = gdncp_memory_alloc(bytes);
        if (to[peer].blocks == NULL) {
            return gdncp_fail_memory("a transpose's blocks");
        }
        memcpy(to[peer].blocks, from[peer].blocks, bytes);
        to[peer].count = from[peer].count;
        to[peer].capacity = from[peer].count;
        to[peer].elements = from[peer].elements;
    }
    return GDNCP_OK;
}

static bool can_add(gdncp_dtype_t dtype)
{
    return dtype == GDNCP_F32 || dtype == GDNCP_F64 || dtype == GDNCP_BF16 || dtype == GDNCP_F16;
}

static gdncp_status_t check_transpose(const gdncp_plan_t *plan, gdncp_plan_write_t write,
                                      gdncp_plan_t **transpose_p)
{
    if (plan == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "plan: expected a plan, got NULL");
    }
    if (transpose_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "transpose_p: expected an address, got NULL");
    }
    if (write != GDNCP_PLAN_ASSIGN && write != GDNCP_PLAN_ADD) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "write: expected GDNCP_PLAN_ASSIGN or GDNCP_PLAN_ADD, got %d",
                          (int)write);
    }
    if (write == GDNCP_PLAN_ADD && !can_add(plan->dtype)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "write: GDNCP_PLAN_ADD expects f32, f64, bf16 or f16, got a plan of %s",
                          gdncp_dtype_name(plan->dtype));
    }
    if (plan->reads_overlap && !can_add(plan->dtype)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "plan: %s reads elements more than once, so that its transpose expects "
                          "f32, f64, bf16 or f16, got %s",
                          plan->name, gdncp_dtype_name(plan->dtype));
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_plan_transpose(const gdncp_plan_t *plan, gdncp_plan_write_t write,
                                    gdncp_plan_t **transpose_p)
{
    gdncp_plan_t *transpose;
    gdncp_status_t status = check_transpose(plan, write, transpose_p);

    if (status != GDNCP_OK) {
        return status;
    }
    status =
        gdncp_plan_start(plan->operation, plan->num_ranks, plan->rank, plan->dtype, &transpose);
    if (status != GDNCP_OK) {
        return status;
    }
    memcpy(transpose->text, plan->text, sizeof plan->text);
    transpose->seed = plan->seed;
    transpose->transposed = !plan->transposed;
    transpose->write = write;
    gdncp_plan_set_buffers(transpose, plan->output, plan->input);
    transpose->reads_overlap = plan->writes_overlap;
    transpose->writes_overlap = plan->reads_overlap;
    status = copy_lists(plan->sends, transpose->recvs, plan->num_ranks);
    if (status != GDNCP_OK) {
        goto destroy_transpose;
    }
    status = copy_lists(plan->recvs, transpose->sends, plan->num_ranks);
    if (status != GDNCP_OK) {
        goto destroy_transpose;
    }
    status = gdncp_plan_seal(transpose);
    if (status != GDNCP_OK) {
        goto destroy_transpose;
    }
    *transpose_p = transpose;
    return GDNCP_OK;

destroy_transpose:
    gdncp_plan_destroy(transpose);
    return status;
}

const char *gdncp_plan_name(const gdncp_plan_t *plan)
{
    return plan->name;
}

int gdncp_plan_rank(const gdncp_plan_t *plan)
{
    return plan->rank;
}

int gdncp_plan_num_ranks(const gdncp_plan_t *plan)
{
    return plan->num_ranks;
}

gdncp_dtype_t gdncp_plan_dtype(const gdncp_plan_t *plan)
{
    return plan->dtype;
}

int64_t gdncp_plan_input_elements(const gdncp_plan_t *plan)
{
    return plan->input_elements;
}

int64_t gdncp_plan_output_elements(const gdncp_plan_t *plan)
{
    return plan->output_elements;
}

int64_t gdncp_plan_bytes_sent(const gdncp_plan_t *plan)
{
    int64_t bytes = 0;

    for (int64_t m = 0; m < plan->num_messages; m++) {
        bytes += plan->messages[m].send_bytes;
    }
    return bytes;
}

int64_t gdncp_plan_bytes_received(const gdncp_plan_t *plan)
{
    int64_t bytes = 0;

    for (int64_t m = 0; m < plan->num_messages; m++) {
        bytes += plan->messages[m].recv_bytes;
    }
    return bytes;
}

const gdncp_message_t *gdncp_plan_messages(const gdncp_plan_t *plan, int64_t *count_p)
{
    *count_p = plan->num_messages;
    return plan->messages;
}

uint64_t gdncp_plan_fingerprint(const gdncp_plan_t *plan)
{
    gdncp_plan_t hashed = {.seed = plan->seed};

    gdncp_plan_mix(&hashed, plan->transposed);
    gdncp_plan_mix(&hashed, plan->write);
    return hashed.seed;
}

gdncp_status_t gdncp_plan_write_schedule(const gdncp_plan_t *plan, FILE *stream)
{
    if (plan == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "plan: expected a plan, got NULL");
    }
    if (stream == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "stream: expected an open file, got NULL");
    }
    fprintf(stream,
            "{\"plan\": \"%s\", \"rank\": %d, \"num_ranks\": %d, \"dtype\": \"%s\", "
            "\"write\": \"%s\", \"input_elements\": %" PRId64 ", \"output_elements\": %" PRId64
            ", \"bytes_sent\": %" PRId64 ", \"fingerprint\": \"%016" PRIx64 "\"}\n",
            plan->name, plan->rank, plan->num_ranks, gdncp_dtype_name(plan->dtype),
            plan->write == GDNCP_PLAN_ADD ? "add" : "assign", plan->input_elements,
            plan->output_elements, gdncp_plan_bytes_sent(plan), gdncp_plan_fingerprint(plan));
    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];

        fprintf(stream,
                "{\"plan\": \"%s\", \"rank\": %d, \"peer\": %d, \"send_bytes\": %" PRId64
                ", \"recv_bytes\": %" PRId64 "}\n",
                plan->name, plan->rank, message->peer, message->send_bytes, message->recv_bytes);
    }
    if (fflush(stream) != 0 || ferror(stream)) {
        return gdncp_fail(GDNCP_ERR_IO, "stream: the schedule of rank %d could not be written",
                          plan->rank);
    }
    return GDNCP_OK;
}
