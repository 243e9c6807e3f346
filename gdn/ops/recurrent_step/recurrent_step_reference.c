/* The recurrent step in float64: a delta rule of one token at a time. */
#include "recurrent_step_reference.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"

/* One token, from a state [Hv, dk, dv] to itself. */
static gdncp_status_t step_token(const gdncp_delta_rule_reference_t *rule, int64_t token,
                                 double *state, double *o)
{
    static const int64_t one_token[] = {0, 1};
    const int64_t gates = token * rule->num_value_heads;
    gdncp_delta_rule_reference_t one = *rule;

    one.q += token * rule->num_key_heads * rule->key_dim;
    one.k += token * rule->num_key_heads * rule->key_dim;
    one.v += gates * rule->value_dim;
    one.g += gates;
    one.beta += gates;
    one.initial_state = state;
    one.cu_seqlens = one_token;
    one.num_sequences = 1;
    return gdncp_delta_rule_reference_forward(&one, o + gates * rule->value_dim, state);
}

static gdncp_status_t step_sequence(const gdncp_recurrent_step_reference_t *step, int64_t n,
                                    double *state, double *o)
{
    const gdncp_delta_rule_reference_t *const rule = &step->rule;
    const int64_t size = rule->num_value_heads * rule->key_dim * rule->value_dim;
    const int64_t row = rule->num_value_heads * rule->value_dim;
    const int64_t begin = rule->cu_seqlens[n];
    const int64_t length = rule->cu_seqlens[n + 1] - begin;
    const int64_t *const slots =
        step->slots + (step->row_length > 0 ? n * step->row_length : n); /* of this sequence */

    if (length == 0) {
        return GDNCP_OK;
    }
    const int64_t source =
        slots[step->row_length > 0 && step->num_accepted != NULL ? step->num_accepted[n] - 1 : 0];

    if (source < 0) {
        memset(o + begin * row, 0, (size_t)(length * row) * sizeof *o);
        return GDNCP_OK;
    }
    memcpy(state, step->states + source * size, (size_t)size * sizeof *state);
    for (int64_t i = 0; i < length; i++) {
        const gdncp_status_t status = step_token(rule, begin + i, state, o);
        const int64_t target = slots[step->row_length > 0 ? i : 0];

        if (status != GDNCP_OK) {
            return status;
        }
        if (target >= 0) {
            memcpy(step->states + target * size, state, (size_t)size * sizeof *state);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_recurrent_step_reference(const gdncp_recurrent_step_reference_t *step,
                                              double *o)
{
    const gdncp_delta_rule_reference_t *const rule = &step->rule;
    const int64_t size = rule->num_value_heads * rule->key_dim * rule->value_dim;
    double *const state = gdncp_memory_alloc((size_t)size * sizeof *state);
    gdncp_status_t status = GDNCP_OK;

    if (state == NULL) {
        return gdncp_fail_memory("a state of the float64 recurrent step");
    }
    for (int64_t n = 0; status == GDNCP_OK && n < rule->num_sequences; n++) {
        status = step_sequence(step, n, state, o);
    }
    gdncp_memory_free(state);
    return status;
}
