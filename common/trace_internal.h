/* Recording trace events from inside the library. */
#ifndef GDNCP_TRACE_INTERNAL_H
#define GDNCP_TRACE_INTERNAL_H

#include <stdint.h>

/* The time to hand to gdncp_trace_end(); 0 while the calling thread does not record. */
int64_t gdncp_trace_begin(void);

/* Record what began at begin_ns; nothing where that is 0. name: static storage. */
void gdncp_trace_end(const char *name, int64_t begin_ns, int64_t bytes);

#endif
