/*
 * Bringing all tokens of a rank's heads together, and taking results back.
 *
 * One head exchange moves one contiguous buffer [local tokens, channels] to
 * [all tokens, my heads' channels] and its gradient home, or the other way round.
 */
#ifndef GDNCP_HEAD_EXCHANGE_H
#define GDNCP_HEAD_EXCHANGE_H

#include "gdncp/exchange.h"
#include "gdncp/heads.h"
#include "gdncp/layout.h"

typedef struct gdncp_head_exchange {
    gdncp_plan_t *plan;
    gdncp_plan_t *plan_back; /* its transpose */
    gdncp_exchange_t *forward;
    gdncp_exchange_t *backward;
} gdncp_head_exchange_t;

typedef enum gdncp_head_direction { GDNCP_TO_HEADS, GDNCP_FROM_HEADS } gdncp_head_direction_t;

/*
 * Collective. sections tile the channels of the local buffer, which is memory of the device. Zero
 * *exchange first; on an error gdncp_head_exchange_destroy() frees what there is.
 */
gdncp_status_t gdncp_head_exchange_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                          gdncp_head_direction_t direction, gdncp_dtype_t dtype,
                                          int64_t num_key_heads, int64_t num_value_heads,
                                          const gdncp_section_t *sections, int64_t num_sections,
                                          int64_t channels, gdncp_device_kind_t device,
                                          gdncp_head_exchange_t *exchange);
/* What has gone wrong in earlier runs: see gdncp_exchange_check(). */
gdncp_status_t gdncp_head_exchange_check(const gdncp_head_exchange_t *exchange);

void gdncp_head_exchange_destroy(gdncp_head_exchange_t *exchange);

#endif
