/* The gated delta rule token by token in float64. */
#include "delta_rule_reference.h"

#include <math.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"

#define L2NORM_EPS 1e-6

/* Tokens between two states that the backward keeps; those between are made again. */
#define CHECKPOINT_TOKENS 64

/* One token of one value head. */
typedef struct token {
    const double *q; /* [dk], as given */
    const double *k; /* [dk] */
    const double *v; /* [dv] */
    double decay;    /* exp(g) */
    double beta;
} token_t;

typedef struct scratch {
    double *memory;
    double *q;      /* [dk], normalised where asked for */
    double *k;      /* [dk] */
    double *u;      /* [dv] */
    double *r;      /* [dv] v - S'k */
    double *grad_q; /* [dk] of the normalised q */
    double *grad_k; /* [dk] */
    double *grad_u; /* [dv] */
    double *grad_state;
    double *states;      /* [CHECKPOINT_TOKENS + 1, dk, dv] */
    double *checkpoints; /* [num_checkpoints, dk, dv] */
} scratch_t;

static int64_t key_head_of(const gdncp_delta_rule_reference_t *rule, int64_t head)
{
    const int64_t group_size =
        rule->group_size > 0 ? rule->group_size : rule->num_value_heads / rule->num_key_heads;

    return (head + rule->group_phase) / group_size;
}

static double scale_of(const gdncp_delta_rule_reference_t *rule)
{
    return rule->scale != 0.0 ? rule->scale : 1.0 / sqrt((double)rule->key_dim);
}

static token_t token_at(const gdncp_delta_rule_reference_t *rule, int64_t t, int64_t head)
{
    const int64_t key_row = t * rule->num_key_heads + key_head_of(rule, head);
    const int64_t value_row = t * rule->num_value_heads + head;

    return (token_t){.q = rule->q + key_row * rule->key_dim,
                     .k = rule->k + key_row * rule->key_dim,
                     .v = rule->v + value_row * rule->value_dim,
                     .decay = exp(rule->g[value_row]),
                     .beta = rule->beta[value_row]};
}

