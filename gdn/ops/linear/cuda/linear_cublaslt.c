/*
 * Matrix products by cuBLASLt.
 *
 * It thinks of matrices as stored by columns. A matrix stored by rows is the transpose of one
 * stored by columns, so what is asked of it is out' = B' A'.
 */
#include "linear_cublaslt.h"

#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "error.h"
#include "log.h"
#include "workspace.h"

#define MAX_DEVICES 64
#define MAX_SCRATCH ((size_t)32 << 20)
#define NUM_CHOICES 256

typedef struct library {
    __typeof__(cublasLtCreate) *create;
    __typeof__(cublasLtGetVersion) *version;
    __typeof__(cublasLtMatmulDescCreate) *desc_create;
    __typeof__(cublasLtMatmulDescDestroy) *desc_destroy;
    __typeof__(cublasLtMatmulDescSetAttribute) *desc_set;
    __typeof__(cublasLtMatrixLayoutCreate) *layout_create;
    __typeof__(cublasLtMatrixLayoutDestroy) *layout_destroy;
    __typeof__(cublasLtMatmulPreferenceCreate) *preference_create;
    __typeof__(cublasLtMatmulPreferenceDestroy) *preference_destroy;
    __typeof__(cublasLtMatmulPreferenceSetAttribute) *preference_set;
    __typeof__(cublasLtMatmulAlgoGetHeuristic) *heuristic;
    __typeof__(cublasLtMatmul) *matmul;
} library_t;

/* A kind of product. It is hashed and compared as bytes, so it has none but its members'. */
typedef struct kind {
    int64_t rows;
    int64_t columns;
    int64_t depth;
    int64_t ld_a;
    int64_t ld_b;
    int64_t ld_out;
    int32_t dtype;
    int32_t out_dtype;
    uint32_t alignment_a;
    uint32_t alignment_b;
    uint32_t alignment_out;
    int32_t a_is_transposed;
    int32_t b_is_transposed;
    int32_t accumulate;
    int64_t device;
} kind_t;

static_assert(sizeof(kind_t) == 7 * sizeof(int64_t) + 8 * sizeof(int32_t), "padding");

/* What was chosen for a kind. */
typedef struct choice {
    kind_t kind;   /* rows == 0: none yet */
    bool is_taken; /* else cuBLASLt does not take this kind */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a;
    cublasLtMatrixLayout_t b;
    cublasLtMatrixLayout_t out;
    cublasLtMatmulAlgo_t algorithm;
    size_t scratch_bytes;
} choice_t;

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static bool is_open;
static library_t library;

/* All below is used with the lock held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cublasLtHandle_t handles[MAX_DEVICES]; /* NULL: not made yet */
static choice_t choices[NUM_CHOICES];         /* by hash of the kind; a newcomer takes the place */

static bool find_functions(void *file)
{
    const struct {
        const char *name;
        void *place;
    } functions[] = {
        {"cublasLtCreate", &library.create},
        {"cublasLtGetVersion", &library.version},
        {"cublasLtMatmulDescCreate", &library.desc_create},
        {"cublasLtMatmulDescDestroy", &library.desc_destroy},
        {"cublasLtMatmulDescSetAttribute", &library.desc_set},
        {"cublasLtMatrixLayoutCreate", &library.layout_create},
        {"cublasLtMatrixLayoutDestroy", &library.layout_destroy},
        {"cublasLtMatmulPreferenceCreate", &library.preference_create},
        {"cublasLtMatmulPreferenceDestroy", &library.preference_destroy},
        {"cublasLtMatmulPreferenceSetAttribute", &library.preference_set},
        {"cublasLtMatmulAlgoGetHeuristic", &library.heuristic},
        {"cublasLtMatmul", &library.matmul},
    };

    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *const function = dlsym(file, functions[i].name);

        if (function == NULL) {
            return false;
        }
        memcpy(functions[i].place, &function, sizeof function);
    }
    return true;
}

static void open_library(void)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

    for (size_t i = 0; i < sizeof names / sizeof names[0] && !is_open; i++) {
        void *const file = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);

        if (file != NULL && find_functions(file)) {
            is_open = true;
            gdncp_log(GDNCP_LOG_INFO, -1, "projections: %s, version %zu", names[i],
                      library.version());
        } else if (file != NULL) {
            dlclose(file);
        }
    }
    if (!is_open) {
        gdncp_log(GDNCP_LOG_INFO, -1, "projections: own kernels, as there is no cuBLASLt: %s",
                  dlerror());
    }
}

