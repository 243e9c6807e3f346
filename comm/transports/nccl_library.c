/* Opening NCCL at run time. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "environment.h"
#include "error.h"
#include "nccl_api.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static gdncp_nccl_api_t opened;
static bool is_open;

static const struct {
    const char *name;
    size_t place;
    bool is_optional;
} calls[] = {
#define CALL(name, is_optional)                                                                    \
    {                                                                                              \
        "nccl" #name, offsetof(gdncp_nccl_api_t, name), is_optional                                \
    }
    CALL(GetUniqueId, false),    CALL(CommInitRankConfig, false),
    CALL(CommFinalize, false),   CALL(CommDestroy, false),
    CALL(CommAbort, false),      CALL(CommGetAsyncError, false),
    CALL(CommCount, false),      CALL(CommUserRank, false),
    CALL(GetErrorString, false), CALL(GetLastError, false),
    CALL(GroupStart, false),     CALL(GroupEnd, false),
    CALL(Send, false),           CALL(Recv, false),
    CALL(AllGather, false),      CALL(CommRevoke, true),
#undef CALL
};

/* NULL where the library has none. */
static void look_up(void *library, const char *name, void *function_p)
{
    void *const found = dlsym(library, name);

    memcpy(function_p, &found, sizeof found);
}

/* Up to 2.8, 2.8.3 was 2803. */
static gdncp_status_t fail_old(const char *file, int version)
{
    const int base = version < 10000 ? 1000 : 10000;

    return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                      "nccl: expected %s to be 2.28 or newer, got %d.%d.%d", file, version / base,
                      version % base / 100, version % 100);
}

static gdncp_status_t check_version(void *library, const char *file, gdncp_nccl_api_t *api)
{
    look_up(library, "ncclGetVersion", &api->GetVersion);
    if (api->GetVersion == NULL) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "nccl: expected %s to be NCCL, got a library without ncclGetVersion",
                          file);
    }
    if (api->GetVersion(&api->version) != GDNCP_NCCL_SUCCESS) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "nccl: expected %s to tell its version, got an error", file);
    }
    return api->version < GDNCP_NCCL_OLDEST ? fail_old(file, api->version) : GDNCP_OK;
}

static gdncp_status_t look_up_calls(void *library, const char *file, gdncp_nccl_api_t *api)
{
    const gdncp_status_t status = check_version(library, file, api);

    if (status != GDNCP_OK) {
        return status;
    }
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        void *found = NULL;

        look_up(library, calls[i].name, &found);
        if (found == NULL && !calls[i].is_optional) {
            return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                              "nccl: expected %s to have %s, got a library without it", file,
                              calls[i].name);
        }
        memcpy((char *)api + calls[i].place, &found, sizeof found);
    }
    return GDNCP_OK;
}

static gdncp_status_t open_library(void)
{
    const char *const named = gdncp_environment_text(GDNCP_VARIABLE_NCCL_LIBRARY);
    const char *const file = named != NULL ? named : "libnccl.so.2";
    void *const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    gdncp_nccl_api_t api = {0};

    if (library == NULL) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "nccl: expected a library that opens (GDNCP_NCCL_LIBRARY names another "
                          "one), got: %s",
                          dlerror());
    }
    const gdncp_status_t status = look_up_calls(library, file, &api);

    if (status != GDNCP_OK) {
        dlclose(library);
        return status;
    }
    opened = api;
    is_open = true;
    return GDNCP_OK;
}

gdncp_status_t gdncp_nccl_open(const gdncp_nccl_api_t **api_p)
{
    gdncp_status_t status = GDNCP_OK;

    pthread_mutex_lock(&lock);
    if (!is_open) {
        status = open_library();
    }
    pthread_mutex_unlock(&lock);
    if (status == GDNCP_OK) {
        *api_p = &opened;
    }
    return status;
}
