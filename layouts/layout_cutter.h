/* Layouts in which every rank holds its tokens in the order of the pack: cut in that order. */
#ifndef GDNCP_LAYOUT_CUTTER_H
#define GDNCP_LAYOUT_CUTTER_H

#include "layout_build.h"

/* Segments in pack order. */
typedef struct gdncp_cutter {
    const gdncp_layout_t *layout;
    gdncp_segment_list_t list;
    int64_t sequence; /* that of the last token taken */
} gdncp_cutter_t;

/* Give a rank the next tokens of the pack, begin .. end-1. It holds its tokens in pack order, so
 * what follows on its own tokens in one sequence follows on them in its buffer too. */
gdncp_status_t gdncp_cutter_take(gdncp_cutter_t *cutter, int64_t begin, int64_t end, int rank);

/* Check what is not common to all layouts, and take all tokens of cutter->layout. */
typedef gdncp_status_t gdncp_cut_pack_t(gdncp_cutter_t *cutter, const void *how);

/* Make a layout by cutting; `how` is handed on. Checks the arguments that all constructors have. */
gdncp_status_t gdncp_layout_cut(gdncp_layout_kind_t kind, const gdncp_pack_t *pack,
                                gdncp_cut_pack_t *cut_all, const void *how,
                                gdncp_layout_t **layout_p);

#endif
