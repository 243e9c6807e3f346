/* Recording the sentence that explains an error. */
#ifndef GDNCP_ERROR_H
#define GDNCP_ERROR_H

#include "gdncp/status.h"

/* Record a sentence for gdncp_last_error() and return the status, so that a check reads
 *     return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rank: expected 0..%d, got %d", n - 1, rank);
 * The sentence names the argument, what was expected and what came. */
gdncp_status_t gdncp_fail(gdncp_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Out of memory while making what `what` names. */
gdncp_status_t gdncp_fail_memory(const char *what);

#ifdef __clang_analyzer__
/* It sees one source at a time, and must be told that what fails never returns GDNCP_OK. */
#define gdncp_fail(status, ...) (gdncp_fail(status, __VA_ARGS__), status)
#define gdncp_fail_memory(what) (gdncp_fail_memory(what), GDNCP_ERR_OUT_OF_MEMORY)
#endif

#endif
