/* Which backend serves CUDA tensors in this process. */
#include "backend.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "environment.h"
#include "error.h"

static pthread_once_t chosen = PTHREAD_ONCE_INIT;
static bool wants_emulator;
static const gdncp_backend_t *backend; /* NULL: there is none in this build */
static char unknown[64];               /* a value of GDNCP_CUDA that means nothing */

static void choose(void)
{
    const char *const text = gdncp_environment_text(GDNCP_VARIABLE_CUDA);

    wants_emulator = text != NULL && strcmp(text, "emulated") == 0;
    if (text != NULL && !wants_emulator && strcmp(text, "gpu") != 0) {
        strncpy(unknown, text, sizeof unknown - 1);
        return;
    }
#ifdef GDNCP_HAVE_EMULATOR
    if (wants_emulator) {
        backend = &gdncp_backend_emulated;
    }
#endif
#ifdef GDNCP_HAVE_CUDA
    if (!wants_emulator) {
        backend = &gdncp_backend_cuda;
    }
#endif
}

gdncp_status_t gdncp_backend_find(const gdncp_backend_t **backend_p)
{
    pthread_once(&chosen, choose);
    if (unknown[0] != '\0') {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "GDNCP_CUDA: expected gpu or emulated, got \"%s\"", unknown);
    }
    if (backend == NULL) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          wants_emulator
                              ? "cuda: this gdncp was built without the emulator "
                                "(GDNCP_EMULATOR=ON), which GDNCP_CUDA=emulated asks for"
                              : "cuda: this gdncp was built without CUDA kernels (GDNCP_CUDA=ON)");
    }
    const gdncp_status_t status = backend->check();

    if (status == GDNCP_OK) {
        *backend_p = backend;
    }
    return status;
}
