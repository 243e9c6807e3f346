#include "comm_run.h"

#include <time.h>

#include "error.h"
#include "gdncp/memory.h"
#include "report.h"

enum { FLOOR_RUNS = 7 };

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

/* The largest of all ranks' numbers, one by one. numbers [count] */
static void take_largest(comm_case_t *c, double *numbers, int count)
{
    double *const all = comm_alloc(c, (int64_t)c->size * count, (int64_t)sizeof *all);

    comm_keep(c, gdncp_comm_agree(c->comm, c->status));
    if (c->status == GDNCP_OK) {
        comm_keep(c, gdncp_comm_all_gather(c->comm, numbers, all, (size_t)count * sizeof *numbers));
    }
    for (int i = 0; i < c->size * count && c->status == GDNCP_OK; i++) {
        if (all[i] > numbers[i % count]) {
            numbers[i % count] = all[i];
        }
    }
    gdncp_memory_free(all);
}

/* A run is as long as it takes the slowest rank, from a barrier on. ms [iterations] */
static void time_runs(comm_case_t *c, gdncp_status_t (*run)(comm_case_t *c), int warm_up,
                      int iterations, bench_times_t *times)
{
    double *const ms = comm_alloc(c, iterations, (int64_t)sizeof *ms);

    comm_keep(c, gdncp_comm_agree(c->comm, c->status));
    for (int i = -warm_up; i < iterations && c->status == GDNCP_OK; i++) {
        c->status = gdncp_comm_barrier(c->comm);
        const double begin = now_ms();

        if (c->status == GDNCP_OK) {
            c->status = run(c);
        }
        ms[i < 0 ? 0 : i] = now_ms() - begin;
    }
    if (c->status == GDNCP_OK) {
        take_largest(c, ms, iterations);
    }
    if (c->status == GDNCP_OK) {
        *times = bench_times_of(ms, iterations);
    }
    gdncp_memory_free(ms);
}

/* Reading and writing as many bytes as the benchmark must at least: the faster of two ways to copy,
 * at its best. */
static void measure_floor(const comm_case_t *benchmark, double *floor_ms_p)
{
    comm_case_t c = {.comm = benchmark->comm,
                     .rank = benchmark->rank,
                     .size = benchmark->size,
                     .status = benchmark->status,
                     .in_bytes = benchmark->least_bytes / 2};
    bench_times_t memcpy_times = {0};
    bench_times_t copy_times = {0};

    c.in = comm_alloc(&c, c.in_bytes, 1);
    c.out = comm_alloc(&c, c.in_bytes, 1);
    time_runs(&c, comm_run_memcpy, 1, FLOOR_RUNS, &memcpy_times);
    time_runs(&c, comm_run_copy, 1, FLOOR_RUNS, &copy_times);
    gdncp_memory_free(c.in);
    gdncp_memory_free(c.out);
    *floor_ms_p = memcpy_times.min < copy_times.min ? memcpy_times.min : copy_times.min;
}

/* Wrong elements on all ranks, after one run. */
static void check(comm_case_t *c, int64_t *wrong_p)
{
    int64_t wrong = 0;
    int64_t *const all = comm_alloc(c, c->size, (int64_t)sizeof *all);

    comm_poison(c);
    comm_keep(c, gdncp_comm_agree(c->comm, c->status));
    if (c->status == GDNCP_OK) {
        comm_keep(c, c->benchmark->run(c));
    }
    if (c->status == GDNCP_OK) {
        wrong = c->benchmark->check(c);
    }
    comm_keep(c, gdncp_comm_agree(c->comm, c->status));
    if (c->status == GDNCP_OK) {
        comm_keep(c, gdncp_comm_all_gather(c->comm, &wrong, all, sizeof wrong));
    }
    *wrong_p = 0;
    for (int rank = 0; rank < c->size && c->status == GDNCP_OK; rank++) {
        *wrong_p += all[rank];
    }
    gdncp_memory_free(all);
}

