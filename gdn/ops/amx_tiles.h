/* The matrix tiles (AMX) of x86 processors: whether there are any, and a thread's use of them. */
#ifndef GDNCP_AMX_TILES_H
#define GDNCP_AMX_TILES_H

#include <stdbool.h>

#include "gdncp/status.h"

/* Rows of a tile; bytes of a row, and of a tile. */
#define GDNCP_TILE_ROWS 16
#define GDNCP_TILE_ROW_BYTES 64
#define GDNCP_TILE_BYTES 1024

/* Depth of a product of two tiles of bf16. */
#define GDNCP_TILE_DEPTH 32

/* Put before functions that use tiles. */
#define GDNCP_AMX __attribute__((target("amx-tile,amx-bf16")))

/* Whether GDNCP_AMX allows tiles, this processor has them, and the kernel lets this process use
 * them: asked for once. From then on the kernel takes no signal stack that is too small for them.
 */
gdncp_status_t gdncp_amx_is_wanted(bool *is_wanted);

/* Get this thread's tiles ready, all of 16 rows of 64 bytes, and give them back. */
void gdncp_amx_begin(void);
void gdncp_amx_end(void);

#endif
