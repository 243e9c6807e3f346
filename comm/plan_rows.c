/* Rows of a batch in a user's buffer: that they lie apart, how far they reach, pieces of them all.
 */
#include <inttypes.h>

#include "error.h"
#include "plan_internal.h"

gdncp_rows_t gdncp_rows_token_major(int64_t batch, int64_t elements)
{
    return (gdncp_rows_t){
        .batch = batch, .token_stride = batch * elements, .batch_stride = elements};
}

gdncp_rows_t gdncp_rows_batch_major(int64_t batch, int64_t tokens, int64_t elements)
{
    return (gdncp_rows_t){
        .batch = batch, .token_stride = elements, .batch_stride = tokens * elements};
}

/* To the end of the last of count things, stride apart and span long; INT64_MAX if it is more. */
static int64_t span_of(int64_t count, int64_t stride, int64_t span)
{
    int64_t last;
    int64_t end;

    if (count == 0 || span == 0) {
        return 0;
    }
    return __builtin_mul_overflow(count - 1, stride, &last) ||
                   __builtin_add_overflow(last, span, &end)
               ? INT64_MAX
               : end;
}

/* Whether all the inner ones lie between an outer one and the next. */
static bool nests(int64_t num_inner, int64_t inner_stride, int64_t num_outer, int64_t outer_stride,
                  int64_t elements)
{
    return (num_inner <= 1 || inner_stride >= elements) &&
           (num_outer <= 1 || outer_stride >= span_of(num_inner, inner_stride, elements));
}

static int64_t elements_of(const gdncp_rows_t *rows, int64_t tokens, int64_t row_elements)
{
    return span_of(rows->batch, rows->batch_stride,
                   span_of(tokens, rows->token_stride, row_elements));
}

gdncp_status_t gdncp_rows_check_batch(const gdncp_rows_t *in, const gdncp_rows_t *out)
{
    if (in == NULL || out == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected rows, got NULL",
                          in == NULL ? "in" : "out");
    }
    if (in->batch <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "in->batch: expected > 0, got %" PRId64,
                          in->batch);
    }
    if (out->batch != in->batch) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "out->batch: expected %" PRId64 " like in, got %" PRId64, in->batch,
                          out->batch);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_rows_check(const char *argument, const gdncp_rows_t *rows, int64_t tokens,
                                int64_t row_elements, gdncp_dtype_t dtype)
{
    const int64_t token_stride = rows->token_stride;
    const int64_t batch_stride = rows->batch > 1 ? rows->batch_stride : 0;

    if (token_stride < 0 || batch_stride < 0 ||
        (!nests(tokens, token_stride, rows->batch, batch_stride, row_elements) &&
         !nests(rows->batch, batch_stride, tokens, token_stride, row_elements))) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected strides that keep %" PRId64 " x %" PRId64
                          " rows of %" PRId64 " elements apart, got token_stride %" PRId64
                          " and batch_stride %" PRId64,
                          argument, tokens, rows->batch, row_elements, token_stride, batch_stride);
    }
    return gdncp_plan_check_elements(argument, dtype, elements_of(rows, tokens, row_elements), 1,
                                     1);
}

gdncp_buffer_t gdncp_buffer_of_run(int64_t elements)
{
    return (gdncp_buffer_t){
        .rows = gdncp_rows_token_major(1, elements), .tokens = 1, .row_elements = elements};
}

bool gdncp_buffer_is_dense(const gdncp_buffer_t *buffer)
{
    return elements_of(&buffer->rows, buffer->tokens, buffer->row_elements) ==
           buffer->rows.batch * buffer->tokens * buffer->row_elements;
}

void gdncp_plan_set_buffers(gdncp_plan_t *plan, gdncp_buffer_t input, gdncp_buffer_t output)
{
    plan->input = input;
    plan->output = output;
    plan->input_elements = elements_of(&input.rows, input.tokens, input.row_elements);
    plan->output_elements = elements_of(&output.rows, output.tokens, output.row_elements);
}

int64_t gdncp_pieces_append(gdncp_piece_t *pieces, int64_t count, gdncp_piece_t piece)
{
    gdncp_piece_t *const last = count > 0 ? &pieces[count - 1] : NULL;

    if (last != NULL && !last->shared && !piece.shared &&
        last->source_column + last->elements == piece.source_column &&
        last->destination_column + last->elements == piece.destination_column) {
        last->elements += piece.elements;
        return count;
    }
    pieces[count] = piece;
    return count + 1;
}

int64_t gdncp_pieces_repeat(const gdncp_piece_t *pieces, int64_t count, const gdncp_rows_t *in,
                            const gdncp_rows_t *out, gdncp_piece_t *all)
{
    int64_t num_all = 0;

    for (int64_t b = 0; b < in->batch; b++) {
        for (int64_t p = 0; p < count; p++) {
            gdncp_piece_t piece = pieces[p];

            piece.source_column += b * in->batch_stride;
            piece.destination_column += b * out->batch_stride;
            num_all = gdncp_pieces_append(all, num_all, piece);
        }
    }
    return num_all;
}
