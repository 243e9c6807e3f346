#include "fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local char own_error[RUN_SENTENCE_BYTES];

gdncp_status_t run_fail(gdncp_status_t status, const char *format, ...)
{
    /* Formatted aside first: an argument may be run_last_error() itself. */
    char sentence[sizeof own_error];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    snprintf(own_error, sizeof own_error, "%s", sentence);
    return status;
}

const char *run_last_error(void)
{
    return own_error[0] != '\0' ? own_error : gdncp_last_error();
}

void *run_alloc(size_t count, size_t size, const char *what)
{
    void *const memory = calloc(count > 0 ? count : 1, size);

    if (memory == NULL) {
        (void)run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %s", what);
    }
    return memory;
}
