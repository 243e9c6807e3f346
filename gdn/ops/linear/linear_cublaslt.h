/* Matrix products by cuBLASLt, a library of NVIDIA's that is opened when first needed. */
#ifndef GDNCP_LINEAR_CUBLASLT_H
#define GDNCP_LINEAR_CUBLASLT_H

#include <stdbool.h>

#include "linear_tiles.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Queue a product in the workspace's stream. *done_p is set to whether it was: not where cuBLASLt
 * is not installed, or does not take such a product: one of mixed dtypes, say.
 *
 * An algorithm is chosen once for each kind of product: dtypes, sizes, alignments. It is one that
 * sums in a fixed order, in float32, and never through tf32.
 */
gdncp_status_t gdncp_cublaslt_product(const gdncp_product_t *product, gdncp_workspace_t *workspace,
                                      bool *done_p);

#ifdef __cplusplus
}
#endif

#endif
