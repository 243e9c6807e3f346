/* The table of GDNCP_* variables, and reading them. */
#include "environment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "error.h"
#include "gdncp/environment.h"

static const struct {
    const char *name;
    const char *fallback; /* what holds where it is unset, in words */
    const char *meaning;
} variables[GDNCP_NUM_VARIABLES] = {
    [GDNCP_VARIABLE_LOG] = {"GDNCP_LOG", "nothing is printed",
                            "log lines on stderr: error, warn, info or debug"},
    [GDNCP_VARIABLE_TIMEOUT] = {"GDNCP_TIMEOUT", "60000",
                                "milliseconds that no wait of a communicator exceeds"},
    [GDNCP_VARIABLE_PORT] = {"GDNCP_PORT", "derived from MASTER_PORT or the job's id",
                             "TCP port where ranks started by a launcher meet"},
    [GDNCP_VARIABLE_CUDA] = {"GDNCP_CUDA", "gpu",
                             "what serves CUDA tensors: gpu, or emulated in builds for tests"},
    [GDNCP_VARIABLE_EMULATOR_SEED] = {"GDNCP_EMULATOR_SEED", "0",
                                      "order of emulated threads and streams: 0 by number, "
                                      "others at random"},
    [GDNCP_VARIABLE_FLIGHT_RECORD] = {"GDNCP_FLIGHT_RECORD", "nothing is written",
                                      "a communicator's last operations go to <this>.<rank>.json "
                                      "on errors and SIGUSR1"},
    [GDNCP_VARIABLE_NCCL_LIBRARY] = {"GDNCP_NCCL_LIBRARY", "libnccl.so.2",
                                     "file of NCCL that is opened when it is first asked for"},
    [GDNCP_VARIABLE_SHARED_MEMORY] = {"GDNCP_SHARED_MEMORY", "1",
                                      "0: exchanges between processes of one machine go through "
                                      "UCX, too"},
    [GDNCP_VARIABLE_UCX_CUDA] = {"GDNCP_UCX_CUDA", "1",
                                 "0: devices' buffers go to UCX by way of pinned memory, also "
                                 "where it has CUDA"},
    [GDNCP_VARIABLE_AMX] = {"GDNCP_AMX", "1",
                            "0: bf16 projections and delta rules on the CPU are multiplied in "
                            "float32, also where it has matrix tiles"},
};

const char *gdncp_launcher_variable(const char *name)
{
    const char *const value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

const char *gdncp_environment_text(gdncp_variable_t variable)
{
    return gdncp_launcher_variable(variables[variable].name);
}

gdncp_status_t gdncp_environment_integer(gdncp_variable_t variable, int64_t minimum,
                                         int64_t maximum, int64_t fallback, int64_t *value_p)
{
    const char *const text = gdncp_environment_text(variable);
    char *end = NULL;

    if (text == NULL) {
        *value_p = fallback;
        return GDNCP_OK;
    }
    errno = 0;
    const long long value = strtoll(text, &end, 10);

    if (end == text || *end != '\0' || errno == ERANGE || value < minimum || value > maximum) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected an integer in %" PRId64 "..%" PRId64 ", got \"%s\"",
                          variables[variable].name, minimum, maximum, text);
    }
    *value_p = value;
    return GDNCP_OK;
}

void gdncp_environment_print(FILE *stream)
{
    for (int i = 0; i < GDNCP_NUM_VARIABLES; i++) {
        const char *const value = gdncp_environment_text((gdncp_variable_t)i);

        fprintf(stream, "%-19s %-10s default: %s; %s\n", variables[i].name,
                value != NULL ? value : "unset", variables[i].fallback, variables[i].meaning);
    }
}
