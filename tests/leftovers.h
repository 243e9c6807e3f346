/* What processes may leave behind: files, descriptors, shared memory. */
#ifndef GDNCP_LEFTOVERS_H
#define GDNCP_LEFTOVERS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/types.h>
#include <time.h>

static inline int count_files(const char *folder)
{
    DIR *const directory = opendir(folder);
    int count = 0;

    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return count;
}

/* System V segments that a process of ours made and that are still there; where asked for they are
 * removed. */
static inline int find_segments(const pid_t *pids, int num_pids, bool removes)
{
    FILE *const file = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    int count = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        long creator = -1;
        int segment = -1;

        /* key shmid perms size cpid */
        if (sscanf(line, "%*s %d %*s %*s %ld", &segment, &creator) != 2) {
            continue;
        }
        for (int i = 0; i < num_pids; i++) {
            if (pids[i] == creator) {
                count++;
                if (removes) {
                    shmctl(segment, IPC_RMID, NULL);
                }
            }
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return count;
}

static inline int count_segments(const pid_t *pids, int num_pids)
{
    return find_segments(pids, num_pids, false);
}

/* Other programs of this machine come and go there too. */
static inline bool shrinks_to(const char *folder, int num_files)
{
    for (int attempt = 0; attempt < 300; attempt++) {
        if (count_files(folder) <= num_files) {
            return true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

#endif
