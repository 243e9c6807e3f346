/*
 * The one place where tolerances live. They only get tighter.
 *
 * Error ratio = RMS(result - reference) / RMS(reference); a NaN fails every comparison.
 */
#ifndef GDNCP_TOLERANCES_H
#define GDNCP_TOLERANCES_H

/* float32: output and gradients. */
#define GDNCP_TOLERANCE_F32 1e-5
/* float32: gradients that are sums which cancel (g, A_log, dt_bias), and the operator cases with
 * correlated keys or strong decay. */
#define GDNCP_TOLERANCE_F32_CANCELLING 1e-4

/* A product of operands that are two bf16 each (operand.h): at worst 2^-15 of each operand is
 * cut off, and 2^-16 of the product is low * low. */
#define GDNCP_TOLERANCE_TILES (2.5 * 0x1p-15)
#define GDNCP_TOLERANCE_TILES_BIAS 1e-6 /* of a sum of positive products */

/* bfloat16 against a float64 reference. */
#define GDNCP_TOLERANCE_BF16_OUTPUT 5e-3   /* o, final states of layers */
#define GDNCP_TOLERANCE_BF16_STATE 5e-4    /* states of the rule and their gradients, in float32 */
#define GDNCP_TOLERANCE_BF16_GRADIENT 8e-3 /* dq dk dv, dh0 of layers */
#define GDNCP_TOLERANCE_BF16_GATE_GRADIENT 2e-2 /* dbeta dg dA_log ddt_bias */

/* A whole bfloat16 layer whose q, k, v and o are bfloat16 inside too, against float64. */
#define GDNCP_TOLERANCE_BF16_RULE_OUTPUT 6e-3
#define GDNCP_TOLERANCE_BF16_RULE_GRADIENT 1.2e-2

/* bfloat16, many ranks against one. */
#define GDNCP_TOLERANCE_BF16_RANKS 3e-3      /* o dq dk dv dg dbeta */
#define GDNCP_TOLERANCE_BF16_RANKS_CONV 1e-3 /* conv: y dx dw db */

/* Largest relative error of a number that is rounded to a format, from the bits of its mantissa: 8,
 * 11 and 24 with the leading one. Bounds of products and sums are made of these. */
#define GDNCP_ROUNDOFF_BF16 0x1p-8
#define GDNCP_ROUNDOFF_TF32 0x1p-11
#define GDNCP_ROUNDOFF_F32 0x1p-24

/* Samples of a distribution: how many standard errors a moment may be off, and sqrt(n) times the
 * largest distance of the distribution functions (Kolmogorov and Smirnov); both would be exceeded
 * by chance less than once in 100,000 times. */
#define GDNCP_TOLERANCE_STANDARD_ERRORS 5.0
#define GDNCP_TOLERANCE_KOLMOGOROV 2.5

#endif
