/* Inside a plan: blocks, the messages made of them, and how a builder adds transfers. */
#ifndef GDNCP_PLAN_INTERNAL_H
#define GDNCP_PLAN_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/plan.h"

/*
 * Rows of elements in a user's buffer: row r begins at offset + r*stride.
 *
 * A message is the concatenation of its groups of joined blocks. A group's blocks have equal
 * rows, and the message holds row 0 of each block, then row 1 of each, and so on. Sender and
 * receiver may cut the same bytes into different blocks: each describes its own buffer.
 */
typedef struct gdncp_block {
    int64_t offset;
    int64_t stride;
    int64_t rows;
    int64_t row_elements;
    int64_t num_joined; /* on the first block of a group: blocks in it; 0 on the others */
    bool shared;        /* other blocks of the plan, of this rank or not, hold the same elements */
} gdncp_block_t;

typedef struct gdncp_block_list {
    gdncp_block_t *blocks;
    int64_t count;
    int64_t capacity;
    int64_t elements; /* in all blocks: the message's length */
} gdncp_block_list_t;

/* A contribution to a sum: rows in the message from peer, or in the input if peer is the rank. */
typedef struct gdncp_term {
    int peer;
    int64_t offset;
    int64_t stride;
} gdncp_term_t;

/* Output elements that are the sum of terms, which are in order of rank. */
typedef struct gdncp_sum {
    gdncp_block_t target;
    int64_t first_term;
    int64_t num_terms;
} gdncp_sum_t;

/* Rows of a batch in a user's buffer, which begins with the first and ends with the last. Element e
 * of token t of batch row b is t*token_stride + b*batch_stride + e; what lies between is not ours.
 */
typedef struct gdncp_buffer {
    gdncp_rows_t rows;
    int64_t tokens;
    int64_t row_elements;
} gdncp_buffer_t;

struct gdncp_plan {
    char operation[32]; /* cp2hp, … */
    char name[64];      /* the same, or its transpose; set by gdncp_plan_seal() */
    char text[192];     /* dtype, shape, layout: for a person who compares two plans */
    uint64_t seed;      /* of the fingerprint: all but the direction and the write mode */
    bool transposed;
    gdncp_plan_write_t write;
    int rank;
    int num_ranks;
    gdncp_dtype_t dtype;
    gdncp_buffer_t input;
    gdncp_buffer_t output;
    int64_t input_elements; /* up to the end of the last row */
    int64_t output_elements;
    bool reads_overlap;  /* on some rank an input element is read more than once */
    bool writes_overlap; /* on some rank an output element is reached more than once */
    bool writes_cover;   /* every element of this rank's output rows is reached */
    bool keeps_rest;     /* those that are not are left as they were, instead of zero */

    /* [num_ranks] each. Those of the rank itself are its local copies: block i of one list goes
     * to block i of the other, equal in rows and row_elements, and none is joined. */
    gdncp_block_list_t *sends;
    gdncp_block_list_t *recvs;

    /* All shared blocks of recvs, and with GDNCP_PLAN_ADD the others too. Targets are disjoint. */
    gdncp_sum_t *sums;
    int64_t num_sums;
    gdncp_term_t *terms;

    gdncp_message_t *messages;
    int64_t num_messages;
};

/* Columns that one rank's rows give to another's. */
typedef struct gdncp_piece {
    int64_t source_column;
    int64_t destination_column;
    int64_t elements;
    bool shared; /* read by other transfers too, each with the same rows and columns as a piece */
} gdncp_piece_t;

/* Rows that go from a buffer on one rank to a buffer on another, or on the same. */
typedef struct gdncp_transfer {
    int source_rank;
    int destination_rank;
    int64_t rows;
    int64_t source_offset;
    int64_t source_stride;
    int64_t destination_offset;
    int64_t destination_stride;
} gdncp_transfer_t;

/*
 * Begin a plan: checks rank and dtype. The builder then sets text, buffers and reads_overlap, adds
 * transfers, and seals the plan.
 */
gdncp_status_t gdncp_plan_start(const char *operation, int num_ranks, int rank, gdncp_dtype_t dtype,
                                gdncp_plan_t **plan_p);

/* Let the fingerprint depend on a value. */
void gdncp_plan_mix(gdncp_plan_t *plan, uint64_t value);

/* What this rank's buffers hold. */
void gdncp_plan_set_buffers(gdncp_plan_t *plan, gdncp_buffer_t input, gdncp_buffer_t output);

