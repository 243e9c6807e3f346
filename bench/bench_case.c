/* The data of a benchmark: random inputs, outputs, and their comparison with a reference. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "tolerances.h"

/* Numbers repeat after so many: drawing each anew would take longer than the benchmarks. A prime,
 * so that rows of a tensor differ. */
#define NUM_DRAWN 1048573

double bench_tolerance(gdncp_dtype_t dtype)
{
    return dtype == GDNCP_F32 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_OUTPUT;
}

double bench_tolerance_gradient(gdncp_dtype_t dtype)
{
    return dtype == GDNCP_F32 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_GRADIENT;
}

static void fail(bench_case_t *c, gdncp_status_t status)
{
    if (c->status == GDNCP_OK) {
        c->status = status;
    }
}

void *bench_alloc(bench_case_t *c, int64_t count, int64_t size)
{
    if (c->status != GDNCP_OK) {
        return NULL;
    }
    void *const memory = calloc(count > 0 ? (size_t)count : 1, (size_t)size);

    if (memory == NULL) {
        fail(c, gdncp_fail_memory("numbers of a benchmark"));
    } else if (c->num_host_blocks == BENCH_MAX_BLOCKS) {
        free(memory);
        fail(c,
             gdncp_fail(GDNCP_ERR_INTERNAL, "%s: more blocks than expected", c->benchmark->name));
        return NULL;
    } else {
        c->host_blocks[c->num_host_blocks++] = memory;
    }
    return memory;
}

void *bench_make_op(bench_case_t *c, size_t size)
{
    c->op = bench_alloc(c, 1, (int64_t)size);
    return c->op;
}

double *bench_like(bench_case_t *c, const gdncp_tensor_t *tensor)
{
    return bench_alloc(c, gdncp_tensor_num_elements(tensor), (int64_t)sizeof(double));
}

static void *alloc_on_device(bench_case_t *c, size_t bytes)
{
    void *memory = NULL;

    if (c->status == GDNCP_OK && c->num_blocks == BENCH_MAX_BLOCKS) {
        fail(c,
             gdncp_fail(GDNCP_ERR_INTERNAL, "%s: more blocks than expected", c->benchmark->name));
    }
    if (c->status == GDNCP_OK) {
        fail(c, gdncp_device_alloc(c->device, bytes, &memory));
    }
    if (memory != NULL) {
        c->blocks[c->num_blocks++] = memory;
    }
    return memory;
}

static void copy(bench_case_t *c, void *dst, const void *src, size_t bytes)
{
    if (c->status == GDNCP_OK) {
        fail(c, gdncp_device_copy(c->device, dst, src, bytes, c->stream));
    }
    if (c->status == GDNCP_OK) {
        fail(c, gdncp_stream_synchronize(c->device, c->stream));
    }
}

static gdncp_tensor_t make_tensor(bench_case_t *c, gdncp_dtype_t dtype, int ndim,
                                  const int64_t *shape, size_t *bytes_p)
{
    gdncp_tensor_t tensor = gdncp_tensor_contiguous(NULL, dtype, ndim, shape);

    *bytes_p = (size_t)gdncp_tensor_num_elements(&tensor) * gdncp_dtype_size(dtype);
    tensor.device = c->device;
    tensor.data = alloc_on_device(c, *bytes_p);
    return tensor;
}

/* SplitMix64 (Steele, Lea, Flood 2014), as a number in [0, 1). */
static double draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static float draw_filled(bench_fill_t fill, uint64_t *state)
{
    const double uniform = draw(state);

    if (fill == BENCH_UNIT) {
        return (float)uniform;
    }
    if (fill == BENCH_LOG_GATE) {
        return (float)(-0.1 * uniform);
    }
    const double normal = sqrt(-2.0 * log(1.0 - uniform)) * cos(6.283185307179586 * draw(state));

    return (float)(fill == BENCH_SMALL ? 0.1 * normal : normal);
}

