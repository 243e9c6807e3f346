/* The functions of layout_inline.h in a kernel. */
#ifndef GDNCP_TEST_CUT_KERNELS_H
#define GDNCP_TEST_CUT_KERNELS_H

#include <stdint.h>

#include "gdncp/device.h"
#include "gdncp/layout_inline.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * For every position of the pack: ranks and locals as gdncp_cut_locate() has them, positions what
 * gdncp_cut_position() makes of the two. All are [num_tokens] on the device, as are the offsets
 * that the cut points to.
 */
gdncp_status_t cut_locate_all(const gdncp_cut_t *cut, int64_t num_tokens, int *ranks,
                              int64_t *locals, int64_t *positions, gdncp_stream_t stream);

#ifdef __cplusplus
}
#endif

#endif
