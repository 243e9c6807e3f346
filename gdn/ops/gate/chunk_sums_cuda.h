/* Sums of the log-gate inside chunks, on a CUDA device. */
#ifndef GDNCP_CHUNK_SUMS_CUDA_H
#define GDNCP_CHUNK_SUMS_CUDA_H

#include "chunk_sums.h"
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

gdncp_status_t chunk_sums(const gdncp_chunk_sums_t &sums, gdncp_stream_t stream);

} /* namespace GDNCP_KERNELS */

#endif