static void fill_tensor(bench_case_t *c, bench_fill_t fill, const gdncp_tensor_t *tensor)
{
    const int64_t count = gdncp_tensor_num_elements(tensor);
    const int64_t num_drawn = count < NUM_DRAWN ? count : NUM_DRAWN;
    const size_t size = gdncp_dtype_size(tensor->dtype);
    float *const values = malloc((size_t)num_drawn * sizeof *values + 1);
    char *const elements = malloc((size_t)num_drawn * size + 1);

    if (values == NULL || elements == NULL) {
        fail(c, gdncp_fail_memory("numbers of a benchmark"));
    } else {
        for (int64_t i = 0; i < num_drawn; i++) {
            values[i] = draw_filled(fill, &c->seed);
        }
        fail(c, gdncp_convert_from_f32(values, num_drawn, tensor->dtype, elements));
    }
    for (int64_t i = 0; i < count && c->status == GDNCP_OK; i += num_drawn) {
        const int64_t rest = count - i < num_drawn ? count - i : num_drawn;

        copy(c, (char *)tensor->data + (size_t)i * size, elements, (size_t)rest * size);
    }
    free(values);
    free(elements);
}

gdncp_tensor_t bench_input(bench_case_t *c, bench_fill_t fill, gdncp_dtype_t dtype, int ndim,
                           const int64_t *shape)
{
    size_t bytes;
    const gdncp_tensor_t tensor = make_tensor(c, dtype, ndim, shape, &bytes);

    c->bytes += (double)bytes;
    if (c->status == GDNCP_OK) {
        fill_tensor(c, fill, &tensor);
    }
    return tensor;
}

static void add_output(bench_case_t *c, const char *name, double tolerance,
                       const gdncp_tensor_t *tensor)
{
    if (c->num_outputs == BENCH_MAX_OUTPUTS) {
        fail(c,
             gdncp_fail(GDNCP_ERR_INTERNAL, "%s: more outputs than expected", c->benchmark->name));
        return;
    }
    c->outputs[c->num_outputs++] =
        (bench_output_t){.name = name, .tensor = *tensor, .tolerance = tolerance};
}

gdncp_tensor_t bench_output(bench_case_t *c, const char *name, double tolerance,
                            gdncp_dtype_t dtype, int ndim, const int64_t *shape)
{
    size_t bytes;
    const gdncp_tensor_t tensor = make_tensor(c, dtype, ndim, shape, &bytes);
    char *const poison = bench_alloc(c, (int64_t)bytes, 1);

    c->bytes += (double)bytes;
    if (poison != NULL) {
        memset(poison, 0xff, bytes);
        copy(c, tensor.data, poison, bytes);
        c->num_host_blocks--;
        free(poison);
    }
    add_output(c, name, tolerance, &tensor);
    return tensor;
}

gdncp_tensor_t bench_in_out(bench_case_t *c, const char *name, double tolerance,
                            gdncp_dtype_t dtype, int ndim, const int64_t *shape)
{
    const double before = c->bytes;
    const gdncp_tensor_t tensor = bench_input(c, BENCH_NORMAL, dtype, ndim, shape);

    c->bytes += c->bytes - before;
    add_output(c, name, tolerance, &tensor);
    return tensor;
}

void bench_list(bench_case_t *c, const int64_t *host, int64_t count, const int64_t **cuda_p)
{
    if (c->device != GDNCP_DEVICE_CPU) {
        const size_t bytes = (size_t)count * sizeof *host;
        int64_t *const on_device = alloc_on_device(c, bytes);

        copy(c, on_device, host, bytes);
        *cuda_p = on_device;
    }
}

void bench_steps(bench_case_t *c, int64_t count, int64_t step, const int64_t **host_p,
                 const int64_t **cuda_p)
{
    int64_t *const numbers = bench_alloc(c, count, (int64_t)sizeof *numbers);

    if (numbers == NULL) {
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = i * step;
    }
    *host_p = numbers;
    bench_list(c, numbers, count, cuda_p);
}

double *bench_values(bench_case_t *c, const gdncp_tensor_t *tensor)
{
    const int64_t count = gdncp_tensor_num_elements(tensor);
    const size_t bytes = (size_t)count * gdncp_dtype_size(tensor->dtype);
    double *const values = bench_alloc(c, count, (int64_t)sizeof *values);
    char *const elements = malloc(bytes + 1);
    float *const floats = malloc((size_t)count * sizeof *floats + 1);

    if (elements == NULL || floats == NULL) {
        fail(c, gdncp_fail_memory("numbers of a benchmark"));
    }
    if (c->status == GDNCP_OK) {
        copy(c, elements, tensor->data, bytes);
    }
    if (c->status == GDNCP_OK) {
        fail(c, gdncp_convert_to_f32(tensor->dtype, elements, count, floats));
    }
    for (int64_t i = 0; i < count && c->status == GDNCP_OK; i++) {
        values[i] = (double)floats[i];
    }
    free(elements);
    free(floats);
    return c->status == GDNCP_OK ? values : NULL;
}

