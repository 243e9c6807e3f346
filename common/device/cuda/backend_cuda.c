/* The backend of GPUs: the CUDA runtime, linked statically, which opens the driver when first used.
 */
#include "backend.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "error.h"

static gdncp_status_t fail(const char *what, cudaError_t error)
{
    if (error == cudaErrorMemoryAllocation) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %s: %s", what,
                          cudaGetErrorString(error));
    }
    return gdncp_fail(GDNCP_ERR_DEVICE, "%s: expected to succeed, got %s", what,
                      cudaGetErrorString(error));
}

static gdncp_status_t result(const char *what, cudaError_t error)
{
    return error == cudaSuccess ? GDNCP_OK : fail(what, error);
}

static gdncp_status_t check(void)
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);

    if (error == cudaErrorInsufficientDriver) {
        return gdncp_fail(
            GDNCP_ERR_NOT_SUPPORTED,
            "cuda: expected an NVIDIA driver for CUDA %d.%d, got none or an older one",
            CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    }
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED, "cuda: expected a GPU, got none");
    }
    return result("cudaGetDeviceCount", error);
}

static gdncp_status_t ask(int device, gdncp_device_info_t *info)
{
    struct cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, device);

    if (error != cudaSuccess) {
        return fail("cudaGetDeviceProperties", error);
    }
    *info = (gdncp_device_info_t){
        .num_multiprocessors = properties.multiProcessorCount,
        .compute_capability = 10 * properties.major + properties.minor,
        .shared_bytes = properties.sharedMemPerBlockOptin,
        .memory_bytes = properties.totalGlobalMem,
    };
    snprintf(info->name, sizeof info->name, "%.127s", properties.name);
    return GDNCP_OK;
}

/* What devices have said, by their numbers: launchers ask at each call, and the runtime takes its
 * time to answer. Devices beyond these are asked each time. */
enum { NUM_KEPT = 64 };

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static gdncp_device_info_t kept[NUM_KEPT];
static bool is_kept[NUM_KEPT];

static gdncp_status_t info(gdncp_device_info_t *info)
{
    int device;
    const cudaError_t error = cudaGetDevice(&device);
    gdncp_status_t status = GDNCP_OK;

    if (error != cudaSuccess) {
        return fail("cudaGetDevice", error);
    }
    if (device >= NUM_KEPT) {
        return ask(device, info);
    }
    pthread_mutex_lock(&kept_lock);
    if (!is_kept[device]) {
        status = ask(device, &kept[device]);
        is_kept[device] = status == GDNCP_OK;
    }
    if (status == GDNCP_OK) {
        *info = kept[device];
    }
    pthread_mutex_unlock(&kept_lock);
    return status;
}

static gdncp_status_t current(int *device_p)
{
    return result("cudaGetDevice", cudaGetDevice(device_p));
}

static gdncp_status_t alloc(size_t bytes, void **memory_p)
{
    return result("cudaMalloc", cudaMalloc(memory_p, bytes > 0 ? bytes : 1));
}

static void release(void *memory)
{
    cudaFree(memory);
}

static gdncp_status_t alloc_pinned(size_t bytes, void **memory_p)
{
    return result("cudaMallocHost", cudaMallocHost(memory_p, bytes > 0 ? bytes : 1));
}

static void free_pinned(void *memory)
{
    cudaFreeHost(memory);
}

static gdncp_status_t copy(void *dst, const void *src, size_t bytes, gdncp_stream_t stream)
{
    return result("cudaMemcpyAsync",
                  cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, (cudaStream_t)stream));
}

static gdncp_status_t clear(void *memory, size_t bytes, gdncp_stream_t stream)
{
    return result("cudaMemsetAsync", cudaMemsetAsync(memory, 0, bytes, (cudaStream_t)stream));
}

static gdncp_status_t call_host(gdncp_stream_t stream, void (*function)(void *context),
                                void *context)
{
    return result("cudaLaunchHostFunc",
                  cudaLaunchHostFunc((cudaStream_t)stream, function, context));
}

static pthread_once_t looked_up = PTHREAD_ONCE_INIT;
static PFN_cuStreamWaitValue32_v11070 wait_value; /* NULL: an older driver */
static PFN_cuStreamWriteValue32_v11070 write_value;

static void *look_up(const char *name)
{
    enum cudaDriverEntryPointQueryResult found;
    void *function = NULL;
    const bool is_known = cudaGetDriverEntryPointByVersion(
                              name, &function, 11070, cudaEnableDefault, &found) == cudaSuccess &&
                          found == cudaDriverEntryPointSuccess;

    return is_known ? function : NULL;
}

/* The runtime has no such calls; the driver's library is not linked with. */
static void look_up_values(void)
{
    void *const wait = look_up("cuStreamWaitValue32");
    void *const write = look_up("cuStreamWriteValue32");

    memcpy(&wait_value, &wait, sizeof wait);
    memcpy(&write_value, &write, sizeof write);
}

static gdncp_status_t driver_result(const char *call, CUresult error)
{
    return error == CUDA_SUCCESS
               ? GDNCP_OK
               : gdncp_fail(GDNCP_ERR_DEVICE, "%s: expected to succeed, got CUDA driver error %d",
                            call, (int)error);
}

static gdncp_status_t fail_old_driver(const char *call)
{
    return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED, "cuda: expected a driver with %s, got an older one",
                      call);
}

