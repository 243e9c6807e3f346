/* Cutting a range into parts with borders at floor(part * length / num_parts): the functions of
 * that name are public, for use in kernels. */
#ifndef GDNCP_PART_BORDER_H
#define GDNCP_PART_BORDER_H

#include "gdncp/layout_inline.h"

#endif
