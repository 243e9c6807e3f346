#include "trace_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "gdncp/trace.h"
#include "options.h"

#define EVENTS 65536
#define SLICE_BYTES ((size_t)1 << 16)

gdncp_status_t run_trace_start(size_t capacity, run_trace_t *trace)
{
    *trace = (run_trace_t){.capacity = capacity};
    trace->spans = run_alloc(capacity, sizeof *trace->spans, "a trace");
    if (trace->spans == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    const gdncp_status_t status = gdncp_trace_start(EVENTS);
    if (status != GDNCP_OK) {
        free(trace->spans);
        trace->spans = NULL;
    }
    return status;
}

void run_trace_stop(run_trace_t *trace)
{
    if (trace->spans != NULL) {
        gdncp_trace_stop();
        free(trace->spans);
        trace->spans = NULL;
    }
}

void run_trace_add(run_trace_t *trace, const char *strategy, const char *pass, int64_t begin_ns,
                   int64_t end_ns)
{
    if (trace->count < trace->capacity) {
        run_span_t *const span = &trace->spans[trace->count++];

        snprintf(span->name, sizeof span->name, "%s %s", strategy, pass);
        span->begin_ns = begin_ns;
        span->duration_ns = end_ns - begin_ns;
    }
}

/* Times are microseconds in the format; base_ns is its zero. */
static void write_event(FILE *stream, int rank, const char *name, const char *category,
                        int64_t begin_ns, int64_t duration_ns, int64_t bytes)
{
    fprintf(stream,
            ",\n{\"ph\": \"X\", \"pid\": %d, \"tid\": %d, \"name\": \"%s\", \"cat\": \"%s\", "
            "\"ts\": %.3f, \"dur\": %.3f",
            rank, rank, name, category, (double)begin_ns * 1e-3, (double)duration_ns * 1e-3);
    if (bytes > 0) {
        fprintf(stream, ", \"args\": {\"bytes\": %" PRId64 "}", bytes);
    }
    fprintf(stream, "}");
}

/* The rank's events as JSON objects, each after a comma but the first. */
static void write_rank(FILE *stream, const run_trace_t *trace, int rank, int64_t base_ns)
{
    int64_t count;
    int64_t dropped;
    const gdncp_trace_event_t *const events = gdncp_trace_events(&count, &dropped);

    fprintf(stream,
            "{\"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"name\": \"process_name\", "
            "\"args\": {\"name\": \"rank %d\", \"dropped_events\": %" PRId64 "}}",
            rank, rank, rank, dropped);
    for (size_t i = 0; i < trace->count; i++) {
        const run_span_t *const span = &trace->spans[i];

        write_event(stream, rank, span->name, "run", span->begin_ns - base_ns, span->duration_ns,
                    0);
    }
    for (int64_t i = 0; i < count; i++) {
        write_event(stream, rank, events[i].name, "gdncp", events[i].begin_ns - base_ns,
                    events[i].duration_ns, events[i].bytes);
    }
}

/* The earliest begin of all ranks' spans, so that the timeline starts at 0. */
static gdncp_status_t find_base(const run_trace_t *trace, gdncp_comm_t *comm, int64_t *base_ns_p)
{
    const int size = gdncp_comm_size(comm);
    int64_t base = trace->count > 0 ? trace->spans[0].begin_ns : INT64_MAX;
    int64_t *const all = run_alloc((size_t)size, sizeof *all, "a trace");

    if (all == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    const gdncp_status_t status = gdncp_comm_all_gather(comm, &base, all, sizeof base);
    for (int r = 0; r < size && status == GDNCP_OK; r++) {
        base = all[r] < base ? all[r] : base;
    }
    free(all);
    if (status == GDNCP_OK) {
        *base_ns_p = base;
    }
    return status;
}

/* Text of all ranks in slices: to texts[r] on rank 0. lengths [size] */
static gdncp_status_t gather_slices(gdncp_comm_t *comm, const char *text, const size_t *lengths,
                                    char *const *texts)
{
    const int size = gdncp_comm_size(comm);
    const int rank = gdncp_comm_rank(comm);
    gdncp_status_t status = GDNCP_OK;
    size_t longest = 0;
    char *const slice = run_alloc((size_t)size + 1, SLICE_BYTES, "a trace");

    if (slice == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    char *const all = slice + SLICE_BYTES;
    for (int r = 0; r < size; r++) {
        longest = lengths[r] > longest ? lengths[r] : longest;
    }
    for (size_t begin = 0; begin < longest && status == GDNCP_OK; begin += SLICE_BYTES) {
        if (begin < lengths[rank]) {
            const size_t left = lengths[rank] - begin;
            memcpy(slice, text + begin, left < SLICE_BYTES ? left : SLICE_BYTES);
        }
        status = gdncp_comm_all_gather(comm, slice, all, SLICE_BYTES);
        for (int r = 0; r < size && rank == 0 && status == GDNCP_OK; r++) {
            if (begin < lengths[r]) {
                const size_t left = lengths[r] - begin;
                memcpy(texts[r] + begin, all + (size_t)r * SLICE_BYTES,
                       left < SLICE_BYTES ? left : SLICE_BYTES);
            }
        }
    }
    free(slice);
    return status;
}

static gdncp_status_t write_texts(FILE *stream, char *const *texts, const size_t *lengths, int size)
{
    fprintf(stream, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [");
    for (int r = 0; r < size; r++) {
        fprintf(stream, "%s\n", r > 0 ? "," : "");
        fwrite(texts[r], 1, lengths[r], stream);
    }
    fprintf(stream, "\n]}\n");
    if (fflush(stream) != 0 || ferror(stream)) {
        return run_fail(GDNCP_ERR_IO, "--trace: the file could not be written");
    }
    return GDNCP_OK;
}

static gdncp_status_t gather_texts(gdncp_comm_t *comm, const char *text, size_t length,
                                   FILE *stream)
{
    const int size = gdncp_comm_size(comm);
    const bool root = gdncp_comm_rank(comm) == 0;
    size_t lengths[RUN_MAX_RANKS];
    char *texts[RUN_MAX_RANKS] = {NULL};
    gdncp_status_t status = gdncp_comm_all_gather(comm, &length, lengths, sizeof length);

    for (int r = 0; r < size && root && status == GDNCP_OK; r++) {
        texts[r] = run_alloc(lengths[r], 1, "a trace");
        status = texts[r] != NULL ? GDNCP_OK : GDNCP_ERR_OUT_OF_MEMORY;
    }
    if (status == GDNCP_OK) {
        status = gather_slices(comm, text, lengths, texts);
    }
    if (status == GDNCP_OK && root) {
        status = write_texts(stream, texts, lengths, size);
    }
    for (int r = 0; r < size; r++) {
        free(texts[r]);
    }
    return status;
}

gdncp_status_t run_trace_write(const run_trace_t *trace, gdncp_comm_t *comm, FILE *stream)
{
    char *text = NULL;
    size_t length = 0;
    int64_t base_ns = 0;
    gdncp_status_t status = find_base(trace, comm, &base_ns);

    if (status != GDNCP_OK) {
        return status;
    }
    FILE *const memory = open_memstream(&text, &length);
    if (memory == NULL) {
        return run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: a trace");
    }
    write_rank(memory, trace, gdncp_comm_rank(comm), base_ns);
    if (fclose(memory) != 0) {
        status = run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: a trace");
    } else {
        status = gather_texts(comm, text, length, stream);
    }
    free(text);
    return status;
}