static gdncp_status_t wait_flag(gdncp_stream_t stream, const uint32_t *flag)
{
    pthread_once(&looked_up, look_up_values);
    if (wait_value == NULL) {
        return fail_old_driver("cuStreamWaitValue32");
    }
    return driver_result(
        "cuStreamWaitValue32",
        wait_value((CUstream)stream, (CUdeviceptr)(uintptr_t)flag, 1, CU_STREAM_WAIT_VALUE_GEQ));
}

static gdncp_status_t write_flag(gdncp_stream_t stream, uint32_t *flag, uint32_t value)
{
    pthread_once(&looked_up, look_up_values);
    if (write_value == NULL) {
        return fail_old_driver("cuStreamWriteValue32");
    }
    return driver_result("cuStreamWriteValue32",
                         write_value((CUstream)stream, (CUdeviceptr)(uintptr_t)flag, value,
                                     CU_STREAM_WRITE_VALUE_DEFAULT));
}

/* The library finds the device's context current, and may query events and allocate though another
 * thread is capturing a stream. */
static gdncp_status_t lend(int device)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    const cudaError_t error = cudaSetDevice(device);

    return error == cudaSuccess ? result("cudaThreadExchangeStreamCaptureMode",
                                         cudaThreadExchangeStreamCaptureMode(&mode))
                                : fail("cudaSetDevice", error);
}

/* Whoever writes from outside, as a network card does, may be overtaken by whoever says that it
 * has: some devices must be told to wait for it. */
static gdncp_status_t take_back(int device)
{
    int ordering = cudaGPUDirectRDMAWritesOrderingOwner;
    int ways = 0;
    cudaError_t error =
        cudaDeviceGetAttribute(&ordering, cudaDevAttrGPUDirectRDMAWritesOrdering, device);

    if (error == cudaSuccess && ordering < cudaGPUDirectRDMAWritesOrderingOwner) {
        error = cudaDeviceGetAttribute(&ways, cudaDevAttrGPUDirectRDMAFlushWritesOptions, device);
    }
    if (error != cudaSuccess) {
        return fail("cudaDeviceGetAttribute", error);
    }
    return (ways & cudaFlushGPUDirectRDMAWritesOptionHost) != 0
               ? result("cudaDeviceFlushGPUDirectRDMAWrites",
                        cudaDeviceFlushGPUDirectRDMAWrites(
                            cudaFlushGPUDirectRDMAWritesTargetCurrentDevice,
                            cudaFlushGPUDirectRDMAWritesToOwner))
               : GDNCP_OK;
}

static gdncp_status_t stream_create(gdncp_stream_t *stream_p)
{
    return result("cudaStreamCreateWithFlags",
                  cudaStreamCreateWithFlags((cudaStream_t *)stream_p, cudaStreamNonBlocking));
}

static void stream_destroy(gdncp_stream_t stream)
{
    cudaStreamDestroy((cudaStream_t)stream);
}

static gdncp_status_t stream_synchronize(gdncp_stream_t stream)
{
    return result("cudaStreamSynchronize", cudaStreamSynchronize((cudaStream_t)stream));
}

static gdncp_status_t event_create(gdncp_event_t *event_p)
{
    return result("cudaEventCreate", cudaEventCreate((cudaEvent_t *)event_p));
}

static void event_destroy(gdncp_event_t event)
{
    cudaEventDestroy((cudaEvent_t)event);
}

static gdncp_status_t event_record(gdncp_event_t event, gdncp_stream_t stream)
{
    return result("cudaEventRecord", cudaEventRecord((cudaEvent_t)event, (cudaStream_t)stream));
}

static gdncp_status_t stream_wait_event(gdncp_stream_t stream, gdncp_event_t event)
{
    return result("cudaStreamWaitEvent",
                  cudaStreamWaitEvent((cudaStream_t)stream, (cudaEvent_t)event, 0));
}

static gdncp_status_t event_elapsed(gdncp_event_t begin, gdncp_event_t end, float *ms_p)
{
    return result("cudaEventElapsedTime",
                  cudaEventElapsedTime(ms_p, (cudaEvent_t)begin, (cudaEvent_t)end));
}

static gdncp_status_t capture_begin(gdncp_stream_t stream)
{
    return result("cudaStreamBeginCapture",
                  cudaStreamBeginCapture((cudaStream_t)stream, cudaStreamCaptureModeThreadLocal));
}

static gdncp_status_t capture_end(gdncp_stream_t stream, void **graph_p)
{
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cudaError_t error = cudaStreamEndCapture((cudaStream_t)stream, &graph);

    if (error != cudaSuccess) {
        return fail("cudaStreamEndCapture", error);
    }
    error = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    if (error != cudaSuccess) {
        return fail("cudaGraphInstantiate", error);
    }
    *graph_p = executable;
    return GDNCP_OK;
}

static gdncp_status_t graph_launch(void *graph, gdncp_stream_t stream)
{
    return result("cudaGraphLaunch", cudaGraphLaunch((cudaGraphExec_t)graph, (cudaStream_t)stream));
}

static void graph_destroy(void *graph)
{
    cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

const gdncp_backend_t gdncp_backend_cuda = {
    .check = check,
    .is_host_memory = false,
    .info = info,
    .current = current,
    .alloc = alloc,
    .free = release,
    .alloc_pinned = alloc_pinned,
    .free_pinned = free_pinned,
    .copy = copy,
    .clear = clear,
    .call_host = call_host,
    .wait_flag = wait_flag,
    .write_flag = write_flag,
    .lend = lend,
    .take_back = take_back,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_synchronize = stream_synchronize,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .stream_wait_event = stream_wait_event,
    .event_elapsed = event_elapsed,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_destroy = graph_destroy,
};
