/* Head exchanges: a plan, its transpose, and both bound to the communicator. */
#include "head_exchange.h"

gdncp_status_t gdncp_head_exchange_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                          gdncp_head_direction_t direction, gdncp_dtype_t dtype,
                                          int64_t num_key_heads, int64_t num_value_heads,
                                          const gdncp_section_t *sections, int64_t num_sections,
                                          int64_t channels, gdncp_device_kind_t device,
                                          gdncp_head_exchange_t *exchange)
{
    const int rank = gdncp_comm_rank(comm);
    gdncp_status_t status =
        direction == GDNCP_TO_HEADS
            ? gdncp_plan_cp2hp(layout, rank, dtype, num_key_heads, num_value_heads, sections,
                               num_sections, channels, &exchange->plan)
            : gdncp_plan_hp2cp(layout, rank, dtype, num_key_heads, num_value_heads, sections,
                               num_sections, channels, &exchange->plan);

    if (status == GDNCP_OK) {
        status = gdncp_plan_transpose(exchange->plan, GDNCP_PLAN_ASSIGN, &exchange->plan_back);
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_exchange_create_on(comm, exchange->plan, device, &exchange->forward);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_exchange_create_on(comm, exchange->plan_back, device, &exchange->backward);
}

gdncp_status_t gdncp_head_exchange_check(const gdncp_head_exchange_t *exchange)
{
    const gdncp_status_t status = gdncp_exchange_check(exchange->forward);

    return status == GDNCP_OK ? gdncp_exchange_check(exchange->backward) : status;
}

void gdncp_head_exchange_destroy(gdncp_head_exchange_t *exchange)
{
    gdncp_exchange_destroy(exchange->forward);
    gdncp_exchange_destroy(exchange->backward);
    gdncp_plan_destroy(exchange->plan);
    gdncp_plan_destroy(exchange->plan_back);
}
