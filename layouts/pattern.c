/* Which layers have linear attention and experts. */
#include <inttypes.h>
#include <stddef.h>

#include "error.h"
#include "frequency.h"

static gdncp_status_t check_list(const gdncp_frequency_t *frequency, const char *name,
                                 int64_t num_layers)
{
    if (frequency->every != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s.every: expected 0 beside a list, got %" PRId64, name,
                          frequency->every);
    }
    if (frequency->list_length != num_layers) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s.list_length: expected %" PRId64 ", as there are layers, got %" PRId64,
                          name, num_layers, frequency->list_length);
    }
    for (int64_t i = 0; i < num_layers; i++) {
        if (frequency->list[i] != 0 && frequency->list[i] != 1) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "%s.list[%" PRId64 "]: expected 0 or 1, got %" PRId64, name, i,
                              frequency->list[i]);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_frequency_check(const gdncp_frequency_t *frequency, const char *name,
                                     int64_t num_layers)
{
    if (frequency->list != NULL) {
        return check_list(frequency, name, num_layers);
    }
    if (frequency->list_length != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s.list_length: expected 0 without a list, got %" PRId64, name,
                          frequency->list_length);
    }
    if (frequency->every <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s.every: expected at least 1, or a list, got %" PRId64, name,
                          frequency->every);
    }
    return GDNCP_OK;
}

gdncp_attention_kind_t gdncp_attention_of(const gdncp_frequency_t *frequency, int64_t layer)
{
    const int64_t every = frequency->every;
    /* (layer + 1) % every != 0, for any layer */
    const int is_linear =
        frequency->list != NULL ? frequency->list[layer] == 1 : layer % every != every - 1;

    return is_linear ? GDNCP_ATTENTION_LINEAR : GDNCP_ATTENTION_FULL;
}

gdncp_mlp_kind_t gdncp_mlp_of(const gdncp_frequency_t *frequency, int64_t layer)
{
    const int has_experts =
        frequency->list != NULL ? frequency->list[layer] == 1 : layer % frequency->every == 0;

    return has_experts ? GDNCP_MLP_EXPERTS : GDNCP_MLP_DENSE;
}

static gdncp_status_t check_pattern(int64_t num_layers, const gdncp_frequency_t *frequency,
                                    const void *kinds)
{
    gdncp_status_t status;

    if (num_layers <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_layers: expected at least 1, got %" PRId64, num_layers);
    }
    if (frequency == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "frequency: expected a number or a list, got NULL");
    }
    status = gdncp_frequency_check(frequency, "frequency", num_layers);
    if (status == GDNCP_OK && kinds == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "kinds: expected a place for %" PRId64 " layers, got NULL", num_layers);
    }
    return status;
}

gdncp_status_t gdncp_attention_pattern(int64_t num_layers, const gdncp_frequency_t *frequency,
                                       gdncp_attention_kind_t *kinds)
{
    const gdncp_status_t status = check_pattern(num_layers, frequency, kinds);

    for (int64_t i = 0; i < num_layers && status == GDNCP_OK; i++) {
        kinds[i] = gdncp_attention_of(frequency, i);
    }
    return status;
}

gdncp_status_t gdncp_mlp_pattern(int64_t num_layers, const gdncp_frequency_t *frequency,
                                 gdncp_mlp_kind_t *kinds)
{
    const gdncp_status_t status = check_pattern(num_layers, frequency, kinds);

    for (int64_t i = 0; i < num_layers && status == GDNCP_OK; i++) {
        kinds[i] = gdncp_mlp_of(frequency, i);
    }
    return status;
}
