/* Rows and states of a head, read and written as float32. */
#ifndef GDNCP_DELTA_RULE_ROWS_H
#define GDNCP_DELTA_RULE_ROWS_H

#include "delta_rule_problem.h"

/* Columns of v go by this many where a head is shared by threads, if their number is a multiple:
 * libxsmm's kernels sum over k in another way where columns are left over. */
#define GDNCP_PANEL_COLUMNS 64

/* Some of the columns of v, and so of a state. */
typedef struct gdncp_columns {
    int64_t first;
    int64_t width;
} gdncp_columns_t;

/* Panels of that many columns, the last of what is left: how many, and the columns of one. */
int64_t gdncp_num_panels(const gdncp_rule_problem_t *problem, int64_t width);
gdncp_columns_t gdncp_columns_of_panel(const gdncp_rule_problem_t *problem, int64_t width,
                                       int64_t panel);

/* dst [rows, width], rows ld apart, = columns of tokens [begin, begin + count) of one head of a
 * [T, H, d] tensor, then zeros. */
void gdncp_load_columns(const gdncp_tensor_t *tensor, int64_t begin, int64_t count, int64_t head,
                        const gdncp_columns_t *columns, int64_t rows, float *dst, int64_t ld);

/* The first `count` rows of src [.., width], rows ld apart, to columns of tokens [begin, begin +
 * count); nothing where they are there already. */
void gdncp_store_columns(const float *src, int64_t ld, int64_t begin, int64_t count, int64_t head,
                         const gdncp_columns_t *columns, const gdncp_tensor_t *tensor);

/* Rows of floats, ld apart. */
typedef struct gdncp_float_rows {
    float *data;
    int64_t ld;
} gdncp_float_rows_t;

/* Rows [rows, width] of columns of tokens [begin, begin + count): where they lie, if they are
 * float32 and need no padding, else in buffer, ld apart. _input: as gdncp_load_columns(); _output:
 * not set yet, for gdncp_store_columns(). */
gdncp_float_rows_t gdncp_columns_input(const gdncp_tensor_t *tensor, int64_t begin, int64_t count,
                                       int64_t head, const gdncp_columns_t *columns, int64_t rows,
                                       float *buffer, int64_t ld);
gdncp_float_rows_t gdncp_columns_output(const gdncp_tensor_t *tensor, int64_t begin, int64_t count,
                                        int64_t head, const gdncp_columns_t *columns, int64_t rows,
                                        float *buffer, int64_t ld);

/* The same for all columns: dst [rows, d] = tokens [begin, begin + count) of one head of a [T, H,
 * d] tensor, then zeros. */
void gdncp_load_head(const gdncp_tensor_t *tensor, int64_t begin, int64_t count, int64_t head,
                     int64_t rows, float *dst);

void gdncp_store_head(const float *src, int64_t begin, int64_t count, int64_t head,
                      const gdncp_tensor_t *tensor);

/* As gdncp_load_head(), of keys or queries; factors [rows] are what their rows are to be multiplied
 * by: 1 / norm where the rule asks for that, else 1. */
void gdncp_load_keys(const gdncp_rule_problem_t *problem, const gdncp_tensor_t *tensor,
                     int64_t begin, int64_t count, int64_t head, int64_t rows, float *dst,
                     float *factors);

/* As gdncp_store_head(), of the gradient of rows x [rows, d] as given, from grad [rows, d] of x
 * times factors, which is overwritten. */
void gdncp_store_key_grads(const gdncp_rule_problem_t *problem, const float *x,
                           const float *factors, float *grad, int64_t begin, int64_t count,
                           int64_t head, const gdncp_tensor_t *tensor);

/* dst [rows, width] = src [rows, width], with rows that lie so far apart. */
void gdncp_copy_columns(int64_t rows, int64_t width, const float *src, int64_t src_ld, float *dst,
                        int64_t dst_ld);

/* state [dk, width] = columns of one head of one sequence of a tensor of states in the rule's
 * layout; zeros if absent. */
void gdncp_load_state(const gdncp_rule_problem_t *problem, const gdncp_tensor_t *states,
                      int64_t sequence, int64_t head, const gdncp_columns_t *columns, float *state);

/* Back again; nothing if the tensor is absent. */
void gdncp_store_state(const gdncp_rule_problem_t *problem, const float *state, int64_t sequence,
                       int64_t head, const gdncp_columns_t *columns, const gdncp_tensor_t *states);

/* The saved state [dk, dv] at the start of a chunk whose number in the sequence is a multiple, > 0,
 * of GDNCP_SAVED_STATE_CHUNKS. Sequences keep apart: each begins at the place of its first token,
 * and has as many places as its length, less one, has whole steps. */
float *gdncp_rule_saved_state(const gdncp_rule_problem_t *problem, int64_t sequence, int64_t chunk,
                              int64_t head);

#endif
