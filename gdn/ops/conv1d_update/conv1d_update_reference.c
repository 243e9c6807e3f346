/* The update of the convolution in float64: window and tokens of each sequence side by side. */
#include "conv1d_update_reference.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"

/* inputs [W-1 + length, C]: the window of sequence n, then its tokens. */
static void gather_inputs(const gdncp_conv1d_update_reference_t *update, int64_t n,
                          const double *slot, double *inputs)
{
    const gdncp_conv1d_reference_t *const conv = &update->conv;
    const size_t row_bytes = (size_t)conv->channels * sizeof *inputs;
    const int64_t window_rows = conv->width - 1;
    const int64_t first = conv->cu_seqlens[n];
    const int64_t length = conv->cu_seqlens[n + 1] - first;

    if (update->has_initial_state != NULL && update->has_initial_state[n] == 0) {
        memset(inputs, 0, (size_t)window_rows * row_bytes);
    } else {
        const int64_t accepted = update->num_accepted != NULL ? update->num_accepted[n] : 1;

        memcpy(inputs, slot + (accepted - 1) * conv->channels, (size_t)window_rows * row_bytes);
    }
    memcpy(inputs + window_rows * conv->channels, conv->x + first * conv->channels,
           (size_t)length * row_bytes);
}

static void update_sequence(const gdncp_conv1d_update_reference_t *update, int64_t n,
                            double *inputs, double *y)
{
    const gdncp_conv1d_reference_t *const conv = &update->conv;
    const int64_t window_rows = conv->width - 1;
    const int64_t first = conv->cu_seqlens[n];
    const int64_t length = conv->cu_seqlens[n + 1] - first;
    const int64_t own[] = {0, length};

    if (length == 0) {
        return;
    }
    if (update->slots[n] < 0) {
        memset(y + first * conv->channels, 0, (size_t)(length * conv->channels) * sizeof *y);
        return;
    }
    double *const slot = update->states + update->slots[n] * update->slot_rows * conv->channels;
    gdncp_conv1d_reference_t one = *conv;

    gather_inputs(update, n, slot, inputs);
    one.x = inputs + window_rows * conv->channels;
    one.window = inputs;
    one.cu_seqlens = own;
    one.num_sequences = 1;
    gdncp_conv1d_reference_forward(&one, y + first * conv->channels, NULL);

    const int64_t dropped = update->num_accepted != NULL ? 1 : length; /* oldest inputs */

    memcpy(slot, inputs + dropped * conv->channels,
           (size_t)((window_rows + length - dropped) * conv->channels) * sizeof *slot);
}

gdncp_status_t gdncp_conv1d_update_reference(const gdncp_conv1d_update_reference_t *update,
                                             double *y)
{
    const gdncp_conv1d_reference_t *const conv = &update->conv;
    const int64_t most = conv->width - 1 + conv->cu_seqlens[conv->num_sequences];
    double *const inputs = gdncp_memory_alloc((size_t)(most * conv->channels) * sizeof *inputs);

    if (inputs == NULL) {
        return gdncp_fail_memory("inputs of the float64 convolution");
    }
    for (int64_t n = 0; n < conv->num_sequences; n++) {
        update_sequence(update, n, inputs, y);
    }
    gdncp_memory_free(inputs);
    return GDNCP_OK;
}
