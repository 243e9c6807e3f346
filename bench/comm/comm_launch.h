/* Starting the ranks: as processes, as threads, or as a launcher has started them already. */
#ifndef GDNCP_COMM_LAUNCH_H
#define GDNCP_COMM_LAUNCH_H

#include "comm_run.h"

/* The program's exit status. */
int comm_launch(const comm_program_t *program);

/* Says on stderr what has gone wrong; the exit status. */
int comm_say(int rank, gdncp_status_t status, int64_t wrong);

#endif
