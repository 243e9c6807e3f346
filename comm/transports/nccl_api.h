/*
 * What gdncp uses of NCCL, as nccl.h of 2.28 and newer has it.
 *
 * Declared here, so that a build needs neither NCCL nor CUDA; where nccl.h is found when CMake
 * configures, nccl_header.c compares. The library is opened when it is first asked for.
 */
#ifndef GDNCP_NCCL_API_H
#define GDNCP_NCCL_API_H

#include <stddef.h>

#include "gdncp/status.h"

#define GDNCP_NCCL_OLDEST 22800 /* 2.28.0, as ncclGetVersion() tells it */

typedef void *gdncp_nccl_comm_t;   /* ncclComm_t */
typedef void *gdncp_nccl_stream_t; /* cudaStream_t */

/* ncclResult_t */
typedef enum gdncp_nccl_result {
    GDNCP_NCCL_SUCCESS = 0,
    GDNCP_NCCL_UNHANDLED_CUDA_ERROR = 1,
    GDNCP_NCCL_SYSTEM_ERROR = 2,
    GDNCP_NCCL_INTERNAL_ERROR = 3,
    GDNCP_NCCL_INVALID_ARGUMENT = 4,
    GDNCP_NCCL_INVALID_USAGE = 5,
    GDNCP_NCCL_REMOTE_ERROR = 6,
    GDNCP_NCCL_IN_PROGRESS = 7
} gdncp_nccl_result_t;

/* ncclDataType_t: plans' messages are bytes. */
typedef enum gdncp_nccl_type { GDNCP_NCCL_INT8 = 0 } gdncp_nccl_type_t;

/* ncclUniqueId */
typedef struct gdncp_nccl_id {
    char internal[128];
} gdncp_nccl_id_t;

/* The begin of ncclConfig_t, as 2.14 had it: newer libraries read the size and the version, and
 * take their defaults for what is not there. */
typedef struct gdncp_nccl_config {
    size_t size;
    unsigned int magic;
    unsigned int version;
    int blocking;
} gdncp_nccl_config_t;

#define GDNCP_NCCL_CONFIG_MAGIC 0xcafebeefu
#define GDNCP_NCCL_CONFIG_VERSION 21400u

/* The calls, by their names without the prefix. */
typedef struct gdncp_nccl_api {
    int version; /* as ncclGetVersion() tells it */

    gdncp_nccl_result_t (*GetVersion)(int *version);
    gdncp_nccl_result_t (*GetUniqueId)(gdncp_nccl_id_t *id);
    gdncp_nccl_result_t (*CommInitRankConfig)(gdncp_nccl_comm_t *comm, int num_ranks,
                                              gdncp_nccl_id_t id, int rank,
                                              gdncp_nccl_config_t *config);
    gdncp_nccl_result_t (*CommFinalize)(gdncp_nccl_comm_t comm);
    gdncp_nccl_result_t (*CommDestroy)(gdncp_nccl_comm_t comm);
    gdncp_nccl_result_t (*CommAbort)(gdncp_nccl_comm_t comm);
    gdncp_nccl_result_t (*CommGetAsyncError)(gdncp_nccl_comm_t comm, gdncp_nccl_result_t *error);
    gdncp_nccl_result_t (*CommCount)(gdncp_nccl_comm_t comm, int *count);
    gdncp_nccl_result_t (*CommUserRank)(gdncp_nccl_comm_t comm, int *rank);
    const char *(*GetErrorString)(gdncp_nccl_result_t result);
    const char *(*GetLastError)(gdncp_nccl_comm_t comm);
    gdncp_nccl_result_t (*GroupStart)(void);
    gdncp_nccl_result_t (*GroupEnd)(void);
    gdncp_nccl_result_t (*Send)(const void *buffer, size_t count, gdncp_nccl_type_t type, int peer,
                                gdncp_nccl_comm_t comm, gdncp_nccl_stream_t stream);
    gdncp_nccl_result_t (*Recv)(void *buffer, size_t count, gdncp_nccl_type_t type, int peer,
                                gdncp_nccl_comm_t comm, gdncp_nccl_stream_t stream);
    gdncp_nccl_result_t (*AllGather)(const void *in, void *out, size_t count,
                                     gdncp_nccl_type_t type, gdncp_nccl_comm_t comm,
                                     gdncp_nccl_stream_t stream);

    /* Stops what is under way and leaves the communicator to its owner. NULL: the library is older
     * than it. */
    gdncp_nccl_result_t (*CommRevoke)(gdncp_nccl_comm_t comm, int flags);
} gdncp_nccl_api_t;

/*
 * Open the library that GDNCP_NCCL_LIBRARY names, else libnccl.so.2, and look up its calls. What
 * was opened stays open, and is what later calls get, of any thread.
 *
 * GDNCP_ERR_NOT_SUPPORTED where there is none, it is older than 2.28, or it lacks a call.
 */
gdncp_status_t gdncp_nccl_open(const gdncp_nccl_api_t **api_p);

#endif
