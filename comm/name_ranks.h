/* Ranks in a sentence. */
#ifndef GDNCP_NAME_RANKS_H
#define GDNCP_NAME_RANKS_H

#include <stdbool.h>
#include <stddef.h>

/* Write those of ranks [0, num_ranks) that are meant: "0, 3, 5", or the first ones "and 12 more";
 * "" for none. Cut to size bytes with the final NUL. */
void gdncp_name_ranks(int num_ranks, bool (*is_meant)(const void *context, int rank),
                      const void *context, char *text, size_t size);

#endif
