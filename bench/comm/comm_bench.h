/*
 * A benchmark of communication: what a rank does, and where each element of its result should come
 * from. One file a group of benchmarks.
 */
#ifndef GDNCP_COMM_BENCH_H
#define GDNCP_COMM_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/layout.h"
#include "gdncp/plan.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

/* What is exchanged: one sequence in dual_chunk_swap. */
typedef struct comm_shape {
    int64_t tokens;   /* of all ranks; a multiple of twice their number */
    int64_t channels; /* of all ranks */
    gdncp_dtype_t dtype;
} comm_shape_t;

/* Elements of a rank's output that come from one place; all lie together. */
typedef struct comm_run {
    int64_t offset; /* in the output */
    int64_t elements;
    int source; /* rank; < 0: nowhere, they are zero */
    int64_t source_offset;
} comm_run_t;

struct comm_benchmark;

/* A benchmark on one rank. The first thing that fails is kept in status, with its sentence in
 * gdncp_last_error(); calls after that do nothing. */
typedef struct comm_case {
    const struct comm_benchmark *benchmark;
    gdncp_comm_t *comm;
    int rank;
    int size;
    comm_shape_t shape;
    gdncp_status_t status;

    gdncp_layout_t *layout;
    gdncp_layout_t *contiguous;
    int *holder_of;    /* [tokens] rank under layout */
    int64_t *place_of; /* [tokens] in that rank's buffer */
    void *op;          /* what setup made */
    void *in;          /* read by a run; comm_value() of each element */
    void *out;         /* written by a run; poisoned with NaN before the check */
    int64_t in_bytes;
    int64_t out_bytes;
    int64_t sent_bytes;  /* to other ranks, in one move */
    int64_t least_bytes; /* that this rank's core must read and write in one move */
    bool idle;           /* this rank takes no part, as there are more than the benchmark needs */
} comm_case_t;

typedef struct comm_benchmark {
    const char *name;
    const char *about; /* for --list */
    int least_ranks;
    int moves_a_run;                       /* one after the other: 2 for there and back */
    bool is_f32;                           /* whatever dtypes are asked for, it has one */
    void (*setup)(comm_case_t *c);         /* sets op, in, out and the bytes */
    gdncp_status_t (*run)(comm_case_t *c); /* once */
    int64_t (*check)(comm_case_t *c);      /* elements of the output that are wrong after a run */
    void (*end)(comm_case_t *c);           /* frees op, of which setup may have made a part */
    const struct comm_kind *kind;          /* of plans */
    bool transposed;
} comm_benchmark_t;

/* All benchmarks, in the order of the table; NULL ends it. */
extern const comm_benchmark_t *const comm_registry[];

/* A small integer that depends on a rank and an index; sums over 64 ranks are exact in every
 * dtype. */
int comm_value(int rank, int64_t index);

/* in and out of so many elements, filled. */
void comm_make_buffers(comm_case_t *c, int64_t in_elements, int64_t out_elements);
void comm_fill(gdncp_dtype_t dtype, int rank, int64_t elements, void *buffer);
void comm_poison(comm_case_t *c);

/* Memory of the case's, zeroed, to be freed by gdncp_memory_free(); NULL after a failure. */
void *comm_alloc(comm_case_t *c, int64_t count, int64_t size);

/* Keep the first failure. */
void comm_keep(comm_case_t *c, gdncp_status_t status);

/* Whether element i of a buffer is that number. */
bool comm_is(gdncp_dtype_t dtype, const void *buffer, int64_t i, float expected);

/* The number of wrong elements of a run of output. */
int64_t comm_count_wrong(const comm_case_t *c, const comm_run_t *run);

/* Copy in_bytes from in to out; the second as exchanges do it, past the caches. */
gdncp_status_t comm_run_memcpy(comm_case_t *c);
gdncp_status_t comm_run_copy(comm_case_t *c);

/* Make a case for a shape, and free it. */
void comm_case_start(comm_case_t *c, const comm_benchmark_t *benchmark, gdncp_comm_t *comm,
                     const comm_shape_t *shape);
void comm_case_end(comm_case_t *c);

#endif
