/* What a plan needs on a CUDA device: kernels that move blocks and add terms, as one table that
 * each backend fills whole. */
#ifndef GDNCP_PLAN_KERNELS_H
#define GDNCP_PLAN_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* No warp moves more than this many bytes, but for a row of a single element. */
enum { GDNCP_TILE_BYTES = 8192 };

/* Rows that are copied from one buffer to another. All but rows counts bytes; offsets are from the
 * buffers' begins. */
typedef struct gdncp_move_tile {
    int64_t from;
    int64_t to;
    int64_t from_stride;
    int64_t to_stride;
    int32_t rows;
    int32_t row_bytes;
    int32_t alignment; /* 16, 8, 4, 2 or 1: divides offsets, row_bytes, and strides if rows > 1 */
} gdncp_move_tile_t;

/* Rows of the output that are sums of terms. Counts elements; strides are between rows. */
typedef struct gdncp_sum_tile {
    int64_t target; /* of the tile's first element */
    int64_t stride;
    int64_t row; /* of the tile in its sum: where it begins in each term too */
    int64_t column;
    int64_t first_term;
    int64_t num_terms;
    int32_t rows;
    int32_t row_elements;
    bool is_wide; /* its rows are made of 16 bytes, aligned so in the output and in every term */
} gdncp_sum_tile_t;

/* A contribution to a sum: rows of the input, or of what was received. */
typedef struct gdncp_sum_term {
    int64_t offset;
    int64_t stride;
    bool is_received;
} gdncp_sum_term_t;

/* In memory of the device. */
typedef struct gdncp_sum_list {
    const gdncp_sum_tile_t *tiles;
    int64_t num_tiles;
    const gdncp_sum_term_t *terms;
    gdncp_dtype_t dtype; /* F32, BF16, F16 or F64 */
    bool adds;           /* to what the output holds; else terms only */
} gdncp_sum_list_t;

/* Launchers: they queue one kernel in the stream. */
typedef struct gdncp_plan_kernels {
    /* tiles [num_tiles] in memory of the device */
    gdncp_status_t (*move)(const gdncp_move_tile_t *tiles, int64_t num_tiles, const void *from,
                           void *to, gdncp_stream_t stream);
    /* Each element's terms are added in order, in float32, in double for F64. */
    gdncp_status_t (*add)(const gdncp_sum_list_t *sums, const void *in, const void *received,
                          void *out, gdncp_stream_t stream);
} gdncp_plan_kernels_t;

/* Those of a backend. */
const gdncp_plan_kernels_t *gdncp_plan_kernels_of(const gdncp_backend_t *backend);

extern const gdncp_plan_kernels_t gdncp_plan_kernels_cuda;     /* in builds with GDNCP_CUDA */
extern const gdncp_plan_kernels_t gdncp_plan_kernels_emulated; /* in builds with GDNCP_EMULATOR */

#ifdef __cplusplus
}
#endif

#endif
