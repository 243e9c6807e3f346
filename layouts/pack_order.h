/* Putting segments in the order of the pack. */
#ifndef GDNCP_PACK_ORDER_H
#define GDNCP_PACK_ORDER_H

#include "layout_build.h"

/* Set chains to the indices of all segments, by the position of their first token. Segments may
 * overlap; their order is then any that begins ascend in. */
gdncp_status_t gdncp_sort_in_pack_order(gdncp_layout_t *layout);

#endif
