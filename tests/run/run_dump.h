/* Dumps that differ from a golden one in one thing. */
#ifndef GDNCP_TEST_RUN_DUMP_H
#define GDNCP_TEST_RUN_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/tensor.h"

/* One change; members that are NULL or 0 change nothing. */
typedef struct run_change {
    const char *key;          /* metadata to set, */
    const char *value;        /* or to leave out where this is NULL */
    const char *tensor;       /* the tensor that is changed; */
    bool leave_out;           /* it is not written; */
    const char *rename;       /* it is written under this name too; */
    bool cut_first_dimension; /* it gets one row less; */
    gdncp_dtype_t dtype;      /* it is converted, where this is not F32; */
    int64_t index;            /* element [index] of its data */
    float f32;                /* becomes this, where that is not 0; */
    int64_t i64;              /* likewise of an int64 tensor */
} run_change_t;

/* Write the changed dump and return its path, valid until the next call. */
const char *run_write_changed(const char *golden, const run_change_t *change);

/* Write a dump of one document of `tokens` tokens with all tensors of tokens twice, end to end. Its
 * expected results are then wrong. */
const char *run_write_repeated(const char *golden, int64_t tokens);

/* Write a dump of a pack of `tokens` tokens with padding behind each sequence, the more the further
 * on: large numbers in what is read, zeros in what is expected. */
const char *run_write_padded(const char *golden, int64_t tokens);

/* Write the first `bytes` bytes of a golden file, or all but -bytes; patch: 8 bytes that replace
 * the first 8, or NULL. */
const char *run_write_bytes(const char *golden, int64_t bytes, const char *patch);

/* Remove what was written last. */
void run_remove_written(void);

#endif
