/* The lanes of an endpoint, from the only place where UCX tells them. */
#include <stdio.h>
#include <string.h>

#include "ucx_internal.h"

static bool contains_word(const char *text, const char *word, size_t length)
{
    for (const char *found = strstr(text, word); found != NULL; found = strstr(found + 1, word)) {
        const char end = found[length];

        if ((found == text || found[-1] == ' ') && (end == ' ' || end == '\0')) {
            return true;
        }
    }
    return false;
}

/* A lane reads
 *     lane[1]:  4:cma/memory.0 md[3]  -> md[3]/cma/sysdev[255] rma_bw#0
 * with the transport and device between the second colon and the dot that precedes a path's
 * number, as a device's name may have dots of its own. */
void gdncp_ucx_lanes_text(char *info, char *text, size_t size)
{
    char *rest = NULL;

    text[0] = '\0';
    for (char *line = strtok_r(info, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *lane = strstr(line, "lane[");
        lane = lane != NULL ? strchr(lane, ':') : NULL;
        lane = lane != NULL ? strchr(lane + 1, ':') : NULL;
        if (lane == NULL) {
            continue;
        }
        lane++;
        lane[strcspn(lane, " ")] = '\0';
        char *const dot = strrchr(lane, '.');
        if (dot != NULL) {
            *dot = '\0';
        }
        const size_t used = strlen(text);
        if (strchr(lane, '/') != NULL && !contains_word(text, lane, strlen(lane))) {
            snprintf(text + used, size - used, "%s%s", used > 0 ? " " : "", lane);
        }
    }
}
