#include "message_cursor.h"

#include <assert.h>
#include <string.h>

#include "row_copy.h"

/* Bytes that lie together in the buffer. */
typedef struct run {
    size_t offset;
    size_t bytes;
    bool shared;
} run_t;

gdncp_message_cursor_t gdncp_message_begin(const gdncp_block_list_t *list, gdncp_dtype_t dtype)
{
    return (gdncp_message_cursor_t){.list = list, .element_bytes = gdncp_dtype_size(dtype)};
}

/* At most limit bytes, and none of another row. */
static run_t next_run(gdncp_message_cursor_t *cursor, size_t limit)
{
    const gdncp_block_t *const group = &cursor->list->blocks[cursor->first];
    const gdncp_block_t *const block = &group[cursor->block];
    const size_t row_bytes = (size_t)block->row_elements * cursor->element_bytes;
    const size_t rest = row_bytes - cursor->column;
    const run_t run = {
        .offset = (size_t)(block->offset + cursor->row * block->stride) * cursor->element_bytes +
                  cursor->column,
        .bytes = rest < limit ? rest : limit,
        .shared = block->shared,
    };

    assert(cursor->first < cursor->list->count);
    cursor->position += run.bytes;
    cursor->column += run.bytes;
    if (cursor->column == row_bytes) {
        cursor->column = 0;
        if (++cursor->block == group->num_joined) {
            cursor->block = 0;
            if (++cursor->row == group->rows) {
                cursor->row = 0;
                cursor->first += group->num_joined;
            }
        }
    }
    return run;
}

void gdncp_message_pack(gdncp_message_cursor_t *cursor, const void *in, void *to, size_t bytes)
{
    const char *const base = in;
    run_t run = bytes > 0 ? next_run(cursor, bytes) : (run_t){0};

    for (size_t done = 0; done < bytes;) {
        const size_t rest = bytes - done - run.bytes;
        const run_t next = rest > 0 ? next_run(cursor, rest) : (run_t){0};

        gdncp_copy_row((char *)to + done, base + run.offset, run.bytes,
                       rest > 0 ? base + next.offset : NULL, false);
        done += run.bytes;
        run = next;
    }
}

void gdncp_message_unpack(gdncp_message_cursor_t *cursor, const void *from, size_t bytes,
                          const gdncp_message_target_t *target)
{
    for (size_t done = 0; done < bytes;) {
        const size_t position = cursor->position;
        const run_t run = next_run(cursor, bytes - done);
        const char *const source = (const char *)from + done;

        if (!run.shared && !target->keeps) {
            gdncp_copy_row(target->out + run.offset, source, run.bytes, source + run.bytes,
                           target->streams);
        } else if (target->kept != NULL) {
            gdncp_copy_row(target->kept + position, source, run.bytes, source + run.bytes,
                           target->streams);
        }
        done += run.bytes;
    }
}

bool gdncp_local_copy_next(gdncp_local_cursor_t *cursor, size_t bytes, const void *in, void *out,
                           bool streams)
{
    const gdncp_plan_t *const plan = cursor->plan;
    const gdncp_block_list_t *const sources = &plan->sends[plan->rank];
    const gdncp_block_list_t *const targets = &plan->recvs[plan->rank];
    const size_t size = gdncp_dtype_size(plan->dtype);

    if (plan->write == GDNCP_PLAN_ADD) {
        return false;
    }
    for (size_t done = 0; cursor->block < targets->count && done < bytes;) {
        const gdncp_block_t *const from = &sources->blocks[cursor->block];
        const gdncp_block_t *const to = &targets->blocks[cursor->block];
        const size_t row_bytes = (size_t)to->row_elements * size;

        if (!to->shared) {
            const char *const source =
                (const char *)in + (size_t)(from->offset + cursor->row * from->stride) * size;

            gdncp_copy_row((char *)out + (size_t)(to->offset + cursor->row * to->stride) * size,
                           source, row_bytes, source + (size_t)from->stride * size, streams);
            done += row_bytes;
        }
        if (to->shared || ++cursor->row == to->rows) {
            cursor->row = 0;
            cursor->block++;
        }
    }
    return cursor->block < targets->count;
}
