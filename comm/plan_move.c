/* Moving a plan's blocks between buffers and messages. */
#include <string.h>

#include "message_cursor.h"
#include "plan_internal.h"

bool gdncp_block_list_is_run(const gdncp_block_list_t *list)
{
    const gdncp_block_t *const block = list->blocks;

    return list->count == 1 && (block->rows == 1 || block->stride == block->row_elements);
}

bool gdncp_plan_sends_in_place(const gdncp_plan_t *plan, int peer)
{
    return gdncp_block_list_is_run(&plan->sends[peer]);
}

/* What must be added is kept until it has its turn. */
bool gdncp_plan_receives_in_place(const gdncp_plan_t *plan, int peer)
{
    const gdncp_block_list_t *const list = &plan->recvs[peer];

    return plan->write == GDNCP_PLAN_ASSIGN && gdncp_block_list_is_run(list) &&
           !list->blocks[0].shared;
}

bool gdncp_plan_streams(const gdncp_plan_t *plan)
{
    const int64_t least_bytes = INT64_C(4) << 20;

    return plan->output_elements * (int64_t)gdncp_dtype_size(plan->dtype) >= least_bytes;
}

static size_t element_bytes(const gdncp_plan_t *plan)
{
    return gdncp_dtype_size(plan->dtype);
}

void gdncp_plan_pack(const gdncp_plan_t *plan, const gdncp_block_list_t *list, const void *in,
                     void *message)
{
    gdncp_message_cursor_t cursor = gdncp_message_begin(list, plan->dtype);

    gdncp_message_pack(&cursor, in, message, (size_t)list->elements * element_bytes(plan));
}

/* All of a message but its shared blocks, which belong to sums. */
static void unpack(const gdncp_plan_t *plan, const gdncp_block_list_t *list, const void *message,
                   void *out)
{
    const gdncp_message_target_t target = {.out = out};
    gdncp_message_cursor_t cursor = gdncp_message_begin(list, plan->dtype);

    gdncp_message_unpack(&cursor, message, (size_t)list->elements * element_bytes(plan), &target);
}

bool gdncp_plan_must_clear(const gdncp_plan_t *plan)
{
    return plan->write == GDNCP_PLAN_ASSIGN && !plan->writes_cover && !plan->keeps_rest &&
           gdncp_buffer_is_dense(&plan->output);
}

bool gdncp_plan_must_clear_rows(const gdncp_plan_t *plan)
{
    return plan->write == GDNCP_PLAN_ASSIGN && !plan->writes_cover && !plan->keeps_rest &&
           !gdncp_buffer_is_dense(&plan->output);
}

void gdncp_plan_clear(const gdncp_plan_t *plan, void *out)
{
    const gdncp_rows_t *const rows = &plan->output.rows;
    const size_t size = element_bytes(plan);

    if (gdncp_plan_must_clear(plan)) {
        memset(out, 0, (size_t)plan->output_elements * size);
    }
    for (int64_t b = 0; gdncp_plan_must_clear_rows(plan) && b < rows->batch; b++) {
        for (int64_t t = 0; t < plan->output.tokens; t++) {
            const int64_t row = t * rows->token_stride + b * rows->batch_stride;

            memset((char *)out + (size_t)row * size, 0, (size_t)plan->output.row_elements * size);
        }
    }
}

void gdncp_plan_copy_local(const gdncp_plan_t *plan, const void *in, void *out)
{
    gdncp_local_cursor_t cursor = {.plan = plan};

    gdncp_local_copy_next(&cursor, SIZE_MAX, in, out, false);
}

void gdncp_plan_unpack(const gdncp_plan_t *plan, const void *const *messages, void *out)
{
    for (int peer = 0; peer < plan->num_ranks && plan->write == GDNCP_PLAN_ASSIGN; peer++) {
        if (peer != plan->rank && messages[peer] != NULL) {
            unpack(plan, &plan->recvs[peer], messages[peer], out);
        }
    }
}

void gdncp_plan_deliver(const gdncp_plan_t *plan, const void *in, const void *const *messages,
                        void *out)
{
    gdncp_plan_unpack(plan, messages, out);
    gdncp_plan_add_sums(plan, in, messages, out);
}
