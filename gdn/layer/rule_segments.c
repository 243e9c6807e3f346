/* Lists of segments and sequences. */
#include "rule_segments.h"

#include <stdbool.h>

#include "error.h"
#include "gdncp/memory.h"

typedef struct source {
    const gdncp_layout_t *layout;
    const gdncp_segment_t *local;
    int rank;
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
} source_t;

static gdncp_status_t list_offsets(const source_t *source, gdncp_rule_segments_t *segments)
{
    const int64_t count = segments->num_segments;
    const gdncp_status_t status =
        gdncp_device_list_create(source->device, count + 1, &segments->cu_seqlens);

    if (status != GDNCP_OK) {
        return status;
    }
    segments->cu_seqlens.host[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        segments->cu_seqlens.host[i + 1] = source->local[i].local_offset + source->local[i].length;
    }
    return gdncp_device_list_upload(&segments->cu_seqlens, source->stream);
}

static bool is_at_end(const source_t *source, const gdncp_segment_t *segment, bool last)
{
    const int64_t *const all = gdncp_layout_cu_seqlens(source->layout);
    const int64_t length = all[segment->sequence + 1] - all[segment->sequence];

    return last ? segment->begin + segment->length == length : segment->begin == 0;
}

static gdncp_status_t list_ends(const source_t *source, int64_t num_segments, bool last,
                                gdncp_sequence_ends_t *ends)
{
    int64_t count = 0;
    gdncp_status_t status;

    for (int64_t i = 0; i < num_segments; i++) {
        count += is_at_end(source, &source->local[i], last);
    }
    status = gdncp_device_list_create(source->device, count, &ends->segments);
    if (status == GDNCP_OK) {
        status = gdncp_device_list_create(source->device, count, &ends->sequences);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    count = 0;
    for (int64_t i = 0; i < num_segments; i++) {
        if (is_at_end(source, &source->local[i], last)) {
            ends->segments.host[count] = i;
            ends->sequences.host[count] = source->local[i].sequence;
            count++;
        }
    }
    status = gdncp_device_list_upload(&ends->segments, source->stream);
    return status == GDNCP_OK ? gdncp_device_list_upload(&ends->sequences, source->stream) : status;
}

static gdncp_status_t find_holders(const source_t *source, int64_t num_sequences, bool last,
                                   int **holder_p)
{
    const gdncp_segment_t *const every = gdncp_layout_segments(source->layout);
    int *const holder = gdncp_memory_alloc((size_t)num_sequences * sizeof *holder);

    if (holder == NULL) {
        return gdncp_fail_memory("segments of a rule across ranks");
    }
    for (int64_t i = 0; i < num_sequences; i++) {
        int64_t length;
        const int64_t *const chain = gdncp_layout_sequence_chain(source->layout, i, &length);

        holder[i] = length > 0 ? every[chain[last ? length - 1 : 0]].rank : 0;
    }
    *holder_p = holder;
    return GDNCP_OK;
}

static gdncp_status_t list_empty(const source_t *source, int64_t num_sequences,
                                 gdncp_device_list_t *empty)
{
    const int64_t *const all = gdncp_layout_cu_seqlens(source->layout);
    const int64_t examined = source->rank == 0 ? num_sequences : 0;
    int64_t count = 0;
    gdncp_status_t status;

    for (int64_t i = 0; i < examined; i++) {
        count += all[i + 1] == all[i];
    }
    status = gdncp_device_list_create(source->device, count, empty);
    if (status != GDNCP_OK) {
        return status;
    }
    count = 0;
    for (int64_t i = 0; i < examined; i++) {
        if (all[i + 1] == all[i]) {
            empty->host[count++] = i;
        }
    }
    return gdncp_device_list_upload(empty, source->stream);
}

gdncp_status_t gdncp_rule_segments_create(const gdncp_layout_t *layout, int rank,
                                          gdncp_device_kind_t device, gdncp_stream_t stream,
                                          gdncp_rule_segments_t *segments)
{
    const int64_t sequences = gdncp_layout_num_sequences(layout);
    const source_t source = {
        .layout = layout,
        .local = gdncp_layout_rank_segments(layout, rank, &segments->num_segments),
        .rank = rank,
        .device = device,
        .stream = stream,
    };
    gdncp_status_t status;

    segments->num_sequences = sequences;
    status = list_offsets(&source, segments);
    if (status == GDNCP_OK) {
        status = list_ends(&source, segments->num_segments, false, &segments->first);
    }
    if (status == GDNCP_OK) {
        status = list_ends(&source, segments->num_segments, true, &segments->last);
    }
    if (status == GDNCP_OK) {
        status = find_holders(&source, sequences, false, &segments->first.holder);
    }
    if (status == GDNCP_OK) {
        status = find_holders(&source, sequences, true, &segments->last.holder);
    }
    return status == GDNCP_OK ? list_empty(&source, sequences, &segments->empty) : status;
}

static void destroy_ends(gdncp_sequence_ends_t *ends)
{
    gdncp_device_list_destroy(&ends->segments);
    gdncp_device_list_destroy(&ends->sequences);
    gdncp_memory_free(ends->holder);
}

void gdncp_rule_segments_destroy(gdncp_rule_segments_t *segments)
{
    gdncp_device_list_destroy(&segments->cu_seqlens);
    gdncp_device_list_destroy(&segments->empty);
    destroy_ends(&segments->first);
    destroy_ends(&segments->last);
}
