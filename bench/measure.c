#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "error.h"
#include "gdncp/ops.h"

#define COPY_BYTES ((int64_t)256 << 20)
#define COPY_BYTES_GPU ((int64_t)2 << 30)
#define FLUSH_BYTES ((size_t)256 << 20) /* more than the caches of a GPU hold */
#define PEAK_WARM_UP 2
#define PEAK_RUNS 7

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of so many sorted numbers, the smallest that a share of them does not exceed. */
static double percentile(const double *sorted, int count, int percent)
{
    const int rank = (count * percent + 99) / 100;

    return sorted[rank > 0 ? rank - 1 : 0];
}

bench_times_t bench_times_of(double *milliseconds, int count)
{
    qsort(milliseconds, (size_t)count, sizeof *milliseconds, compare_numbers);
    return (bench_times_t){
        .min = milliseconds[0],
        .median = percentile(milliseconds, count, 50),
        .p99 = percentile(milliseconds, count, 99),
    };
}

static gdncp_status_t time_by_clock(bench_case_t *c, bench_run_t run, double *ms_p)
{
    const double begin = now_ms();
    gdncp_status_t status = run(c);

    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(c->device, c->stream);
    }
    *ms_p = now_ms() - begin;
    return status;
}

/* On a GPU: events around the run, and memory that is cleared before it. */
typedef struct event_timer {
    const gdncp_backend_t *backend;
    gdncp_event_t begin;
    gdncp_event_t end;
    void *flush;
} event_timer_t;

static gdncp_status_t make_timer(event_timer_t *timer)
{
    gdncp_status_t status = gdncp_backend_find(&timer->backend);

    if (status == GDNCP_OK) {
        status = timer->backend->event_create(&timer->begin);
    }
    if (status == GDNCP_OK) {
        status = timer->backend->event_create(&timer->end);
    }
    if (status == GDNCP_OK) {
        status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, FLUSH_BYTES, &timer->flush);
    }
    return status;
}

static void destroy_timer(event_timer_t *timer)
{
    gdncp_device_free(GDNCP_DEVICE_CUDA, timer->flush);
    if (timer->end != NULL) {
        timer->backend->event_destroy(timer->end);
    }
    if (timer->begin != NULL) {
        timer->backend->event_destroy(timer->begin);
    }
}

static gdncp_status_t time_by_events(bench_case_t *c, bench_run_t run, const event_timer_t *timer,
                                     double *ms_p)
{
    float ms = 0.0f;
    gdncp_status_t status = gdncp_device_clear(c->device, timer->flush, FLUSH_BYTES, c->stream);

    if (status == GDNCP_OK) {
        status = timer->backend->event_record(timer->begin, c->stream);
    }
    if (status == GDNCP_OK) {
        status = run(c);
    }
    if (status == GDNCP_OK) {
        status = timer->backend->event_record(timer->end, c->stream);
    }
    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(c->device, c->stream);
    }
    if (status == GDNCP_OK) {
        status = timer->backend->event_elapsed(timer->begin, timer->end, &ms);
    }
    *ms_p = (double)ms;
    return status;
}

void bench_time(bench_case_t *c, bench_run_t run, int warm_up, int iterations, bool emulated,
                bench_times_t *times)
{
    const bool by_events = c->device != GDNCP_DEVICE_CPU && !emulated;
    double *const ms = bench_alloc(c, iterations, (int64_t)sizeof *ms);
    event_timer_t timer = {0};

    if (c->status == GDNCP_OK && by_events) {
        c->status = make_timer(&timer);
    }
    for (int i = -warm_up; i < iterations && c->status == GDNCP_OK; i++) {
        double *const place = i < 0 ? &ms[0] : &ms[i];

        c->status =
            by_events ? time_by_events(c, run, &timer, place) : time_by_clock(c, run, place);
    }
    if (by_events) {
        destroy_timer(&timer);
    }
    if (c->status == GDNCP_OK) {
        *times = bench_times_of(ms, iterations);
    }
}

