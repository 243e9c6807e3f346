/* Reading a dump: metadata and tensors, each checked against what is expected of it. */
#ifndef GDNCP_RUN_DUMP_H
#define GDNCP_RUN_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/safetensors.h"
#include "gdncp/status.h"

typedef struct run_dump {
    const char *path;
    gdncp_safetensors_t *file;
} run_dump_t;

/* Close with gdncp_safetensors_close(dump->file). */
gdncp_status_t run_dump_open(const char *path, run_dump_t *dump);

/* Metadata. What is missing or outside the range is an error that names the key. */
gdncp_status_t run_dump_text(const run_dump_t *dump, const char *key, const char **text_p);
gdncp_status_t run_dump_integer(const run_dump_t *dump, const char *key, int64_t minimum,
                                int64_t maximum, int64_t *value_p);
gdncp_status_t run_dump_positive(const run_dump_t *dump, const char *key, float *value_p);

bool run_dump_has(const run_dump_t *dump, const char *name);

/* Size of dimension `dim` of a tensor of `ndim` dimensions, none of them 0. */
gdncp_status_t run_dump_size(const run_dump_t *dump, const char *name, int ndim, int dim,
                             int64_t *size_p);

/* A float32 tensor of exactly that shape; else an error that names it. */
gdncp_status_t run_dump_check(const run_dump_t *dump, const char *name, int ndim,
                              const int64_t *shape);

/* A copy of a float32 tensor of exactly that shape, all of it finite; else an error that names the
 * tensor and, for NaN and infinity, the index. Free with free(). */
gdncp_status_t run_dump_read(const run_dump_t *dump, const char *name, int ndim,
                             const int64_t *shape, float **values_p);

/* Where the sequences of a pack lie. Free both with free(). */
typedef struct run_sequences {
    int64_t *cu_seqlens;        /* [count + 1] */
    int64_t *cu_seqlens_padded; /* [count + 1]; NULL: no padding */
    int64_t count;
} run_sequences_t;

/* "cu_seqlens": int64, from 0 to `tokens`, never decreasing; [0, tokens] where the dump has none.
 * Where it has "cu_seqlens_padded" that one goes to `tokens`, and has as many. */
gdncp_status_t run_dump_sequences(const run_dump_t *dump, int64_t tokens,
                                  run_sequences_t *sequences);

#endif
