/**
 * @file
 * Status codes and the sentence that explains the last error.
 *
 * Every function of gdncp that can fail returns gdncp_status_t. Outputs are
 * written on GDNCP_OK only. Whoever first detects an error records a sentence
 * that names the argument, what was expected and what came; callers forward it.
 */
#ifndef GDNCP_STATUS_H
#define GDNCP_STATUS_H

#include "export.h"

GDNCP_BEGIN_DECLS

typedef enum gdncp_status {
    GDNCP_OK = 0,
    GDNCP_ERR_INVALID_ARGUMENT, /**< an argument is outside its contract */
    GDNCP_ERR_OUT_OF_MEMORY,
    GDNCP_ERR_NOT_SUPPORTED, /**< valid, but this build or device cannot do it */
    GDNCP_ERR_IO,            /**< a file or socket could not be read or written */
    GDNCP_ERR_FORMAT,        /**< a file's content is not what it claims to be */
    GDNCP_ERR_TRANSPORT,     /**< UCX, NCCL or a socket reported an error */
    GDNCP_ERR_TIMEOUT,       /**< a wait passed its deadline */
    GDNCP_ERR_PEER_LOST,     /**< another rank died, left or failed */
    GDNCP_ERR_MISMATCH,      /**< ranks disagree: different plans, layouts or shapes */
    GDNCP_ERR_NUMERIC,       /**< a result or an input is NaN or infinite */
    GDNCP_ERR_DEVICE,        /**< the GPU, its driver or its runtime reported an error */
    GDNCP_ERR_INTERNAL       /**< a defect of gdncp: please report it */
} gdncp_status_t;

/** Name of a status, for example "GDNCP_ERR_TIMEOUT". Never NULL; static storage. */
GDNCP_API const char *gdncp_status_string(gdncp_status_t status);

/**
 * The calling thread's last error as one sentence; "" when there was none.
 *
 * Valid until the next gdncp call that fails on the same thread. A call that
 * succeeds leaves it as it is.
 */
GDNCP_API const char *gdncp_last_error(void);

/** Version of the library that is loaded, as "major.minor.patch". */
GDNCP_API const char *gdncp_version(void);

GDNCP_END_DECLS

#endif
