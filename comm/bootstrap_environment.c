/* Rank, size and meeting place from what launchers put into the environment. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "comm_internal.h"
#include "environment.h"
#include "error.h"
#include "rendezvous.h"

/* One launcher's names; NULL: it has none. */
typedef struct launcher {
    const char *rank;
    const char *size;
    const char *local_size; /* ranks on this machine */
    const char *job[2];     /* what tells one of its jobs from another */
} launcher_t;

static const launcher_t launchers[] = {
    {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", {"TORCHELASTIC_RUN_ID", NULL}},
    {"OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     {"OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE"}},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", {"PMI_JOBID", NULL}},
    {"SLURM_PROCID", "SLURM_NTASKS", NULL, {"SLURM_JOB_ID", "SLURM_STEP_ID"}},
};

static gdncp_status_t read_integer(const char *name, int64_t minimum, int64_t maximum, int *value_p)
{
    const char *const text = gdncp_launcher_variable(name);
    char *end = NULL;

    errno = 0;
    const long long value = text != NULL ? strtoll(text, &end, 10) : 0;
    if (text == NULL || end == text || *end != '\0' || errno == ERANGE || value < minimum ||
        value > maximum) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected an integer in %lld..%lld, got \"%s\"", name,
                          (long long)minimum, (long long)maximum, text != NULL ? text : "");
    }
    *value_p = (int)value;
    return GDNCP_OK;
}

/* The first launcher of which there is a trace; NULL where there is none. */
static const launcher_t *find_launcher(void)
{
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        if (gdncp_launcher_variable(launchers[i].rank) != NULL ||
            gdncp_launcher_variable(launchers[i].size) != NULL) {
            return &launchers[i];
        }
    }
    return NULL;
}

static gdncp_status_t read_rank(const launcher_t *launcher, int *rank_p, int *size_p)
{
    int rank = 0;
    int size = 1;

    if (launcher != NULL) {
        gdncp_status_t status = read_integer(launcher->size, 1, INT_MAX, &size);
        if (status == GDNCP_OK) {
            status = read_integer(launcher->rank, 0, (int64_t)size - 1, &rank);
        }
        if (status != GDNCP_OK) {
            return status;
        }
    }
    *rank_p = rank;
    *size_p = size;
    return GDNCP_OK;
}

gdncp_status_t gdncp_environment_rank(int *rank_p, int *size_p)
{
    return read_rank(find_launcher(), rank_p, size_p);
}

/* FNV-1a, with the final NUL so that "a", "b" and "ab", "" differ. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    const char *byte = text != NULL ? text : "";

    do {
        hash = (hash ^ (unsigned char)*byte) * 0x100000001b3u;
    } while (*byte++ != '\0');
    return hash;
}

static uint64_t hash_job(const launcher_t *launcher, const char *master_port)
{
    uint64_t hash = hash_text(0xcbf29ce484222325u, master_port);

    for (size_t i = 0; i < sizeof launcher->job / sizeof launcher->job[0]; i++) {
        hash = hash_text(hash, launcher->job[i] != NULL ? gdncp_launcher_variable(launcher->job[i])
                                                        : NULL);
    }
    return hash;
}

int gdncp_rendezvous_port(uint64_t job, int master_port)
{
    const int port = 10000 + (int)(job % (20000 - 2 * GDNCP_RENDEZVOUS_PORTS));
    const bool has_master = master_port >= port && master_port < port + GDNCP_RENDEZVOUS_PORTS;

    return has_master ? port + GDNCP_RENDEZVOUS_PORTS : port;
}

/* Without an address the ranks can only meet on one machine. */
static gdncp_status_t check_one_machine(const launcher_t *launcher, int size)
{
    int local_size = size;

    if (launcher->local_size != NULL && gdncp_launcher_variable(launcher->local_size) != NULL) {
        const gdncp_status_t status = read_integer(launcher->local_size, 1, size, &local_size);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    if (local_size < size) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "MASTER_ADDR: expected the address of rank 0's machine, as only %d of %d "
                          "ranks are on this one, got nothing",
                          local_size, size);
    }
    return GDNCP_OK;
}

static gdncp_status_t find_place(const launcher_t *launcher, int size, gdncp_rendezvous_t *place)
{
    const char *const master_port_text = gdncp_launcher_variable("MASTER_PORT");
    int64_t port = 0;
    int master_port = 0;
    gdncp_status_t status = GDNCP_OK;

    place->address = gdncp_launcher_variable("MASTER_ADDR");
    if (place->address == NULL) {
        place->address = "127.0.0.1";
        status = check_one_machine(launcher, size);
    }
    if (status == GDNCP_OK && master_port_text != NULL) {
        status = read_integer("MASTER_PORT", 1, 65535, &master_port);
    }
    if (status == GDNCP_OK) {
        status = gdncp_environment_integer(GDNCP_VARIABLE_PORT, 1, 65535, 0, &port);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (port != 0 && port == master_port) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "GDNCP_PORT: expected another port than MASTER_PORT, got %d for both",
                          master_port);
    }
    place->job = hash_job(launcher, master_port_text);
    place->first_port = port != 0 ? (int)port : gdncp_rendezvous_port(place->job, master_port);
    place->num_ports = port != 0 ? 1 : GDNCP_RENDEZVOUS_PORTS;
    return GDNCP_OK;
}

static gdncp_status_t meet(const launcher_t *launcher, int rank, int size,
                           const gdncp_comm_options_t *options, gdncp_comm_t **comm_p)
{
    gdncp_rendezvous_t place = {0};
    gdncp_star_t star = {0};
    int64_t timeout_ms = 0;

    gdncp_status_t status = find_place(launcher, size, &place);
    if (status == GDNCP_OK) {
        status = gdncp_comm_timeout(options, &timeout_ms);
    }
    if (status == GDNCP_OK) {
        status = gdncp_star_init(&star, rank, size, timeout_ms);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_rendezvous(&place, &star);
    if (status == GDNCP_OK) {
        const gdncp_bootstrap_t bootstrap = {
            .rank = rank, .size = size, .all_gather = gdncp_star_all_gather, .context = &star};

        status = gdncp_comm_create(&bootstrap, options, comm_p);
    }
    gdncp_star_close(&star);
    return status;
}

static gdncp_status_t create_alone(const gdncp_comm_options_t *options, gdncp_comm_t **comm_p)
{
    int64_t timeout_ms = 0;

    gdncp_status_t status = gdncp_comm_timeout(options, &timeout_ms);
    if (status == GDNCP_OK) {
        status = gdncp_comm_create_self(comm_p);
    }
    if (status == GDNCP_OK) {
        (*comm_p)->timeout_ms = timeout_ms;
    }
    return status;
}

gdncp_status_t gdncp_comm_create_from_environment(const gdncp_comm_options_t *options,
                                                  gdncp_comm_t **comm_p)
{
    const launcher_t *const launcher = find_launcher();
    int rank = 0;
    int size = 1;

    const gdncp_status_t status = read_rank(launcher, &rank, &size);
    if (status != GDNCP_OK) {
        return status;
    }
    return size == 1 ? create_alone(options, comm_p) : meet(launcher, rank, size, options, comm_p);
}
