#include "quiet_thread.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "error.h"

gdncp_status_t gdncp_quiet_thread_create(pthread_t *thread, void *(*run)(void *argument),
                                         void *argument)
{
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(thread, NULL, run, argument);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? GDNCP_OK
                      : gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY,
                                   "a communicator's thread did not start: %s", strerror(error));
}
