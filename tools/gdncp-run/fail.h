/* The tool's errors: a status and a sentence, as in the library. */
#ifndef GDNCP_RUN_FAIL_H
#define GDNCP_RUN_FAIL_H

#include <stddef.h>

#include "gdncp/status.h"

#define RUN_SENTENCE_BYTES 1024

/* Record the calling thread's sentence and return the status. Whoever gets it gives up: a rank does
 * not go on after an error. */
gdncp_status_t run_fail(gdncp_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The sentence of the tool's own error, or else that of the library's. */
const char *run_last_error(void);

/* Memory for count elements of that size, zeroed; NULL after run_fail(). Free with free(). */
void *run_alloc(size_t count, size_t size, const char *what);

#endif
