/* What processes may leave behind: files, descriptors, shared memory. */
#ifndef GDNCP_LEFTOVERS_H
#define GDNCP_LEFTOVERS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
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

/* System V segments that a process of ours made and that are still there. */
static inline int count_segments(const pid_t *pids, int num_pids)
{
    FILE *const file = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    int count = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        long creator = -1;

        /* key shmid perms size cpid */
        if (sscanf(line, "%*s %*s %*s %*s %ld", &creator) != 1) {
            continue;
        }
        for (int i = 0; i < num_pids; i++) {
            count += pids[i] == creator;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return count;
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
