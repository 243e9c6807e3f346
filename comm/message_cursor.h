/* A message that is moved piece by piece between a user's buffer and memory where it lies in one
 * run. */
#ifndef GDNCP_MESSAGE_CURSOR_H
#define GDNCP_MESSAGE_CURSOR_H

#include "plan_internal.h"

/* Which bytes of a list of blocks come next. */
typedef struct gdncp_message_cursor {
    const gdncp_block_list_t *list;
    size_t element_bytes;
    int64_t first;   /* block that begins the group of joined blocks */
    int64_t row;     /* of the group */
    int64_t block;   /* of the group */
    size_t column;   /* bytes of that block's row that are done */
    size_t position; /* bytes of the message that are done */
} gdncp_message_cursor_t;

/* Where the bytes of a message go. */
typedef struct gdncp_message_target {
    char *out;    /* buffer of the blocks */
    char *kept;   /* for blocks that belong to sums, at their place in the message; NULL: nowhere */
    bool keeps;   /* all blocks go to kept */
    bool streams; /* past the caches; the caller fences */
} gdncp_message_target_t;

gdncp_message_cursor_t gdncp_message_begin(const gdncp_block_list_t *list, gdncp_dtype_t dtype);

/* The next bytes of the message; they must be there. */
void gdncp_message_pack(gdncp_message_cursor_t *cursor, const void *in, void *to, size_t bytes);
void gdncp_message_unpack(gdncp_message_cursor_t *cursor, const void *from, size_t bytes,
                          const gdncp_message_target_t *target);

/* A plan's local copies, piece by piece; both lists have blocks of the same rows. */
typedef struct gdncp_local_cursor {
    const gdncp_plan_t *plan;
    int64_t block;
    int64_t row;
} gdncp_local_cursor_t;

/* Whether there is something left after some rows of about so many bytes. */
bool gdncp_local_copy_next(gdncp_local_cursor_t *cursor, size_t bytes, const void *in, void *out,
                           bool streams);

#endif