gdncp_status_t comm_run_one(const comm_options_t *options, gdncp_comm_t *comm,
                            comm_result_t *result)
{
    comm_case_t c;

    comm_case_start(&c, result->benchmark, comm, &result->shape);
    result->wrong = -1;
    comm_keep(&c, gdncp_comm_agree(comm, c.status));
    if (options->check && c.status == GDNCP_OK) {
        check(&c, &result->wrong);
    }
    if (c.status == GDNCP_OK) {
        measure_floor(&c, &result->floor_ms);
        time_runs(&c, result->benchmark->run, options->warm_up, options->iterations,
                  &result->times);
    }
    const double moves = result->benchmark->moves_a_run;
    double sizes[] = {(double)(c.in_bytes > c.out_bytes ? c.in_bytes : c.out_bytes),
                      (double)c.sent_bytes};

    take_largest(&c, sizes, 2);
    result->bytes = (int64_t)sizes[0];
    result->sent_bytes = (int64_t)sizes[1];
    result->times.min /= moves;
    result->times.median /= moves;
    result->times.p99 /= moves;
    comm_case_end(&c);
    return c.status;
}

/* All sizes of one benchmark. */
static gdncp_status_t sweep(const comm_program_t *program, gdncp_comm_t *comm,
                            comm_result_t *result, json_t *json, int64_t *wrong_p)
{
    const comm_options_t *const options = &program->options;
    const int ranks = gdncp_comm_size(comm);
    int64_t last_tokens = 0;

    for (int64_t bytes = options->min_bytes; bytes <= options->max_bytes;
         bytes *= options->factor) {
        result->shape.tokens = comm_tokens_for(options, result->shape.dtype, ranks, bytes);
        if (result->shape.tokens == last_tokens) {
            continue; /* too small for another size */
        }
        last_tokens = result->shape.tokens;
        const gdncp_status_t status = comm_run_one(options, comm, result);

        if (status != GDNCP_OK) {
            return status;
        }
        *wrong_p += result->wrong > 0 ? result->wrong : 0;
        if (gdncp_comm_rank(comm) == 0) {
            comm_print_result(result);
            comm_json_add(json, result);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t run_benchmarks(const comm_program_t *program, gdncp_comm_t *comm,
                                     json_t *json, int64_t *wrong_p)
{
    const comm_options_t *const options = &program->options;
    gdncp_status_t status = GDNCP_OK;

    for (int d = 0; d < options->num_dtypes; d++) {
        for (int i = 0; comm_registry[i] != NULL && status == GDNCP_OK; i++) {
            const comm_benchmark_t *const benchmark = comm_registry[i];
            comm_result_t result = {
                .benchmark = benchmark,
                .shape = {.channels = options->channels,
                          .dtype = benchmark->is_f32 ? GDNCP_F32 : options->dtypes[d]},
            };

            if (comm_is_wanted(options, benchmark) && (d == 0 || !benchmark->is_f32) &&
                gdncp_comm_size(comm) >= benchmark->least_ranks) {
                status = sweep(program, comm, &result, json, wrong_p);
            }
        }
    }
    return status;
}

gdncp_status_t comm_run_all(const comm_program_t *program, gdncp_comm_t *comm, int num_cores,
                            int64_t *wrong_p)
{
    const bool is_root = gdncp_comm_rank(comm) == 0;
    comm_place_t place = {.ranks = gdncp_comm_size(comm),
                          .cores = num_cores,
                          .transport = gdncp_transport_name(gdncp_comm_transport(comm))};
    gdncp_status_t status = gdncp_comm_describe_lanes(comm, is_root && place.ranks > 1 ? 1 : 0,
                                                      place.lanes, sizeof place.lanes);

    *wrong_p = 0;
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        return status;
    }
    json_t *const json = is_root ? comm_json_start(&place, program->argc, program->argv) : NULL;

    if (is_root) {
        comm_print_head(&program->options, &place);
    }
    status = run_benchmarks(program, comm, json, wrong_p);
    /* The other ranks are at their end, and leave the cores free. */
    if (is_root && status == GDNCP_OK && program->options.raw != NULL) {
        status = comm_report_raw(json, program->options.raw);
    }
    /* What was measured before a failure is kept. */
    if (is_root && program->options.json != NULL) {
        const gdncp_status_t written = bench_json_write(json, program->options.json);

        status = status == GDNCP_OK ? written : status;
    }
    json_decref(json);
    return status;
}
