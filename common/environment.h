/* The one place that reads GDNCP_* environment variables: one table, which gdncp-info prints. */
#ifndef GDNCP_ENVIRONMENT_H
#define GDNCP_ENVIRONMENT_H

#include <stdint.h>

#include "gdncp/status.h"

typedef enum gdncp_variable {
    GDNCP_VARIABLE_LOG,     /* GDNCP_LOG: error, warn, info, debug; unset: nothing is printed */
    GDNCP_VARIABLE_TIMEOUT, /* GDNCP_TIMEOUT: milliseconds, the default of gdncp_comm_options_t */
    GDNCP_VARIABLE_PORT,    /* GDNCP_PORT: where ranks of gdncp_comm_create_from_environment meet */
    GDNCP_VARIABLE_CUDA,    /* GDNCP_CUDA: gpu or emulated, what serves CUDA tensors */
    GDNCP_VARIABLE_EMULATOR_SEED, /* GDNCP_EMULATOR_SEED: order of the emulator's threads */
    GDNCP_VARIABLE_FLIGHT_RECORD, /* GDNCP_FLIGHT_RECORD: begins the names of files of records */
    GDNCP_VARIABLE_NCCL_LIBRARY,  /* GDNCP_NCCL_LIBRARY: the file of NCCL to open */
    GDNCP_VARIABLE_SHARED_MEMORY, /* GDNCP_SHARED_MEMORY: 0 or 1, rings between processes */
    GDNCP_VARIABLE_UCX_CUDA,      /* GDNCP_UCX_CUDA: 0 or 1, devices' buffers go to UCX as such */
    GDNCP_VARIABLE_AMX,           /* GDNCP_AMX: 0 or 1, products of bf16 on matrix tiles */
    GDNCP_NUM_VARIABLES
} gdncp_variable_t;

/* Its value, or NULL when unset or empty. */
const char *gdncp_environment_text(gdncp_variable_t variable);

/* Its value as an integer in [minimum, maximum], or fallback when unset. A value that is no such
 * integer is GDNCP_ERR_INVALID_ARGUMENT naming the variable. */
gdncp_status_t gdncp_environment_integer(gdncp_variable_t variable, int64_t minimum,
                                         int64_t maximum, int64_t fallback, int64_t *value_p);

/* A launcher's variable (RANK, OMPI_COMM_WORLD_SIZE, …) by name; NULL when unset or empty. */
const char *gdncp_launcher_variable(const char *name);

#endif
