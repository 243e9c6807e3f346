/* The wrappers of kernel.h as kernels of one warp a block: so many words in and out for each lane,
 * to be run on a GPU and in the emulator with the same words. */
#ifndef GDNCP_TEST_WRAPPERS_H
#define GDNCP_TEST_WRAPPERS_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/status.h"
#include "gdncp/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the words of an input are, and how much outputs may differ. */
typedef enum wrapper_words {
    WRAPPER_BITS,     /* any bits in; the same bits out, where both are no NaN */
    WRAPPER_BF16,     /* pairs of normals in each word; float32 out, sums in any order */
    WRAPPER_F16,      /* likewise */
    WRAPPER_TF32,     /* normals, rounded; likewise */
    WRAPPER_FUNCTIONS /* float32 in [-20, 20]; float32 out with few wrong bits */
} wrapper_words_t;

typedef struct wrapper {
    const char *name;
    wrapper_words_t words;
    int num_in;     /* words a lane; a multiple of 4 where 16 bytes are read at a time */
    int num_out;    /* words a lane */
    bool as_floats; /* whether a word of the output is a float32, which may be a NaN */
} wrapper_t;

/* NULL behind the last one. */
const wrapper_t *wrapper_number(int number);

/* in [blocks, 32, num_in], out [blocks, 32, num_out]: memory of the device that each one runs on.
 */
gdncp_status_t wrapper_launch_cuda(int number, int64_t blocks, const uint32_t *in, uint32_t *out,
                                   gdncp_stream_t stream);
gdncp_status_t wrapper_launch_emulated(int number, int64_t blocks, const uint32_t *in,
                                       uint32_t *out, gdncp_stream_t stream);

#ifdef __cplusplus
}
#endif

#endif
