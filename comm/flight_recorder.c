#include "flight_recorder.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "comm_internal.h"
#include "deadline.h"
#include "environment.h"
#include "error.h"
#include "gdncp/memory.h"
#include "log.h"

typedef struct flight_entry {
    int64_t sequence;
    int64_t begin_ns;
    int64_t end_ns; /* 0: not ended */
    int64_t bytes_sent;
    int64_t bytes_received;
    gdncp_status_t status; /* once ended */
    char name[48];
    char text[160];
} flight_entry_t;

struct gdncp_flight_recorder {
    int64_t number;
    int64_t num_entries; /* so far, of which the last GDNCP_FLIGHT_ENTRIES are kept */
    unsigned num_asked;  /* signals that were seen */
    char *path;          /* NULL: not asked for */
    flight_entry_t entries[GDNCP_FLIGHT_ENTRIES];
};

static atomic_uint num_signals;
static struct sigaction earlier_action;

/* Safe in a signal handler: the next poll of a communicator does the rest. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    const int error = errno;

    atomic_fetch_add_explicit(&num_signals, 1, memory_order_relaxed);
    if ((earlier_action.sa_flags & SA_SIGINFO) != 0) {
        earlier_action.sa_sigaction(number, info, context);
    } else if (earlier_action.sa_handler != SIG_DFL && earlier_action.sa_handler != SIG_IGN) {
        earlier_action.sa_handler(number);
    }
    errno = error;
}

static void install_handler(void)
{
    static atomic_flag is_installed = ATOMIC_FLAG_INIT;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

    if (!atomic_flag_test_and_set(&is_installed)) {
        sigemptyset(&action.sa_mask);
        /* Before the handler can run, which reads it. */
        sigaction(SIGUSR1, NULL, &earlier_action);
        sigaction(SIGUSR1, &action, NULL);
    }
}

int64_t gdncp_flight_next_number(void)
{
    static _Atomic int64_t next;

    return atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
}

static gdncp_status_t make_path(gdncp_flight_recorder_t *recorder, int rank)
{
    const char *const prefix = gdncp_environment_text(GDNCP_VARIABLE_FLIGHT_RECORD);

    if (prefix == NULL) {
        return GDNCP_OK;
    }
    const size_t size = strlen(prefix) + 64;

    recorder->path = gdncp_memory_alloc(size);
    if (recorder->path == NULL) {
        return gdncp_fail_memory("the name of a flight record");
    }
    if (recorder->number == 0) {
        snprintf(recorder->path, size, "%s.%d.json", prefix, rank);
    } else {
        snprintf(recorder->path, size, "%s.%d.%" PRId64 ".json", prefix, rank, recorder->number);
    }
    install_handler();
    return GDNCP_OK;
}

gdncp_status_t gdncp_flight_create(int rank, int64_t number, gdncp_flight_recorder_t **recorder_p)
{
    gdncp_flight_recorder_t *const recorder = gdncp_memory_alloc(sizeof *recorder);

    if (recorder == NULL) {
        return gdncp_fail_memory("a flight recorder");
    }
    recorder->number = number;
    recorder->num_entries = 0;
    recorder->num_asked = atomic_load_explicit(&num_signals, memory_order_relaxed);
    recorder->path = NULL;
    const gdncp_status_t status = make_path(recorder, rank);

    if (status != GDNCP_OK) {
        gdncp_memory_free(recorder);
        return status;
    }
    *recorder_p = recorder;
    return GDNCP_OK;
}

void gdncp_flight_destroy(gdncp_flight_recorder_t *recorder)
{
    gdncp_memory_free(recorder->path);
    gdncp_memory_free(recorder);
}

static flight_entry_t *entry_of(gdncp_flight_recorder_t *recorder, int64_t sequence)
{
    return &recorder->entries[sequence % GDNCP_FLIGHT_ENTRIES];
}

static void copy_text(char *to, const char *from, size_t size)
{
    if (memccpy(to, from, '\0', size) == NULL) {
        to[size - 1] = '\0';
    }
}

int64_t gdncp_flight_begin(gdncp_comm_t *comm, const char *name, const char *text,
                           int64_t bytes_sent, int64_t bytes_received, int64_t begin_ns)
{
    gdncp_flight_recorder_t *const recorder = comm->recorder;
    const int64_t sequence = recorder->num_entries;
    flight_entry_t *const entry = entry_of(recorder, sequence);

    entry->sequence = sequence;
    entry->begin_ns = begin_ns != 0 ? begin_ns : gdncp_now_ns();
    entry->end_ns = 0;
    entry->bytes_sent = bytes_sent;
    entry->bytes_received = bytes_received;
    entry->status = GDNCP_OK;
    copy_text(entry->name, name, sizeof entry->name);
    copy_text(entry->text, text, sizeof entry->text);
    recorder->num_entries = sequence + 1;
    return sequence;
}