/* ---------------------------------------------------------------- peaks */

typedef struct copy_op {
    gdncp_tensor_t from;
    gdncp_tensor_t to;
} copy_op_t;

static void setup_copy(bench_case_t *c)
{
    copy_op_t *const op = bench_make_op(c, sizeof *op);
    const int64_t bytes = c->shape.tokens;

    if (op != NULL) {
        op->from = bench_input(c, BENCH_NORMAL, GDNCP_F32, 1, &(int64_t){bytes / 4});
        op->to = bench_output(c, "to", 0.0, GDNCP_F32, 1, &(int64_t){bytes / 4});
    }
}

/* On the CPU by as many threads as operators use. */
static gdncp_status_t run_copy(bench_case_t *c)
{
    const copy_op_t *const op = c->op;
    const int64_t bytes = c->shape.tokens;
    char *const to = op->to.data;
    const char *const from = op->from.data;
    const int64_t piece = (int64_t)1 << 20;

    if (c->device != GDNCP_DEVICE_CPU) {
        return gdncp_device_copy(c->device, to, from, (size_t)bytes, c->stream);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < bytes; i += piece) {
        memcpy(to + i, from + i, (size_t)(bytes - i < piece ? bytes - i : piece));
    }
    return GDNCP_OK;
}

typedef struct product_op {
    gdncp_tensor_t x;
    gdncp_tensor_t weight;
    gdncp_tensor_t y;
} product_op_t;

static void setup_product(bench_case_t *c)
{
    product_op_t *const op = bench_make_op(c, sizeof *op);
    const int64_t square[2] = {c->shape.tokens, c->shape.tokens};

    if (op != NULL) {
        op->x = bench_input(c, BENCH_NORMAL, c->dtype, 2, square);
        op->weight = bench_input(c, BENCH_NORMAL, c->dtype, 2, square);
        op->y = bench_output(c, "y", 0.0, c->dtype, 2, square);
    }
}

static gdncp_status_t run_product(bench_case_t *c)
{
    const product_op_t *const op = c->op;

    return gdncp_linear_forward(&op->x, &op->weight, &op->y, c->workspace);
}

/* The best of some runs: what the machine can do. */
static gdncp_status_t time_peak(const bench_benchmark_t *benchmark, int64_t size,
                                gdncp_device_kind_t device, gdncp_dtype_t dtype, double *ms_p)
{
    const bench_shape_t shape = {.tokens = size};
    bench_times_t times = {0};
    bench_case_t c;

    (void)bench_case_start(benchmark, &shape, dtype, device, &c);
    bench_time(&c, c.benchmark->run, PEAK_WARM_UP, PEAK_RUNS, false, &times);
    bench_case_end(&c);
    *ms_p = times.min;
    return c.status;
}

gdncp_status_t bench_measure_peaks(gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                   bench_peaks_t *peaks)
{
    static const bench_benchmark_t copy = {.name = "copy", .setup = setup_copy, .run = run_copy};
    static const bench_benchmark_t product = {
        .name = "product", .setup = setup_product, .run = run_product};
    const bool on_gpu = device != GDNCP_DEVICE_CPU;
    gdncp_status_t status = GDNCP_OK;
    double ms = 0.0;

    if (peaks->gbs == 0.0) {
        const int64_t bytes = on_gpu ? COPY_BYTES_GPU : COPY_BYTES;

        status = time_peak(&copy, bytes, device, GDNCP_F32, &ms);
        peaks->gbs = 2e-6 * (double)bytes / ms;
    }
    if (status == GDNCP_OK && peaks->tflops == 0.0) {
        const double size = on_gpu ? 8192.0 : 1536.0;

        status = time_peak(&product, (int64_t)size, device, dtype, &ms);
        peaks->tflops = 2e-9 * size * size * size / ms;
    }
    return status;
}
