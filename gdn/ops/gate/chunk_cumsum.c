/* Cumulative sums of the log-gate inside chunks. */
#include <inttypes.h>
#include <string.h>

#include "chunk_sums.h"
#include "error.h"
#include "gdncp/layout_inline.h"
#include "op_checks.h"
#include "op_parallel.h"
#include "token_rows.h"
#include "vector_clones.h"

/* Heads in a vector, and vectors that are summed together. */
#define LANES 8
#define MAX_VECTORS 2
#define HEAD_TILE (MAX_VECTORS * LANES)

/* Vectors by name: compilers take arrays of numbers apart. */
typedef float float_lanes_t __attribute__((vector_size(LANES * 4)));
typedef double double_lanes_t __attribute__((vector_size(LANES * 8)));

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* num_vectors is a constant where this is inlined. The first element of each token lies `step`
 * behind that of the token before it, in g and in out. */
GDNCP_ALWAYS_INLINE void sum_vectors(const int num_vectors, int64_t num_tokens, const float *g,
                                     int64_t g_step, float *out, int64_t out_step)
{
    double_lanes_t sum[MAX_VECTORS] = {{0.0}};

    for (int64_t t = 0; t < num_tokens; t++) {
        for (int i = 0; i < num_vectors; i++) {
            float_lanes_t x;

            memcpy(&x, g + t * g_step + i * LANES, sizeof x);
            sum[i] += __builtin_convertvector(x, double_lanes_t);
            x = __builtin_convertvector(sum[i], float_lanes_t);
            memcpy(out + t * out_step + i * LANES, &x, sizeof x);
        }
    }
}

/* The same for fewer heads than a vector has lanes. */
GDNCP_ALWAYS_INLINE void sum_heads(int64_t count, int64_t num_tokens, const float *g,
                                   int64_t g_step, float *out, int64_t out_step)
{
    double sum[LANES] = {0.0};

    for (int64_t t = 0; t < num_tokens; t++) {
        for (int64_t h = 0; h < count; h++) {
            sum[h] += (double)g[t * g_step + h];
            out[t * out_step + h] = (float)sum[h];
        }
    }
}

GDNCP_VECTOR_CLONES
static void sum_tile(int64_t count, int64_t num_tokens, const float *g, int64_t g_step, float *out,
                     int64_t out_step)
{
    const int64_t whole = count / LANES * LANES;

    if (whole == HEAD_TILE) {
        sum_vectors(MAX_VECTORS, num_tokens, g, g_step, out, out_step);
    } else if (whole == LANES) {
        sum_vectors(1, num_tokens, g, g_step, out, out_step);
    }
    if (whole < count) {
        sum_heads(count - whole, num_tokens, g + whole, g_step, out + whole, out_step);
    }
}

static void sum_chunk(const gdncp_chunk_sums_t *sums, int64_t begin, int64_t end)
{
    const int64_t num_heads = sums->g->shape[1];
    const int64_t from = sums->reverse ? end - 1 : begin;
    const int64_t sign = sums->reverse ? -1 : 1;

    for (int64_t first = 0; first < num_heads; first += HEAD_TILE) {
        sum_tile(min_i64(num_heads - first, HEAD_TILE), end - begin,
                 gdncp_token_element(sums->g, from, first), sign * sums->g->strides[0],
                 gdncp_token_element(sums->out, from - sums->out_first, first),
                 sign * sums->out->strides[0]);
    }
}

/* The first token of a sequence at or after `token` that begins a chunk, or the sequence's end. */
static int64_t chunk_begin_in(const gdncp_chunk_sums_t *sums, int64_t sequence, int64_t token)
{
    const int64_t first = sums->cu_seqlens[sequence];
    const int64_t before = token > first ? token - first : 0;
    const int64_t chunks_before = (before + sums->chunk_size - 1) / sums->chunk_size;

    return min_i64(first + chunks_before * sums->chunk_size, sums->cu_seqlens[sequence + 1]);
}

int64_t gdncp_chunk_begin(const gdncp_chunk_sums_t *sums, int64_t token)
{
    return chunk_begin_in(
        sums, gdncp_sequence_of_position(sums->cu_seqlens, sums->num_sequences, token), token);
}

void gdncp_chunk_sums_cpu(const gdncp_chunk_sums_t *sums, int64_t begin, int64_t end)
{
    for (int64_t i = gdncp_sequence_of_position(sums->cu_seqlens, sums->num_sequences, begin);
         i < sums->num_sequences && sums->cu_seqlens[i] < end; i++) {
        const int64_t last = sums->cu_seqlens[i + 1];

        for (int64_t t = chunk_begin_in(sums, i, begin); t < min_i64(end, last);
             t += sums->chunk_size) {
            sum_chunk(sums, t, min_i64(t + sums->chunk_size, last));
        }
    }
}

static void sum_block(void *context, int64_t block, int thread)
{
    const gdncp_chunk_sums_t *const sums = context;
    const int64_t num_tokens = sums->g->shape[0];

    (void)thread;
    gdncp_chunk_sums_cpu(sums, block * gdncp_token_block_size(num_tokens),
                         gdncp_token_block_end(num_tokens, block));
}

static void sum_all(gdncp_chunk_sums_t *sums)
{
    const int64_t num_blocks = gdncp_num_token_blocks(sums->g->shape[0]);

    gdncp_parallel_for(num_blocks, gdncp_parallel_num_threads(num_blocks), sum_block, sums);
}

gdncp_status_t gdncp_chunk_cumsum(const gdncp_tensor_t *g, const int64_t *cu_seqlens,
                                  const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                                  int64_t chunk_size, const gdncp_tensor_t *out,
                                  gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = gdncp_op_check_ndim("g", g, 2);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("g", g, workspace, &kernels);
    }
    if (status == GDNCP_OK) {
        status =
            gdncp_op_check_tensor("g", g, g->device, GDNCP_F32, GDNCP_OP_TOKEN_STRIDE, 2, g->shape);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_cu_seqlens(g->device, cu_seqlens, cu_seqlens_cuda, num_sequences,
                                           g->shape[0]);
    }
    if (status == GDNCP_OK && chunk_size <= 0) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "chunk_size: expected > 0, got %" PRId64,
                            chunk_size);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("out", out, g->device, GDNCP_F32, GDNCP_OP_TOKEN_STRIDE, 2,
                                       g->shape);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t num_tokens = g->shape[0];

    if (kernels != NULL) {
        return kernels->chunk_cumsum(g, cu_seqlens, cu_seqlens_cuda, num_sequences,
                                     min_i64(chunk_size, num_tokens), out, workspace);
    }
    sum_all(&(gdncp_chunk_sums_t){.g = g,
                                  .out = out,
                                  .cu_seqlens = cu_seqlens,
                                  .num_sequences = num_sequences,
                                  .chunk_size = min_i64(chunk_size, num_tokens)});
    return GDNCP_OK;
}
