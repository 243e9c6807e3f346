#include "run.h"

/* Outputs that differ from the reference on a small shape. */
static gdncp_status_t check(const bench_options_t *options, bench_result_t *result)
{
    const bench_shape_t small = bench_shape_to_check(&result->shape);
    bench_case_t c;

    if (bench_case_start(result->benchmark, &small, result->dtype, options->device, &c) ==
        GDNCP_OK) {
        result->benchmark->check(&c);
    }
    result->wrong = c.wrong;
    result->worst = c.worst;
    bench_case_end(&c);
    return c.status;
}

static gdncp_status_t measure(const bench_options_t *options, bench_result_t *result)
{
    bench_case_t c;

    (void)bench_case_start(result->benchmark, &result->shape, result->dtype, options->device, &c);
    if (result->benchmark->forward != NULL) {
        bench_time(&c, result->benchmark->forward, options->warm_up, options->iterations,
                   options->emulated, &result->forward);
    }
    bench_time(&c, result->benchmark->run, options->warm_up, options->iterations, options->emulated,
               &result->times);
    /* What a small shape cannot show: whether all of a large output is written. */
    if (options->check) {
        result->wrong += bench_count_not_finite(&c);
    }
    result->bytes = c.bytes;
    result->flop = result->benchmark->flop(&result->shape);
    bench_case_end(&c);
    return c.status;
}

gdncp_status_t bench_run_one(const bench_options_t *options, bench_result_t *result)
{
    gdncp_status_t status = GDNCP_OK;

    result->wrong = -1;
    if (options->check) {
        status = check(options, result);
    }
    return status == GDNCP_OK ? measure(options, result) : status;
}