static void write_string(FILE *stream, const char *text)
{
    fputc('"', stream);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            fprintf(stream, "\\%c", *c);
        } else if (*c < 0x20) {
            fprintf(stream, "\\u%04x", *c);
        } else {
            fputc(*c, stream);
        }
    }
    fputc('"', stream);
}

static void write_entry(FILE *stream, const flight_entry_t *entry)
{
    fprintf(stream, "{\"sequence\": %" PRId64 ", \"name\": ", entry->sequence);
    write_string(stream, entry->name);
    fprintf(stream, ", \"text\": ");
    write_string(stream, entry->text);
    fprintf(stream,
            ", \"bytes_sent\": %" PRId64 ", \"bytes_received\": %" PRId64
            ", \"begin_ns\": %" PRId64,
            entry->bytes_sent, entry->bytes_received, entry->begin_ns);
    if (entry->end_ns == 0) {
        fprintf(stream, ", \"end_ns\": null, \"status\": null}");
    } else {
        fprintf(stream, ", \"end_ns\": %" PRId64 ", \"status\": \"%s\"}", entry->end_ns,
                gdncp_status_string(entry->status));
    }
}

/* Whether the stream took it. */
static bool write_record(const gdncp_comm_t *comm, FILE *stream)
{
    gdncp_flight_recorder_t *const recorder = comm->recorder;
    const int64_t count = recorder->num_entries;

    fprintf(stream,
            "{\"gdncp_flight_record\": 1, \"rank\": %d, \"size\": %d, \"transport\": \"%s\", "
            "\"number\": %" PRId64 ", \"now_ns\": %" PRId64 ", \"first_failure\": ",
            comm->rank, comm->size, gdncp_transport_name(gdncp_comm_transport(comm)),
            recorder->number, gdncp_now_ns());
    write_string(stream, gdncp_transport_cause(comm->transport));
    fprintf(stream, ", \"operations\": [");
    for (int64_t i = count > GDNCP_FLIGHT_ENTRIES ? count - GDNCP_FLIGHT_ENTRIES : 0; i < count;
         i++) {
        fprintf(stream, i == 0 || i == count - GDNCP_FLIGHT_ENTRIES ? "\n" : ",\n");
        write_entry(stream, entry_of(recorder, i));
    }
    fprintf(stream, "\n]}\n");
    return fflush(stream) == 0 && ferror(stream) == 0;
}

gdncp_status_t gdncp_comm_write_flight_record(const gdncp_comm_t *comm, FILE *stream)
{
    if (comm == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "comm: expected a communicator, got NULL");
    }
    if (stream == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "stream: expected a stream, got NULL");
    }
    if (!write_record(comm, stream)) {
        return gdncp_fail(GDNCP_ERR_IO, "stream: the flight record could not be written: %s",
                          strerror(errno));
    }
    return GDNCP_OK;
}

static void write_file(const gdncp_comm_t *comm)
{
    FILE *const file = fopen(comm->recorder->path, "we");

    if (file == NULL || !write_record(comm, file)) {
        gdncp_log(GDNCP_LOG_ERROR, comm->rank, "the flight record was not written to %s: %s",
                  comm->recorder->path, strerror(errno));
    }
    if (file != NULL) {
        fclose(file);
    }
}

gdncp_status_t gdncp_flight_end(gdncp_comm_t *comm, int64_t sequence, gdncp_status_t status)
{
    flight_entry_t *const entry = entry_of(comm->recorder, sequence);

    /* Else others have taken its place. */
    if (entry->sequence == sequence) {
        entry->end_ns = gdncp_now_ns();
        entry->status = status;
    }
    if (status != GDNCP_OK && comm->recorder->path != NULL) {
        write_file(comm);
    }
    return status;
}

void gdncp_flight_look(gdncp_comm_t *comm)
{
    gdncp_flight_recorder_t *const recorder = comm->recorder;
    const unsigned num_asked = atomic_load_explicit(&num_signals, memory_order_relaxed);

    if (num_asked != recorder->num_asked) {
        recorder->num_asked = num_asked;
        if (recorder->path != NULL) {
            write_file(comm);
        }
    }
}
