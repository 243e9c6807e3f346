#include "wrappers.h"

#include <stddef.h>

static const wrapper_t wrappers[] = {
    {"shuffle", WRAPPER_BITS, 2, 1, false},
    {"shuffle_xor", WRAPPER_BITS, 1, 5, false},
    {"shuffle_up", WRAPPER_BITS, 1, 5, false},
    {"shuffle_down", WRAPPER_BITS, 1, 5, false},
    {"bf16_to_float", WRAPPER_BITS, 1, 2, true},
    {"f16_to_float", WRAPPER_BITS, 1, 2, true},
    {"float_to_bf16", WRAPPER_BITS, 2, 2, true},
    {"float_to_f16", WRAPPER_BITS, 2, 2, true},
    {"to_tf32", WRAPPER_BITS, 1, 1, true},
    {"ldmatrix_x4", WRAPPER_BITS, 4, 4, false},
    {"ldmatrix_x4_trans", WRAPPER_BITS, 4, 4, false},
    {"mma_bf16", WRAPPER_BF16, 10, 4, true},
    {"mma_f16", WRAPPER_F16, 10, 4, true},
    {"mma_tf32", WRAPPER_TF32, 10, 4, true},
    {"cp_async_16", WRAPPER_BITS, 8, 4, false},
    {"functions", WRAPPER_FUNCTIONS, 1, 5, true},
};

const wrapper_t *wrapper_number(int number)
{
    return (size_t)number < sizeof wrappers / sizeof wrappers[0] ? &wrappers[number] : NULL;
}