void bench_run(bench_case_t *c)
{
    if (c->status == GDNCP_OK) {
        fail(c, c->benchmark->run(c));
    }
    if (c->status == GDNCP_OK) {
        fail(c, gdncp_stream_synchronize(c->device, c->stream));
    }
}

static double rms_ratio(const double *values, const double *reference, int64_t count)
{
    double error = 0.0;
    double norm = 0.0;

    for (int64_t i = 0; i < count; i++) {
        error += (values[i] - reference[i]) * (values[i] - reference[i]);
        norm += reference[i] * reference[i];
    }
    return norm > 0.0 ? sqrt(error / norm) : sqrt(error);
}

void bench_compare(bench_case_t *c, const double *const *references)
{
    for (int i = 0; i < c->num_outputs && c->status == GDNCP_OK; i++) {
        const bench_output_t *const output = &c->outputs[i];
        const double *const values = bench_values(c, &output->tensor);

        if (values == NULL) {
            return;
        }
        const double ratio =
            rms_ratio(values, references[i], gdncp_tensor_num_elements(&output->tensor)) /
            output->tolerance;

        if (!(ratio <= 1.0)) {
            c->wrong++;
        }
        if (!(ratio <= c->worst)) { /* a NaN stays */
            c->worst = isnan(c->worst) ? c->worst : ratio;
        }
    }
}

/* A tensor's elements from begin on, no more than are drawn at a time. */
static gdncp_tensor_t piece_of(const gdncp_tensor_t *tensor, int64_t begin)
{
    const int64_t rest = gdncp_tensor_num_elements(tensor) - begin;
    const int64_t count = rest < NUM_DRAWN ? rest : NUM_DRAWN;
    char *const data = (char *)tensor->data + (size_t)begin * gdncp_dtype_size(tensor->dtype);

    return gdncp_tensor_contiguous(data, tensor->dtype, 1, &count);
}

static bool is_finite(bench_case_t *c, const gdncp_tensor_t *tensor)
{
    const int64_t count = gdncp_tensor_num_elements(tensor);
    bool finite = true;

    for (int64_t begin = 0; begin < count && finite && c->status == GDNCP_OK; begin += NUM_DRAWN) {
        const gdncp_tensor_t piece = piece_of(tensor, begin);
        const double *const values = bench_values(c, &piece);

        for (int64_t i = 0; values != NULL && i < piece.shape[0]; i++) {
            finite = finite && isfinite(values[i]);
        }
        if (values != NULL) {
            free(c->host_blocks[--c->num_host_blocks]);
        }
    }
    return finite;
}

int bench_count_not_finite(bench_case_t *c)
{
    int count = 0;

    for (int i = 0; i < c->num_outputs; i++) {
        count += is_finite(c, &c->outputs[i].tensor) ? 0 : 1;
    }
    return count;
}

gdncp_status_t bench_case_start(const bench_benchmark_t *benchmark, const bench_shape_t *shape,
                                gdncp_dtype_t dtype, gdncp_device_kind_t device, bench_case_t *c)
{
    *c = (bench_case_t){
        .benchmark = benchmark, .device = device, .shape = *shape, .dtype = dtype, .seed = 1};
    if (device != GDNCP_DEVICE_CPU) {
        fail(c, gdncp_stream_create(device, &c->stream));
    }
    if (c->status == GDNCP_OK) {
        fail(c, gdncp_workspace_create_on(device, c->stream, &c->workspace));
    }
    if (c->status == GDNCP_OK) {
        benchmark->setup(c);
    }
    return c->status;
}

void bench_case_end(bench_case_t *c)
{
    gdncp_workspace_destroy(c->workspace);
    for (int i = 0; i < c->num_blocks; i++) {
        gdncp_device_free(c->device, c->blocks[i]);
    }
    for (int i = 0; i < c->num_host_blocks; i++) {
        free(c->host_blocks[i]);
    }
    if (c->stream != NULL) {
        gdncp_stream_destroy(c->device, c->stream);
    }
}
