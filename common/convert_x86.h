/* Conversions by instructions of x86 processors that compilers do not make loops into: F16C's,
 * those of AVX-512 with 16-bit floats, and AVX-512 BF16's. */
#ifndef GDNCP_CONVERT_X86_H
#define GDNCP_CONVERT_X86_H

#include <stdbool.h>
#include <stdint.h>

/* As the functions of half.h give for each element, but that any NaN comes out quiet. False, and
 * nothing written, where this processor has no such instruction. */
bool gdncp_x86_widen_f16(const uint16_t *src, int64_t count, float *dst);
bool gdncp_x86_narrow_f16(const float *src, int64_t count, uint16_t *dst);
bool gdncp_x86_narrow_bf16(const float *src, int64_t count, uint16_t *dst);

#endif
