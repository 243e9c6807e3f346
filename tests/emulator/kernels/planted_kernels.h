/* Kernels with a mistake each, and with the mistake mended: what the emulator is trusted to find.
 */
#ifndef GDNCP_TEST_PLANTED_KERNELS_H
#define GDNCP_TEST_PLANTED_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One block of PLANTED_THREADS threads unless said otherwise; arrays are in device memory and have
 * that many elements. */
enum { PLANTED_THREADS = 128 };

/* out[t] = in[t + 32 modulo the number of threads], through shared memory; the mistake: ... */
gdncp_status_t planted_barrier(bool mended, const float *in, float *out, gdncp_stream_t stream);
/* ... a value is overwritten before all have read it; out[t] is the sum of in over all threads */
gdncp_status_t planted_second_barrier(bool mended, const float *in, float *out,
                                      gdncp_stream_t stream);
/* ... no sync_warp() between a write and another lane's read */
gdncp_status_t planted_warp_barrier(bool mended, const float *in, float *out,
                                    gdncp_stream_t stream);
/* ... half of the threads return before a sync_block() */
gdncp_status_t planted_early_return(bool mended, const float *in, float *out,
                                    gdncp_stream_t stream);
/* ... the last thread writes the element `beyond` the last; shared memory has one behind that */
gdncp_status_t planted_shared_write(bool mended, const float *in, float *out, int64_t beyond,
                                    gdncp_stream_t stream);

/* out[t] = in[t]; the mistake: calls so deep that no stack holds them. */
gdncp_status_t planted_recursion(bool mended, const float *in, float *out, gdncp_stream_t stream);

/* out[t] = in[t]; the mistake: the last thread writes `beyond` elements behind the end of out. */
gdncp_status_t planted_global_write(bool mended, const float *in, float *out, int64_t beyond,
                                    gdncp_stream_t stream);
/* ... reads there */
gdncp_status_t planted_global_read(bool mended, const float *in, float *out, int64_t beyond,
                                   gdncp_stream_t stream);

/* out[t] = in of the next lane, by shuffles; the mistake: one lane does not take part. */
gdncp_status_t planted_missing_lane(bool mended, const float *in, float *out,
                                    gdncp_stream_t stream);
/* ... half of the warp does something else */
gdncp_status_t planted_divergence(bool mended, const float *in, float *out, gdncp_stream_t stream);

/* out[t] = in[t], where each thread copies 4 elements by cp_async and reads one that ... copied:
 * itself; the mistake: it does not wait for the copy. */
gdncp_status_t planted_copy_wait(bool mended, const float *in, float *out, gdncp_stream_t stream);
/* ... another thread; no sync_block() after the wait */
gdncp_status_t planted_copy_barrier(bool mended, const float *in, float *out,
                                    gdncp_stream_t stream);
/* ... nobody; out[t] is what was there before, of in[t + 32], read once the copy is under way */
gdncp_status_t planted_copy_over(bool mended, const float *in, float *out, gdncp_stream_t stream);
/* ... itself; another thread changes the source before the wait. `in` is written. */
gdncp_status_t planted_copy_source(bool mended, float *in, float *out, gdncp_stream_t stream);
/* ... itself; the copy's source is `offset` elements from where it should be */
gdncp_status_t planted_copy_address(const float *in, float *out, int64_t offset,
                                    gdncp_stream_t stream);

/* ... itself; the first thread makes `count` copies, and all say that theirs has so many bytes */
gdncp_status_t planted_copy_count(int64_t count, int bytes, const float *in, float *out,
                                  gdncp_stream_t stream);
/* ... itself; it writes there before the wait */
gdncp_status_t planted_copy_place(bool mended, const float *in, float *out, gdncp_stream_t stream);

/* out[t] = in[t], read as 16-byte rows by ldmatrix, `offset` bytes from where they are. */
gdncp_status_t planted_row_address(const float *in, float *out, int64_t offset,
                                   gdncp_stream_t stream);

/* 8 blocks: out[0] = in[0] by each; the mistake: in[number of the block]. */
gdncp_status_t planted_blocks(bool mended, const float *in, float *out, gdncp_stream_t stream);

/* out[t] = in[t]. */
gdncp_status_t planted_copy(const float *in, float *out, gdncp_stream_t stream);

/* Each thread of each block appends number + 100 block + 10 warp to a log, of which log[0] is the
 * count. No mistake. */
gdncp_status_t planted_log(int number, int blocks, int warps, int *log, gdncp_stream_t stream);

/* A launch that does nothing. */
gdncp_status_t planted_launch(int64_t x, int y, int z, int threads, int64_t shared_bytes,
                              gdncp_stream_t stream);

#ifdef __cplusplus
}
#endif

#endif