static gdncp_status_t fail(const char *what, cublasStatus_t status)
{
    return gdncp_fail(GDNCP_ERR_DEVICE, "%s: expected to succeed, got cuBLAS status %d", what,
                      (int)status);
}

static cudaDataType_t data_type(gdncp_dtype_t dtype)
{
    switch (dtype) {
    case GDNCP_BF16:
        return CUDA_R_16BF;
    case GDNCP_F16:
        return CUDA_R_16F;
    default:
        return CUDA_R_32F;
    }
}

/* The largest power of two up to 256 that divides an address. */
static uint32_t alignment_of(const void *data)
{
    const uintptr_t bits = (uintptr_t)data | 256;

    return (uint32_t)(bits & -bits);
}

static kind_t kind_of(const gdncp_product_t *product, int device)
{
    return (kind_t){
        .rows = product->rows,
        .columns = product->columns,
        .depth = product->depth,
        .ld_a = product->a.ld,
        .ld_b = product->b.ld,
        .ld_out = product->out.ld,
        .dtype = (int32_t)product->a.dtype,
        .out_dtype = (int32_t)product->out.dtype,
        .alignment_a = alignment_of(product->a.data),
        .alignment_b = alignment_of(product->b.data),
        .alignment_out = alignment_of(product->out.data),
        .a_is_transposed = product->a_is_transposed,
        .b_is_transposed = product->b_is_transposed,
        .accumulate = product->accumulate,
        .device = device,
    };
}

/* FNV-1a. */
static size_t hash_of(const kind_t *kind)
{
    const unsigned char *const bytes = (const unsigned char *)kind;
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < sizeof *kind; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return (size_t)(hash % NUM_CHOICES);
}

static void forget(choice_t *choice)
{
    if (choice->desc != NULL) {
        library.desc_destroy(choice->desc);
    }
    if (choice->a != NULL) {
        library.layout_destroy(choice->a);
    }
    if (choice->b != NULL) {
        library.layout_destroy(choice->b);
    }
    if (choice->out != NULL) {
        library.layout_destroy(choice->out);
    }
    memset(choice, 0, sizeof *choice);
}

/* A matrix of `rows` rows of `columns` that lie ld elements apart, as the transpose by columns. */
static cublasStatus_t make_layout(cublasLtMatrixLayout_t *layout, int32_t dtype, int64_t rows,
                                  int64_t columns, int64_t ld)
{
    return library.layout_create(layout, data_type((gdncp_dtype_t)dtype), (uint64_t)columns,
                                 (uint64_t)rows, ld);
}

static cublasStatus_t describe(choice_t *choice)
{
    const kind_t *const kind = &choice->kind;
    /* What it sees is A', which is to be used as it is unless a holds A' itself; likewise for B. */
    const cublasOperation_t transpose_a = kind->a_is_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t transpose_b = kind->b_is_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t status = library.desc_create(&choice->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);

    if (status == CUBLAS_STATUS_SUCCESS) {
        status = library.desc_set(choice->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose_b,
                                  sizeof transpose_b);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = library.desc_set(choice->desc, CUBLASLT_MATMUL_DESC_TRANSB, &transpose_a,
                                  sizeof transpose_a);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status =
            make_layout(&choice->a, kind->dtype, kind->a_is_transposed ? kind->depth : kind->rows,
                        kind->a_is_transposed ? kind->rows : kind->depth, kind->ld_a);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = make_layout(&choice->b, kind->dtype,
                             kind->b_is_transposed ? kind->columns : kind->depth,
                             kind->b_is_transposed ? kind->depth : kind->columns, kind->ld_b);
    }
    return status == CUBLAS_STATUS_SUCCESS
               ? make_layout(&choice->out, kind->out_dtype, kind->rows, kind->columns, kind->ld_out)
               : status;
}

