/* What patterns and pipeline stages share: a frequency, checked and looked up. */
#ifndef GDNCP_FREQUENCY_H
#define GDNCP_FREQUENCY_H

#include "gdncp/pattern.h"

/* Whether a frequency is one of that many layers. `name` names it in errors. */
gdncp_status_t gdncp_frequency_check(const gdncp_frequency_t *frequency, const char *name,
                                     int64_t num_layers);

/* The kinds of one layer, of frequencies that were checked. */
gdncp_attention_kind_t gdncp_attention_of(const gdncp_frequency_t *frequency, int64_t layer);
gdncp_mlp_kind_t gdncp_mlp_of(const gdncp_frequency_t *frequency, int64_t layer);

#endif
