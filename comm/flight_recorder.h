/*
 * The last operations of a communicator, for when something has gone wrong.
 *
 * A ring that is allocated with the communicator: keeping an operation costs two looks at the clock
 * and one short copy. Used by the thread that uses the communicator.
 */
#ifndef GDNCP_FLIGHT_RECORDER_H
#define GDNCP_FLIGHT_RECORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/status.h"

enum { GDNCP_FLIGHT_ENTRIES = 256 };

typedef struct gdncp_flight_recorder gdncp_flight_recorder_t;

/* A number for communicators that are made by one call, in the order of the calls of a process. */
int64_t gdncp_flight_next_number(void);

/* Where GDNCP_FLIGHT_RECORD is set, also installs the signal handler; once a process. */
gdncp_status_t gdncp_flight_create(int rank, int64_t number, gdncp_flight_recorder_t **recorder_p);
void gdncp_flight_destroy(gdncp_flight_recorder_t *recorder);

/* An operation begins now, or began at begin_ns (gdncp_now_ns()) where that is not 0; the number
 * by which it is ended. text: what tells it from others of its name, or "". Both are cut to what
 * an entry holds. */
int64_t gdncp_flight_begin(gdncp_comm_t *comm, const char *name, const char *text,
                           int64_t bytes_sent, int64_t bytes_received, int64_t begin_ns);

/* Forwards the status; the last error stays as it is. One that is no success writes the record,
 * where GDNCP_FLIGHT_RECORD asks for it. */
gdncp_status_t gdncp_flight_end(gdncp_comm_t *comm, int64_t sequence, gdncp_status_t status);

/* Write the record if a signal has asked for it since the last look. */
void gdncp_flight_look(gdncp_comm_t *comm);

#endif