/* Sums in parts are allowed where the parts are added in order and in float32. */
static cublasStatus_t prefer(const kind_t *kind, cublasLtMatmulPreference_t preference)
{
    const uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t bytes;
    } all[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(size_t){MAX_SCRATCH}, sizeof(size_t)},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &kind->alignment_b, sizeof(uint32_t)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &kind->alignment_a, sizeof(uint32_t)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &kind->alignment_out, sizeof(uint32_t)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &kind->alignment_out, sizeof(uint32_t)},
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const cublasStatus_t status =
            library.preference_set(preference, all[i].attribute, all[i].value, all[i].bytes);

        if (status != CUBLAS_STATUS_SUCCESS) {
            return status;
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t ask_for_algorithm(cublasLtHandle_t handle, choice_t *choice)
{
    cublasLtMatmulHeuristicResult_t found;
    cublasLtMatmulPreference_t preference;
    int num_found = 0;
    cublasStatus_t status = library.preference_create(&preference);

    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    status = prefer(&choice->kind, preference);
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = library.heuristic(handle, choice->desc, choice->b, choice->a, choice->out,
                                   choice->out, preference, 1, &found, &num_found);
    }
    library.preference_destroy(preference);
    if (status == CUBLAS_STATUS_SUCCESS && num_found > 0) {
        choice->is_taken = true;
        choice->algorithm = found.algo;
        choice->scratch_bytes = found.workspaceSize;
    }
    return status;
}

/* A kind that the library refuses is remembered too. */
static gdncp_status_t choose(cublasLtHandle_t handle, const kind_t *kind, choice_t **choice_p)
{
    choice_t *const choice = &choices[hash_of(kind)];

    if (memcmp(&choice->kind, kind, sizeof *kind) != 0) {
        forget(choice);
        choice->kind = *kind;
        cublasStatus_t status = describe(choice);

        if (status == CUBLAS_STATUS_SUCCESS) {
            status = ask_for_algorithm(handle, choice);
        }
        if (status != CUBLAS_STATUS_SUCCESS && status != CUBLAS_STATUS_NOT_SUPPORTED &&
            status != CUBLAS_STATUS_INVALID_VALUE) {
            forget(choice);
            return fail("cublasLtMatmulAlgoGetHeuristic", status);
        }
    }
    *choice_p = choice;
    return GDNCP_OK;
}

static gdncp_status_t handle_of(int *device_p, cublasLtHandle_t *handle_p)
{
    const cudaError_t error = cudaGetDevice(device_p);

    if (error != cudaSuccess || *device_p >= MAX_DEVICES) {
        return gdncp_fail(GDNCP_ERR_DEVICE, "cudaGetDevice: expected a device below %d, got %s",
                          MAX_DEVICES, cudaGetErrorString(error));
    }
    if (handles[*device_p] == NULL) {
        const cublasStatus_t status = library.create(&handles[*device_p]);

        if (status != CUBLAS_STATUS_SUCCESS) {
            handles[*device_p] = NULL;
            return fail("cublasLtCreate", status);
        }
    }
    *handle_p = handles[*device_p];
    return GDNCP_OK;
}

static gdncp_status_t multiply(const gdncp_product_t *product, gdncp_workspace_t *workspace,
                               bool *done_p)
{
    const float one = 1.0f;
    const float kept = product->accumulate ? 1.0f : 0.0f;
    cublasLtHandle_t handle = NULL;
    choice_t *choice = NULL;
    void *scratch = NULL;
    int device = 0;
    gdncp_status_t status = handle_of(&device, &handle);

    if (status != GDNCP_OK) {
        return status;
    }
    const kind_t kind = kind_of(product, device);

    status = choose(handle, &kind, &choice);
    if (status != GDNCP_OK || !choice->is_taken) {
        return status;
    }
    status = gdncp_workspace_reserve(workspace, choice->scratch_bytes, &scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    const cublasStatus_t result = library.matmul(
        handle, choice->desc, &one, product->b.data, choice->b, product->a.data, choice->a, &kept,
        product->out.data, choice->out, product->out.data, choice->out, &choice->algorithm, scratch,
        choice->scratch_bytes, (cudaStream_t)gdncp_workspace_stream(workspace));

    if (result != CUBLAS_STATUS_SUCCESS) {
        return fail("cublasLtMatmul", result);
    }
    *done_p = true;
    return GDNCP_OK;
}

gdncp_status_t gdncp_cublaslt_product(const gdncp_product_t *product, gdncp_workspace_t *workspace,
                                      bool *done_p)
{
    *done_p = false;
    if (product->a.dtype != product->b.dtype || product->rows == 0 || product->columns == 0 ||
        product->depth == 0) {
        return GDNCP_OK;
    }
    pthread_once(&opened, open_library);
    if (!is_open) {
        return GDNCP_OK;
    }
    pthread_mutex_lock(&lock);
    const gdncp_status_t status = multiply(product, workspace, done_p);

    pthread_mutex_unlock(&lock);
    return status;
}
