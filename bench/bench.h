/*
 * A benchmark: an operation with random data of some shape, its check against a reference, and the
 * fewest bytes and operations that it takes. One file a group of benchmarks.
 */
#ifndef GDNCP_BENCH_H
#define GDNCP_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

#define BENCH_CONV_WIDTH 4
#define BENCH_CHUNK 64 /* tokens that the delta rule takes at a time */

/* A layer's sizes, and how much goes through it. */
typedef struct bench_shape {
    int64_t tokens; /* T, of one sequence */
    int64_t batch;  /* N sequences that decode a token each */
    int64_t hidden;
    int64_t key_heads;   /* Hk */
    int64_t value_heads; /* Hv, a multiple of Hk */
    int64_t key_dim;     /* dk */
    int64_t value_dim;   /* dv */
} bench_shape_t;

/* Channels of the convolution, and outputs of the projection before it. */
static inline int64_t bench_channels(const bench_shape_t *shape)
{
    return 2 * shape->key_heads * shape->key_dim + shape->value_heads * shape->value_dim;
}

static inline int64_t bench_projections(const bench_shape_t *shape)
{
    return bench_channels(shape) + shape->value_heads * (shape->value_dim + 2);
}

/* The shape of a model by its name; false where there is none. Tokens and batch are left alone. */
bool bench_shape_of_model(const char *name, bench_shape_t *shape);

/* The names, with commas. */
const char *bench_model_names(void);

/* The same operation on so little data that its reference takes milliseconds. */
bench_shape_t bench_shape_to_check(const bench_shape_t *shape);

/* What the numbers of an input are. */
typedef enum bench_fill {
    BENCH_NORMAL,  /* standard normal */
    BENCH_SMALL,   /* normal, a tenth of it */
    BENCH_UNIT,    /* uniform in [0, 1) */
    BENCH_LOG_GATE /* uniform in (-0.1, 0] */
} bench_fill_t;

typedef struct bench_output {
    const char *name;
    gdncp_tensor_t tensor;
    double tolerance;
} bench_output_t;

enum { BENCH_MAX_OUTPUTS = 8, BENCH_MAX_BLOCKS = 64 };

struct bench_benchmark;

/* A benchmark on data of one shape. The first thing that fails is kept in status, with its
 * sentence in gdncp_last_error(); calls after that do nothing. */
typedef struct bench_case {
    const struct bench_benchmark *benchmark;
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
    gdncp_workspace_t *workspace;
    bench_shape_t shape;
    gdncp_dtype_t dtype; /* of activations */
    void *op;            /* the operation's arguments, as setup made them */
    gdncp_status_t status;
    double bytes; /* inputs read once and outputs written once */
    double worst; /* of all comparisons: error / tolerance; NaN where one was NaN */
    int wrong;    /* outputs that are outside their tolerance */
    uint64_t seed;
    bench_output_t outputs[BENCH_MAX_OUTPUTS];
    int num_outputs;
    void *blocks[BENCH_MAX_BLOCKS]; /* of the device, then those of the host */
    void *host_blocks[BENCH_MAX_BLOCKS];
    int num_blocks;
    int num_host_blocks;
} bench_case_t;

/* How often a benchmark is run in a sweep over token counts. */
typedef enum bench_sweep { BENCH_TOKENS, BENCH_BATCH, BENCH_ONCE } bench_sweep_t;

typedef struct bench_benchmark {
    const char *name;
    const char *group;
    bench_sweep_t sweep;
    void (*setup)(bench_case_t *c);             /* sets op */
    gdncp_status_t (*run)(bench_case_t *c);     /* queues it in the case's stream */
    gdncp_status_t (*forward)(bench_case_t *c); /* optional: a first part of run, timed apart too */
    void (*check)(bench_case_t *c);             /* runs it once, and compares every output */
    double (*flop)(const bench_shape_t *shape);
} bench_benchmark_t;

/* All benchmarks, in the order of the table; NULL ends it. */
extern const bench_benchmark_t *const bench_registry[];

/* ------------------------------------------------------------- for benchmarks */

/* Zeroed memory for the arguments of the operation, which is op from now on; NULL after a failure.
 */
void *bench_make_op(bench_case_t *c, size_t size);

/* Random numbers in the device's memory; to be read once a run. */
gdncp_tensor_t bench_input(bench_case_t *c, bench_fill_t fill, gdncp_dtype_t dtype, int ndim,
                           const int64_t *shape);

/* Memory that a run writes in full, poisoned with NaN. */
gdncp_tensor_t bench_output(bench_case_t *c, const char *name, double tolerance,
                            gdncp_dtype_t dtype, int ndim, const int64_t *shape);

/* An input that a run writes, too: both are counted. */
gdncp_tensor_t bench_in_out(bench_case_t *c, const char *name, double tolerance,
                            gdncp_dtype_t dtype, int ndim, const int64_t *shape);

/* A copy of the host's numbers on the device, where that is not the CPU. */
void bench_list(bench_case_t *c, const int64_t *host, int64_t count, const int64_t **cuda_p);

/* The numbers 0, step, 2 step, ... on the host, and on the device where that is not the CPU. */
void bench_steps(bench_case_t *c, int64_t count, int64_t step, const int64_t **host_p,
                 const int64_t **cuda_p);

/* Host memory of the case, zeroed; NULL after a failure. */
void *bench_alloc(bench_case_t *c, int64_t count, int64_t size);

/* The numbers that a tensor holds now, contiguous. NULL after a failure. */
double *bench_values(bench_case_t *c, const gdncp_tensor_t *tensor);

/* Zeros for what a tensor is to be compared with. NULL after a failure. */
double *bench_like(bench_case_t *c, const gdncp_tensor_t *tensor);

/* Run once and wait. */
void bench_run(bench_case_t *c);

/* Compare outputs in the order in which they were made, the first with references[0]. */
void bench_compare(bench_case_t *c, const double *const *references);

/* The tolerances of tests/tolerances.h by the dtype that a tensor has. */
double bench_tolerance(gdncp_dtype_t dtype);          /* outputs */
double bench_tolerance_gradient(gdncp_dtype_t dtype); /* gradients */

/* ------------------------------------------------------------- for the program */

gdncp_status_t bench_case_start(const bench_benchmark_t *benchmark, const bench_shape_t *shape,
                                gdncp_dtype_t dtype, gdncp_device_kind_t device, bench_case_t *c);
void bench_case_end(bench_case_t *c);

/* Outputs that hold a number that is not finite. */
int bench_count_not_finite(bench_case_t *c);

#endif