/* A buffer of elements without gaps. */
gdncp_buffer_t gdncp_buffer_of_run(int64_t elements);

/* Whether no element lies between the rows. */
bool gdncp_buffer_is_dense(const gdncp_buffer_t *buffer);

/* GDNCP_OK if both are there and have the same batch. */
gdncp_status_t gdncp_rows_check_batch(const gdncp_rows_t *in, const gdncp_rows_t *out);

/*
 * GDNCP_OK if a batch's rows of row_elements, tokens of them a batch row, lie apart in a buffer
 * that can be addressed; else an error that begins with the argument's name.
 */
gdncp_status_t gdncp_rows_check(const char *argument, const gdncp_rows_t *rows, int64_t tokens,
                                int64_t row_elements, gdncp_dtype_t dtype);

/* Append a piece, or lengthen the last one where it goes on unshared on both sides; returns how
 * many pieces there are then. */
int64_t gdncp_pieces_append(gdncp_piece_t *pieces, int64_t count, gdncp_piece_t piece);

/*
 * The pieces of a batch from those of one row: a token's message holds batch row after batch row.
 * in and out hold the source's and the destination's rows; all [count * in->batch] written at most,
 * returns how many.
 */
int64_t gdncp_pieces_repeat(const gdncp_piece_t *pieces, int64_t count, const gdncp_rows_t *in,
                            const gdncp_rows_t *out, gdncp_piece_t *all);

/*
 * Add the pieces of a transfer; one that this rank has no part in is ignored. Ranks must add the
 * transfers between any two ranks in the same order. No output element may be reached twice.
 */
gdncp_status_t gdncp_plan_add(gdncp_plan_t *plan, const gdncp_transfer_t *transfer,
                              const gdncp_piece_t *pieces, int64_t num_pieces);

/* Complete a plan whose blocks are all there. */
gdncp_status_t gdncp_plan_seal(gdncp_plan_t *plan);

/* GDNCP_OK if a*b*c elements of dtype are at most 2^48 bytes, more than can be addressed, else an
 * error that names the argument. None is negative. */
gdncp_status_t gdncp_plan_check_elements(const char *argument, gdncp_dtype_t dtype, int64_t a,
                                         int64_t b, int64_t c);

/* Fill plan->sums and plan->terms from its blocks. */
gdncp_status_t gdncp_plan_make_sums(gdncp_plan_t *plan);

/* Whether all of a message lies in one run of the buffer, from blocks[0].offset on. */
bool gdncp_block_list_is_run(const gdncp_block_list_t *list);

/* Whether the message to or from a peer is moved from where it lies, or to where it belongs. */
bool gdncp_plan_sends_in_place(const gdncp_plan_t *plan, int peer);
bool gdncp_plan_receives_in_place(const gdncp_plan_t *plan, int peer);

/* Whether some of the output is reached by nothing, and to be zero: then all of it is cleared, or,
 * where there are gaps between its rows, each row. */
bool gdncp_plan_must_clear(const gdncp_plan_t *plan);
bool gdncp_plan_must_clear_rows(const gdncp_plan_t *plan);

/* Whether the output is written past the caches, which will not hold it until it is read. */
bool gdncp_plan_streams(const gdncp_plan_t *plan);

/* Write the message of a list of blocks; message is list->elements long. */
void gdncp_plan_pack(const gdncp_plan_t *plan, const gdncp_block_list_t *list, const void *in,
                     void *message);

/* The parts of a run that need no peer. Clearing comes before anything is received in place. */
void gdncp_plan_clear(const gdncp_plan_t *plan, void *out);
void gdncp_plan_copy_local(const gdncp_plan_t *plan, const void *in, void *out);

/* Put what came from the other ranks into the output, but for what must be added. messages as
 * below. */
void gdncp_plan_unpack(const gdncp_plan_t *plan, const void *const *messages, void *out);

/*
 * Put what came from the other ranks into the output, and add what must be added.
 * messages [num_ranks]: NULL where there was none or it was received in place.
 */
void gdncp_plan_deliver(const gdncp_plan_t *plan, const void *in, const void *const *messages,
                        void *out);

/* Write all sums, of which gdncp_plan_deliver() writes all; messages that are not NULL where
 * something is to be added are enough. */
void gdncp_plan_add_sums(const gdncp_plan_t *plan, const void *in, const void *const *messages,
                         void *out);

/* Of this rank in one exchange, from others. */
int64_t gdncp_plan_bytes_received(const gdncp_plan_t *plan);

#endif
