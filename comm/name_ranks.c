#include "name_ranks.h"

#include <stdio.h>

void gdncp_name_ranks(int num_ranks, bool (*is_meant)(const void *context, int rank),
                      const void *context, char *text, size_t size)
{
    enum { MAX_NAMED = 8 };
    size_t length = 0;
    int count = 0;

    text[0] = '\0';
    for (int rank = 0; rank < num_ranks; rank++) {
        if (!is_meant(context, rank)) {
            continue;
        }
        if (count < MAX_NAMED && length < size) {
            length +=
                (size_t)snprintf(text + length, size - length, "%s%d", count > 0 ? ", " : "", rank);
        }
        count++;
    }
    if (count > MAX_NAMED && length < size) {
        snprintf(text + length, size - length, " and %d more", count - MAX_NAMED);
    }
}