static double dot(const double *x, const double *y, int64_t count)
{
    double sum = 0.0;

    for (int64_t i = 0; i < count; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

static void normalise(const gdncp_delta_rule_reference_t *rule, const double *x, double *y)
{
    const double factor = rule->qk_l2norm ? 1.0 / sqrt(dot(x, x, rule->key_dim) + L2NORM_EPS) : 1.0;

    for (int64_t i = 0; i < rule->key_dim; i++) {
        y[i] = x[i] * factor;
    }
}

/* Add to grad_x what grad_y, the gradient of the normalised y, gives. */
static void add_normalise_gradient(const gdncp_delta_rule_reference_t *rule, const double *x,
                                   const double *grad_y, double *grad_x)
{
    const int64_t dk = rule->key_dim;

    if (!rule->qk_l2norm) {
        for (int64_t i = 0; i < dk; i++) {
            grad_x[i] += grad_y[i];
        }
        return;
    }
    const double square = dot(x, x, dk) + L2NORM_EPS;
    const double factor = 1.0 / sqrt(square);
    const double along = dot(x, grad_y, dk) / square;

    for (int64_t i = 0; i < dk; i++) {
        grad_x[i] += factor * (grad_y[i] - along * x[i]);
    }
}

/* S <- decay S;  u = beta (v - S'k);  S <- S + k u'. Leaves q, k, r and u in the scratch. */
static void advance(const gdncp_delta_rule_reference_t *rule, const token_t *token,
                    scratch_t *scratch, double *state)
{
    const int64_t dk = rule->key_dim;
    const int64_t dv = rule->value_dim;

    normalise(rule, token->q, scratch->q);
    normalise(rule, token->k, scratch->k);
    for (int64_t i = 0; i < dk * dv; i++) {
        state[i] *= token->decay;
    }
    memcpy(scratch->r, token->v, (size_t)dv * sizeof(double));
    for (int64_t i = 0; i < dk; i++) {
        for (int64_t j = 0; j < dv; j++) {
            scratch->r[j] -= state[i * dv + j] * scratch->k[i];
        }
    }
    for (int64_t j = 0; j < dv; j++) {
        scratch->u[j] = token->beta * scratch->r[j];
    }
    for (int64_t i = 0; i < dk; i++) {
        for (int64_t j = 0; j < dv; j++) {
            state[i * dv + j] += scratch->k[i] * scratch->u[j];
        }
    }
}

static gdncp_status_t make_scratch(const gdncp_delta_rule_reference_t *rule, bool backward,
                                   scratch_t *scratch)
{
    const size_t dk = (size_t)rule->key_dim;
    const size_t dv = (size_t)rule->value_dim;
    size_t longest = 0;

    for (int64_t i = 0; i < rule->num_sequences; i++) {
        const size_t length = (size_t)(rule->cu_seqlens[i + 1] - rule->cu_seqlens[i]);

        longest = length > longest ? length : longest;
    }
    const size_t num_states =
        backward ? CHECKPOINT_TOKENS + 1 + 1 + longest / CHECKPOINT_TOKENS + 1 : 1;
    const size_t count = 4 * dk + 3 * dv + num_states * dk * dv;
    double *next = gdncp_memory_alloc(count * sizeof(double));

    if (next == NULL) {
        return gdncp_fail_memory("the states of the float64 delta rule");
    }
    *scratch = (scratch_t){.memory = next, .q = next, .k = next + dk};
    next += 2 * dk;
    scratch->grad_q = next;
    scratch->grad_k = next + dk;
    next += 2 * dk;
    scratch->u = next;
    scratch->r = next + dv;
    scratch->grad_u = next + 2 * dv;
    next += 3 * dv;
    scratch->states = next;
    if (backward) {
        scratch->grad_state = next + (CHECKPOINT_TOKENS + 1) * dk * dv;
        scratch->checkpoints = scratch->grad_state + dk * dv;
    }
    return GDNCP_OK;
}

static void load_state(double *state, const double *states, int64_t index, int64_t count)
{
    if (states != NULL) {
        memcpy(state, states + index * count, (size_t)count * sizeof(double));
    } else {
        memset(state, 0, (size_t)count * sizeof(double));
    }
}

gdncp_status_t gdncp_delta_rule_reference_forward(const gdncp_delta_rule_reference_t *rule,
                                                  double *o, double *final_state)
{
    const int64_t dk = rule->key_dim;
    const int64_t dv = rule->value_dim;
    const int64_t heads = rule->num_value_heads;
    const double scale = scale_of(rule);
    scratch_t scratch;
    const gdncp_status_t status = make_scratch(rule, false, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    double *const state = scratch.states;

    for (int64_t chain = 0; chain < rule->num_sequences * heads; chain++) {
        const int64_t sequence = chain / heads;
        const int64_t head = chain % heads;

        load_state(state, rule->initial_state, chain, dk * dv);
        for (int64_t t = rule->cu_seqlens[sequence]; t < rule->cu_seqlens[sequence + 1]; t++) {
            const token_t token = token_at(rule, t, head);
            double *const o_row = o + (t * heads + head) * dv;

            advance(rule, &token, &scratch, state);
            for (int64_t j = 0; j < dv; j++) {
                double sum = 0.0;

                for (int64_t i = 0; i < dk; i++) {
                    sum += state[i * dv + j] * scratch.q[i];
                }
                o_row[j] = scale * sum;
            }
        }
        if (final_state != NULL) {
            memcpy(final_state + chain * dk * dv, state, (size_t)(dk * dv) * sizeof(double));
        }
    }
    gdncp_memory_free(scratch.memory);
    return GDNCP_OK;
}

/*
 * Gradients of one token. `before` is the state it came to, `after` the one it left;
 * grad_state is the gradient of `after` on entry, of `before` on return.
 */
static void token_backward(const gdncp_delta_rule_reference_t *rule, int64_t t, int64_t head,
                           const double *grad_o, const double *before, const double *after,
                           scratch_t *scratch, const gdncp_delta_rule_reference_grads_t *grads)
{
    const int64_t dk = rule->key_dim;
    const int64_t dv = rule->value_dim;
    const int64_t value_row = t * rule->num_value_heads + head;
    const int64_t key_row = t * rule->num_key_heads + key_head_of(rule, head);
    const double scale = scale_of(rule);
    const double *const grad_o_row = grad_o + value_row * dv;
    const token_t token = token_at(rule, t, head);
    double *const grad_state = scratch->grad_state;
    double *const grad_r = grads->v + value_row * dv; /* the gradient of v is that of r */
    double grad_log_decay = 0.0;

    normalise(rule, token.q, scratch->q);
    normalise(rule, token.k, scratch->k);
    for (int64_t j = 0; j < dv; j++) {
        double read = 0.0;

        for (int64_t i = 0; i < dk; i++) {
            read += token.decay * before[i * dv + j] * scratch->k[i];
        }
        scratch->r[j] = token.v[j] - read;
        scratch->u[j] = token.beta * scratch->r[j];
        scratch->grad_u[j] = 0.0;
    }
    for (int64_t i = 0; i < dk; i++) {
        double *const row = grad_state + i * dv;

        for (int64_t j = 0; j < dv; j++) {
            row[j] += scale * scratch->q[i] * grad_o_row[j];
            scratch->grad_u[j] += row[j] * scratch->k[i];
        }
        scratch->grad_q[i] = scale * dot(after + i * dv, grad_o_row, dv);
        scratch->grad_k[i] = dot(row, scratch->u, dv);
    }
    grads->beta[value_row] = dot(scratch->grad_u, scratch->r, dv);
    for (int64_t j = 0; j < dv; j++) {
        grad_r[j] = token.beta * scratch->grad_u[j];
    }
    for (int64_t i = 0; i < dk; i++) {
        double *const row = grad_state + i * dv;
        const double *const before_row = before + i * dv;

        scratch->grad_k[i] -= token.decay * dot(before_row, grad_r, dv);
        for (int64_t j = 0; j < dv; j++) {
            row[j] = token.decay * (row[j] - scratch->k[i] * grad_r[j]);
            grad_log_decay += row[j] * before_row[j];
        }
    }
    grads->g[value_row] = grad_log_decay;
    add_normalise_gradient(rule, token.q, scratch->grad_q, grads->q + key_row * dk);
    add_normalise_gradient(rule, token.k, scratch->grad_k, grads->k + key_row * dk);
}

/* One head of one sequence: keep every CHECKPOINT_TOKENS-th state, then go back over the tokens. */
static void chain_backward(const gdncp_delta_rule_reference_t *rule, int64_t chain,
                           const double *grad_o, scratch_t *scratch,
                           const gdncp_delta_rule_reference_grads_t *grads)
{
    const int64_t size = rule->key_dim * rule->value_dim;
    const int64_t head = chain % rule->num_value_heads;
    const int64_t sequence = chain / rule->num_value_heads;
    const int64_t begin = rule->cu_seqlens[sequence];
    const int64_t length = rule->cu_seqlens[sequence + 1] - begin;
    double *const states = scratch->states;

    load_state(states, rule->initial_state, chain, size);
    for (int64_t t = 0; t < length; t++) {
        const token_t token = token_at(rule, begin + t, head);

        if (t % CHECKPOINT_TOKENS == 0) {
            memcpy(scratch->checkpoints + t / CHECKPOINT_TOKENS * size, states,
                   (size_t)size * sizeof(double));
        }
        advance(rule, &token, scratch, states);
    }
    for (int64_t block = (length - 1) / CHECKPOINT_TOKENS; length > 0 && block >= 0; block--) {
        const int64_t first = block * CHECKPOINT_TOKENS;
        const int64_t count =
            length - first < CHECKPOINT_TOKENS ? length - first : CHECKPOINT_TOKENS;

        memcpy(states, scratch->checkpoints + block * size, (size_t)size * sizeof(double));
        for (int64_t t = 0; t < count; t++) {
            const token_t token = token_at(rule, begin + first + t, head);

            memcpy(states + (t + 1) * size, states + t * size, (size_t)size * sizeof(double));
            advance(rule, &token, scratch, states + (t + 1) * size);
        }
        for (int64_t t = count - 1; t >= 0; t--) {
            token_backward(rule, begin + first + t, head, grad_o, states + t * size,
                           states + (t + 1) * size, scratch, grads);
        }
    }
}

gdncp_status_t gdncp_delta_rule_reference_backward(const gdncp_delta_rule_reference_t *rule,
                                                   const double *grad_o,
                                                   const double *grad_final_state,
                                                   const gdncp_delta_rule_reference_grads_t *grads)
{
    const int64_t size = rule->key_dim * rule->value_dim;
    const int64_t heads = rule->num_value_heads;
    const int64_t num_tokens = rule->cu_seqlens[rule->num_sequences];
    const size_t key_bytes =
        (size_t)(num_tokens * rule->num_key_heads * rule->key_dim) * sizeof(double);
    scratch_t scratch;
    const gdncp_status_t status = make_scratch(rule, true, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    memset(grads->q, 0, key_bytes);
    memset(grads->k, 0, key_bytes);
    for (int64_t chain = 0; chain < rule->num_sequences * heads; chain++) {
        load_state(scratch.grad_state, grad_final_state, chain, size);
        chain_backward(rule, chain, grad_o, &scratch, grads);
        if (grads->initial_state != NULL) {
            memcpy(grads->initial_state + chain * size, scratch.grad_state,
                   (size_t)size * sizeof(double));
        }
    }
    gdncp_memory_free(scratch.memory);
    return GDNCP_OK;
}
