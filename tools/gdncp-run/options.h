/* The command line. */
#ifndef GDNCP_RUN_OPTIONS_H
#define GDNCP_RUN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/layer.h"
#include "gdncp/layout.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

#define RUN_MAX_RANKS 64
#define RUN_DEFAULT_RANKS 2
#define RUN_MAX_STRATEGIES 2

typedef enum run_request { RUN_DUMP = 0, RUN_HELP, RUN_VERSION } run_request_t;

/* Where the tensors lie: RUN_EMULATED are CUDA tensors of gdncp's own emulator. */
typedef enum run_device { RUN_CPU = 0, RUN_CUDA, RUN_EMULATED } run_device_t;

typedef struct run_options {
    run_request_t request;
    const char *file; /* NULL where the command line has none */
    int ranks;        /* 0: not given */
    gdncp_layout_kind_t layout;
    gdncp_strategy_t strategies[RUN_MAX_STRATEGIES];
    int num_strategies;
    gdncp_dtype_t dtype;
    gdncp_dtype_t rule_dtype; /* F32 or dtype */
    run_device_t device;
    int64_t tokens; /* per batch row; 0: as in the dump */
    int iterations;
    gdncp_transport_kind_t transport;
    const char *trace; /* NULL: no trace */
    bool json;
} run_options_t;

/* The options' strings are argv's. On an error the options hold the defaults for all that was not
 * read, and json as it was given. */
gdncp_status_t run_options_parse(int argc, char **argv, run_options_t *options);

/* The text of --help. */
const char *run_options_help(void);

#endif
