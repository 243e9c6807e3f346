#include "ucx_liveness.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.h"
#include "gdncp/memory.h"

gdncp_process_t gdncp_own_process(void)
{
    gdncp_process_t process = {.pid = getpid()};
    struct stat name_space;
    FILE *const boot = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (boot != NULL) {
        if (fgets(process.boot, sizeof process.boot, boot) != NULL &&
            stat("/proc/self/ns/pid", &name_space) == 0) {
            process.pid_namespace = (uint64_t)name_space.st_ino;
        }
        fclose(boot);
    }
    return process;
}

gdncp_status_t gdncp_liveness_init(gdncp_liveness_t *liveness, int size)
{
    struct pollfd *const processes = gdncp_memory_alloc((size_t)size * sizeof *processes);

    if (processes == NULL) {
        return gdncp_fail_memory("the list of processes");
    }
    for (int rank = 0; rank < size; rank++) {
        processes[rank] = (struct pollfd){.fd = -1, .events = POLLIN};
    }
    *liveness = (gdncp_liveness_t){.size = size, .processes = processes};
    return GDNCP_OK;
}

void gdncp_liveness_destroy(gdncp_liveness_t *liveness)
{
    for (int rank = 0; rank < liveness->size; rank++) {
        if (liveness->processes[rank].fd >= 0) {
            close(liveness->processes[rank].fd);
        }
    }
    gdncp_memory_free(liveness->processes);
    *liveness = (gdncp_liveness_t){0};
}

void gdncp_liveness_watch(gdncp_liveness_t *liveness, int rank, const gdncp_process_t *own,
                          const gdncp_process_t *process)
{
    if (own->pid_namespace == 0 || process->pid_namespace != own->pid_namespace ||
        memcmp(process->boot, own->boot, sizeof own->boot) != 0) {
        return;
    }
#ifdef SYS_pidfd_open
    liveness->processes[rank].fd = (int)syscall(SYS_pidfd_open, (pid_t)process->pid, 0);
#else
    (void)rank;
    (void)liveness;
#endif
}

void gdncp_liveness_look(gdncp_liveness_t *liveness)
{
    poll(liveness->processes, (nfds_t)liveness->size, 0);
}

int gdncp_liveness_next_dead(gdncp_liveness_t *liveness)
{
    for (int rank = 0; rank < liveness->size; rank++) {
        if (liveness->processes[rank].fd >= 0 && liveness->processes[rank].revents != 0) {
            close(liveness->processes[rank].fd);
            liveness->processes[rank].fd = -1;
            return rank;
        }
    }
    return -1;
}
