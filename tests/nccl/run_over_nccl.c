/* Part of a gdncp-run that opens the stand-in for NCCL, whose work is queued in the emulator. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "emulator_control.h"
#include "nccl_stand_in.h"

/* Before main(), so that all ranks, which it forks, have it. */
__attribute__((constructor)) static void open_stand_in(void)
{
    nccl_stand_in_control_t *find = NULL;
    void *const library = dlopen(GDNCP_NCCL_STAND_IN, RTLD_NOW | RTLD_LOCAL);
    void *const symbol = library != NULL ? dlsym(library, "nccl_stand_in_control") : NULL;

    if (symbol == NULL) {
        abort();
    }
    memcpy(&find, &symbol, sizeof find);
    setenv("GDNCP_NCCL_LIBRARY", GDNCP_NCCL_STAND_IN, 1);
    find()->queue = emulator_queue_peer_work;
    find()->num_polls = 2;
    find()->fault_rank = -1;
}
