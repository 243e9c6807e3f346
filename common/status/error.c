/* The calling thread's last error. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

/* error.h has macros of these names for the analyzer. */
#undef gdncp_fail
#undef gdncp_fail_memory

static _Thread_local char last_error[1024];

gdncp_status_t gdncp_fail(gdncp_status_t status, const char *format, ...)
{
    /* Formatted aside first: an argument may be gdncp_last_error() itself. */
    char sentence[sizeof last_error];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    snprintf(last_error, sizeof last_error, "%s", sentence);
    return status;
}

gdncp_status_t gdncp_fail_memory(const char *what)
{
    return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %s", what);
}

const char *gdncp_last_error(void)
{
    return last_error;
}

const char *gdncp_status_string(gdncp_status_t status)
{
    static const char *const names[] = {
        [GDNCP_OK] = "GDNCP_OK",
        [GDNCP_ERR_INVALID_ARGUMENT] = "GDNCP_ERR_INVALID_ARGUMENT",
        [GDNCP_ERR_OUT_OF_MEMORY] = "GDNCP_ERR_OUT_OF_MEMORY",
        [GDNCP_ERR_NOT_SUPPORTED] = "GDNCP_ERR_NOT_SUPPORTED",
        [GDNCP_ERR_IO] = "GDNCP_ERR_IO",
        [GDNCP_ERR_FORMAT] = "GDNCP_ERR_FORMAT",
        [GDNCP_ERR_TRANSPORT] = "GDNCP_ERR_TRANSPORT",
        [GDNCP_ERR_TIMEOUT] = "GDNCP_ERR_TIMEOUT",
        [GDNCP_ERR_PEER_LOST] = "GDNCP_ERR_PEER_LOST",
        [GDNCP_ERR_MISMATCH] = "GDNCP_ERR_MISMATCH",
        [GDNCP_ERR_NUMERIC] = "GDNCP_ERR_NUMERIC",
        [GDNCP_ERR_DEVICE] = "GDNCP_ERR_DEVICE",
        [GDNCP_ERR_INTERNAL] = "GDNCP_ERR_INTERNAL",
    };

    if ((unsigned)status >= sizeof names / sizeof names[0]) {
        return "unknown status";
    }
    return names[status];
}
