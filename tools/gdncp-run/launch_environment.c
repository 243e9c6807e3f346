/* Ranks that mpirun, torchrun or the like has started. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cores.h"
#include "device.h"
#include "launch.h"
#include "summary.h"

#define FIELD_BYTES 64

/* What must be the same on all ranks. */
static const char *const field_names[] = {
    "--layout", "--strategy",   "--dtype",     "--rule-dtype", "--device",
    "--tokens", "--iterations", "--transport", "--trace",      "FILE's content",
};

enum { NUM_FIELDS = sizeof field_names / sizeof field_names[0] };

/* What the ranks tell each other before anything else. */
typedef struct greeting {
    int32_t status;
    char sentence[512];
    char fields[NUM_FIELDS][FIELD_BYTES];
} greeting_t;

static void fill_fields(const run_setup_t *setup, char (*fields)[FIELD_BYTES])
{
    const run_options_t *const options = setup->options;
    int f = 0;

    snprintf(fields[f++], FIELD_BYTES, "%s", gdncp_layout_kind_name(options->layout));
    for (int s = 0; s < options->num_strategies; s++) {
        const size_t used = strlen(fields[f]);

        snprintf(fields[f] + used, FIELD_BYTES - used, "%s%s", s > 0 ? "," : "",
                 gdncp_strategy_name(options->strategies[s]));
    }
    f++;
    snprintf(fields[f++], FIELD_BYTES, "%s", gdncp_dtype_name(options->dtype));
    snprintf(fields[f++], FIELD_BYTES, "%s", gdncp_dtype_name(options->rule_dtype));
    snprintf(fields[f++], FIELD_BYTES, "%s", run_device_name(options->device));
    snprintf(fields[f++], FIELD_BYTES, "%" PRId64, options->tokens);
    snprintf(fields[f++], FIELD_BYTES, "%d", options->iterations);
    snprintf(fields[f++], FIELD_BYTES, "%s", gdncp_transport_name(options->transport));
    snprintf(fields[f++], FIELD_BYTES, "%s", options->trace != NULL ? "given" : "not given");
    snprintf(fields[f++], FIELD_BYTES, "hash %016" PRIx64, run_problem_hash(setup->problem));
}

/* The same verdict on every rank: an error of the lowest rank that has one, or else the first field
 * in which a rank differs from rank 0. all [ranks] */
static gdncp_status_t judge(const greeting_t *all, int rank, int ranks)
{
    for (int r = 0; r < ranks; r++) {
        if (all[r].status != GDNCP_OK && all[rank].status == GDNCP_OK) {
            return run_fail((gdncp_status_t)all[r].status, "rank %d: %s", r, all[r].sentence);
        }
    }
    if (all[rank].status != GDNCP_OK) {
        return run_fail((gdncp_status_t)all[rank].status, "%s", all[rank].sentence);
    }
    for (int f = 0; f < NUM_FIELDS; f++) {
        for (int r = 1; r < ranks; r++) {
            if (strcmp(all[r].fields[f], all[0].fields[f]) != 0) {
                return run_fail(GDNCP_ERR_MISMATCH,
                                "%s: expected the same on all ranks, got %s on rank 0 and %s on "
                                "rank %d",
                                field_names[f], all[0].fields[f], all[r].fields[f], r);
            }
        }
    }
    return GDNCP_OK;
}

/* Collective. status: of what this rank has done so far, with its sentence. */
static gdncp_status_t greet(const run_setup_t *setup, gdncp_comm_t *comm, gdncp_status_t status)
{
    greeting_t mine = {.status = (int32_t)status};
    greeting_t *const all = run_alloc((size_t)setup->ranks, sizeof *all, "greetings");

    if (all == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    if (status == GDNCP_OK) {
        fill_fields(setup, mine.fields);
    } else {
        snprintf(mine.sentence, sizeof mine.sentence, "%s", run_last_error());
    }
    status = gdncp_comm_all_gather(comm, &mine, all, sizeof mine);
    if (status == GDNCP_OK) {
        status = judge(all, gdncp_comm_rank(comm), setup->ranks);
    }
    free(all);
    return status;
}

static int fail(const run_setup_t *setup, int rank, gdncp_status_t status, const char *sentence)
{
    run_print_error(rank, status, sentence);
    if (setup->options->json && rank == 0) {
        run_report_json_failure(setup->options, setup->ranks, sentence, stdout);
    }
    return 1;
}

int run_launch_environment(const run_setup_t *setup, int rank, gdncp_status_t status)
{
    run_rank_t self = {.setup = setup};
    run_outcome_t outcome = {.status = GDNCP_OK};
    char *report = NULL;
    size_t length = 0;

    /* Also with an error: the other ranks wait here, and get to know it. */
    const gdncp_status_t joined = gdncp_comm_create_from_environment(NULL, &self.comm);
    if (joined != GDNCP_OK) {
        return fail(setup, rank, status != GDNCP_OK ? status : joined, run_last_error());
    }
    status = greet(setup, self.comm, status);
    if (status == GDNCP_OK) {
        status = run_bind_launched(self.comm);
    }
    if (status != GDNCP_OK) {
        gdncp_comm_destroy(self.comm);
        return fail(setup, rank, status, run_last_error());
    }
    self.report = open_memstream(&report, &length);
    if (self.report == NULL) {
        gdncp_comm_destroy(self.comm);
        return fail(setup, rank, GDNCP_ERR_OUT_OF_MEMORY, "out of memory: the report");
    }
    run_launch_rank(&self, &outcome);
    fclose(self.report);
    if (outcome.status == GDNCP_OK) {
        fwrite(report, 1, length, stdout);
    }
    free(report);
    if (outcome.status != GDNCP_OK) {
        return fail(setup, rank, outcome.status, outcome.sentence);
    }
    return rank == 0 && !outcome.ok ? 1 : 0;
}
