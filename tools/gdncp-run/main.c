/* gdncp-run: run a dump across ranks and compare. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "launch.h"
#include "summary.h"

/* What needs no other rank: the dump, and whether the layout can hold it. */
static gdncp_status_t prepare(const run_options_t *options, int ranks, run_problem_t *problem)
{
    gdncp_layout_t *layout = NULL;
    gdncp_status_t status = run_problem_load(options->file, problem);

    if (status != GDNCP_OK) {
        return status;
    }
    if (options->tokens > 0) {
        status = run_problem_set_tokens(problem, options->tokens);
    }
    if (status == GDNCP_OK && options->dtype != GDNCP_F32) {
        status = run_problem_round(problem);
    }
    if (status == GDNCP_OK) {
        status = run_problem_layout(problem, options->layout, ranks, &layout);
    }
    gdncp_layout_destroy(layout);
    return status;
}

static gdncp_status_t open_trace(const char *path, FILE **stream_p)
{
    FILE *const stream = fopen(path, "w");

    if (stream == NULL) {
        return run_fail(GDNCP_ERR_IO, "--trace: '%s' could not be opened: %s", path,
                        strerror(errno));
    }
    *stream_p = stream;
    return GDNCP_OK;
}

static gdncp_status_t check_launcher(const run_options_t *options, int size)
{
    if (options->ranks != 0 && options->ranks != size) {
        return run_fail(GDNCP_ERR_INVALID_ARGUMENT,
                        "--ranks: expected none, or the launcher's %d, got %d", size,
                        options->ranks);
    }
    if (size > RUN_MAX_RANKS) {
        return run_fail(GDNCP_ERR_INVALID_ARGUMENT,
                        "the launcher's ranks: expected at most %d, got %d", RUN_MAX_RANKS, size);
    }
    if (options->transport == GDNCP_TRANSPORT_THREADS) {
        return run_fail(GDNCP_ERR_INVALID_ARGUMENT,
                        "--transport: expected ucx or nccl under a launcher, got %s",
                        gdncp_transport_name(options->transport));
    }
    return GDNCP_OK;
}

static int run(const run_options_t *options, gdncp_status_t status)
{
    run_problem_t problem = {0};
    run_setup_t setup = {.options = options, .problem = &problem};
    int rank = 0;
    int size = 1;
    int exit_status = 1;

    const gdncp_status_t environment = gdncp_environment_rank(&rank, &size);
    status = status == GDNCP_OK ? environment : status;
    const bool launched = environment == GDNCP_OK && size > 1;
    setup.ranks = launched ? size : options->ranks > 0 ? options->ranks : RUN_DEFAULT_RANKS;
    if (status == GDNCP_OK && launched) {
        status = check_launcher(options, size);
    }
    if (status == GDNCP_OK) {
        status = prepare(options, setup.ranks, &problem);
    }
    if (status == GDNCP_OK && options->trace != NULL && rank == 0) {
        status = open_trace(options->trace, &setup.trace);
    }
    if (launched) {
        exit_status = run_launch_environment(&setup, rank, status);
    } else if (status != GDNCP_OK) {
        run_print_error(-1, status, run_last_error());
        if (options->json) {
            run_report_json_failure(options, setup.ranks, run_last_error(), stdout);
        }
    } else if (options->transport == GDNCP_TRANSPORT_THREADS) {
        exit_status = run_launch_threads(&setup);
    } else {
        exit_status = run_launch_processes(&setup);
    }
    if (setup.trace != NULL) {
        fclose(setup.trace);
    }
    run_problem_release(&problem);
    return exit_status;
}

int main(int argc, char **argv)
{
    run_options_t options;
    gdncp_status_t status = run_options_parse(argc, argv, &options);

    if (status == GDNCP_OK && options.request == RUN_HELP) {
        fputs(run_options_help(), stdout);
        return 0;
    }
    if (status == GDNCP_OK && options.request == RUN_VERSION) {
        printf("gdncp-run %s\n", gdncp_version());
        return 0;
    }
    if (status != GDNCP_OK) {
        status = run_fail(status, "%s; see gdncp-run --help", run_last_error());
    }
    run_device_select(options.device);
    return run(&options, status);
}
