/* Compares nccl_api.h with NVIDIA's nccl.h, where CMake has found that: nothing runs. */
#include "nccl_api.h"

#ifdef GDNCP_HAVE_NCCL_HEADER

#include <nccl.h>

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)
#define SAME_PLACE(field)                                                                          \
    _Static_assert(offsetof(gdncp_nccl_config_t, field) == offsetof(ncclConfig_t, field), #field)
#define IS(call, ...) _Static_assert(_Generic(&(call), __VA_ARGS__ : 1, default : 0), #call)

_Static_assert(NCCL_VERSION_CODE >= GDNCP_NCCL_OLDEST, "nccl.h is older than 2.28");
_Static_assert(sizeof(gdncp_nccl_id_t) == sizeof(ncclUniqueId), "ncclUniqueId");
_Static_assert(sizeof(gdncp_nccl_result_t) == sizeof(ncclResult_t), "ncclResult_t");
_Static_assert(sizeof(gdncp_nccl_type_t) == sizeof(ncclDataType_t), "ncclDataType_t");
SAME(GDNCP_NCCL_SUCCESS, ncclSuccess);
SAME(GDNCP_NCCL_UNHANDLED_CUDA_ERROR, ncclUnhandledCudaError);
SAME(GDNCP_NCCL_SYSTEM_ERROR, ncclSystemError);
SAME(GDNCP_NCCL_INTERNAL_ERROR, ncclInternalError);
SAME(GDNCP_NCCL_INVALID_ARGUMENT, ncclInvalidArgument);
SAME(GDNCP_NCCL_INVALID_USAGE, ncclInvalidUsage);
SAME(GDNCP_NCCL_REMOTE_ERROR, ncclRemoteError);
SAME(GDNCP_NCCL_IN_PROGRESS, ncclInProgress);
SAME(GDNCP_NCCL_INT8, ncclInt8);
SAME_PLACE(size);
SAME_PLACE(magic);
SAME_PLACE(version);
SAME_PLACE(blocking);

IS(ncclGetVersion, ncclResult_t (*)(int *));
IS(ncclGetUniqueId, ncclResult_t (*)(ncclUniqueId *));
IS(ncclCommInitRankConfig, ncclResult_t (*)(ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *));
IS(ncclCommFinalize, ncclResult_t (*)(ncclComm_t));
IS(ncclCommDestroy, ncclResult_t (*)(ncclComm_t));
IS(ncclCommAbort, ncclResult_t (*)(ncclComm_t));
IS(ncclCommGetAsyncError, ncclResult_t (*)(ncclComm_t, ncclResult_t *));
IS(ncclCommCount, ncclResult_t (*)(ncclComm_t, int *));
IS(ncclCommUserRank, ncclResult_t (*)(ncclComm_t, int *));
IS(ncclGetErrorString, const char *(*)(ncclResult_t));
IS(ncclGetLastError, const char *(*)(ncclComm_t));
IS(ncclGroupStart, ncclResult_t (*)(void));
IS(ncclGroupEnd, ncclResult_t (*)(void));
IS(ncclSend, ncclResult_t (*)(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t));
IS(ncclRecv, ncclResult_t (*)(void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t));
IS(ncclAllGather,
   ncclResult_t (*)(const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t));

#endif
