/* Threads of the library's own. */
#ifndef GDNCP_QUIET_THREAD_H
#define GDNCP_QUIET_THREAD_H

#include <pthread.h>

#include "gdncp/status.h"

/* Start a thread that takes no signals: these are for the threads of the program. */
gdncp_status_t gdncp_quiet_thread_create(pthread_t *thread, void *(*run)(void *argument),
                                         void *argument);

#endif
