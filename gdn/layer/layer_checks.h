/* Argument checks that the three levels share. */
#ifndef GDNCP_LAYER_CHECKS_H
#define GDNCP_LAYER_CHECKS_H

#include "gdncp/layer.h"

/* Local checks of what a level is made from: the sizes, dtype, strategy, device and stream of a
 * config, and a layout for as many ranks as the communicator has. */
gdncp_status_t gdncp_check_level(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                 const gdncp_cp_rule_config_t *config);

/* Memory between forward and backward, filled by whatever `owner` is. */
typedef struct gdncp_saved_block {
    const void *owner;
    gdncp_device_kind_t device;
    void *memory;
} gdncp_saved_block_t;

/* Allocate a handle of `bytes` on a device for an owner. */
gdncp_status_t gdncp_saved_block_create(const void *owner, gdncp_device_kind_t device,
                                        int64_t bytes, gdncp_saved_block_t **block_p);
void gdncp_saved_block_destroy(gdncp_saved_block_t *block);

/* A handle that is not NULL and was made for this owner. */
gdncp_status_t gdncp_check_saved(const gdncp_saved_block_t *block, const void *owner);

#endif
