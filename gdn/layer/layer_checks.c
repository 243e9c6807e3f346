/* Checks and handles that the three levels share, and the names of strategies. */
#include "layer_checks.h"

#include <string.h>

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"

static const char *const strategy_names[] = {
    [GDNCP_STRATEGY_STATES] = "states",
    [GDNCP_STRATEGY_HEADS] = "heads",
};

#define NUM_STRATEGIES (sizeof strategy_names / sizeof strategy_names[0])

const char *gdncp_strategy_name(gdncp_strategy_t strategy)
{
    return (unsigned)strategy < NUM_STRATEGIES ? strategy_names[strategy] : "?";
}

gdncp_status_t gdncp_strategy_from_name(const char *name, gdncp_strategy_t *strategy_p)
{
    for (size_t i = 0; name != NULL && i < NUM_STRATEGIES; i++) {
        if (strcmp(name, strategy_names[i]) == 0) {
            *strategy_p = (gdncp_strategy_t)i;
            return GDNCP_OK;
        }
    }
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "strategy: expected states or heads, got %s",
                      name != NULL ? name : "NULL");
}

static gdncp_status_t check_positive(const char *name, int64_t value)
{
    if (value > 0) {
        return GDNCP_OK;
    }
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected > 0, got %lld", name,
                      (long long)value);
}

static gdncp_status_t check_config(const gdncp_cp_rule_config_t *config)
{
    const struct {
        const char *name;
        int64_t value;
    } sizes[] = {
        {"num_key_heads", config->num_key_heads},
        {"num_value_heads", config->num_value_heads},
        {"key_head_dim", config->key_head_dim},
        {"value_head_dim", config->value_head_dim},
    };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const gdncp_status_t status = check_positive(sizes[i].name, sizes[i].value);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    if (config->num_value_heads % config->num_key_heads != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_value_heads: expected a multiple of num_key_heads %lld, got %lld",
                          (long long)config->num_key_heads, (long long)config->num_value_heads);
    }
    if (config->dtype != GDNCP_F32 && config->dtype != GDNCP_BF16 && config->dtype != GDNCP_F16) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "dtype: expected f32, bf16 or f16, got %s",
                          gdncp_dtype_name(config->dtype));
    }
    if ((unsigned)config->strategy >= NUM_STRATEGIES) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "strategy: expected a value of gdncp_strategy_t, got %d",
                          (int)config->strategy);
    }
    if (config->device == GDNCP_DEVICE_CPU && config->stream != NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "stream: expected NULL on a CPU, got %p",
                          config->stream);
    }
    return gdncp_device_check(config->device);
}

gdncp_status_t gdncp_check_level(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                 const gdncp_cp_rule_config_t *config)
{
    if (layout == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "layout: expected a layout, got NULL");
    }
    if (config == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "config: expected a config, got NULL");
    }
    if (gdncp_layout_num_ranks(layout) != gdncp_comm_size(comm)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "layout: expected one for the communicator's %d ranks, got one for %d",
                          gdncp_comm_size(comm), gdncp_layout_num_ranks(layout));
    }
    return check_config(config);
}

gdncp_status_t gdncp_saved_block_create(const void *owner, gdncp_device_kind_t device,
                                        int64_t bytes, gdncp_saved_block_t **block_p)
{
    gdncp_saved_block_t *const block = gdncp_memory_alloc(sizeof *block);

    if (block == NULL) {
        return gdncp_fail_memory("saved activations");
    }
    *block = (gdncp_saved_block_t){.owner = owner, .device = device};
    const gdncp_status_t status = gdncp_device_alloc(device, (size_t)bytes, &block->memory);

    if (status != GDNCP_OK) {
        gdncp_memory_free(block);
        return status;
    }
    *block_p = block;
    return GDNCP_OK;
}

void gdncp_saved_block_destroy(gdncp_saved_block_t *block)
{
    if (block != NULL) {
        gdncp_device_free(block->device, block->memory);
        gdncp_memory_free(block);
    }
}

gdncp_status_t gdncp_check_saved(const gdncp_saved_block_t *block, const void *owner)
{
    if (block == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "saved: expected a handle, got NULL");
    }
    if (block->owner != owner) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "saved: expected a handle made for this object, got another's");
    }
    return GDNCP_OK;
}
