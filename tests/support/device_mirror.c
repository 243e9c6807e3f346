#include "device_mirror.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/device.h"

void device_mirror_add(device_mirror_t *mirror, void **pointer, size_t bytes, size_t element_bytes,
                       bool is_output)
{
    if (*pointer == NULL) {
        return;
    }
    assert_true(mirror->num_pointers < MAX_MIRRORED);
    mirror->pointers[mirror->num_pointers++] = (mirrored_pointer_t){.pointer = pointer,
                                                                    .host = *pointer,
                                                                    .bytes = bytes,
                                                                    .element_bytes = element_bytes,
                                                                    .is_output = is_output};
}

static int by_address(const void *a, const void *b)
{
    const mirrored_pointer_t *const first = a;
    const mirrored_pointer_t *const second = b;

    return first->host < second->host ? -1 : first->host > second->host;
}

/* Joins pointers, sorted by address, to ranges. */
static void find_ranges(device_mirror_t *mirror)
{
    mirrored_range_t *last = NULL;

    for (int i = 0; i < mirror->num_pointers; i++) {
        const mirrored_pointer_t *const p = &mirror->pointers[i];

        if (last != NULL && (p->host < last->host + last->bytes || p->host == last->host)) {
            const size_t end = (size_t)(p->host - last->host) + p->bytes;

            last->bytes = end > last->bytes ? end : last->bytes;
        } else {
            last = &mirror->ranges[mirror->num_ranges++];
            *last = (mirrored_range_t){.host = p->host, .bytes = p->bytes};
        }
        last->is_output = last->is_output || p->is_output;
        if (p->element_bytes > last->element_bytes) {
            last->element_bytes = p->element_bytes;
        }
    }
}

static void redirect(const device_mirror_t *mirror)
{
    int range = 0;

    for (int i = 0; i < mirror->num_pointers; i++) {
        const mirrored_pointer_t *const p = &mirror->pointers[i];

        while (range + 1 < mirror->num_ranges && p->host >= mirror->ranges[range + 1].host) {
            range++;
        }
        *p->pointer = mirror->ranges[range].device + (p->host - mirror->ranges[range].host);
    }
}

void device_mirror_open(device_mirror_t *mirror, size_t offset)
{
    qsort(mirror->pointers, (size_t)mirror->num_pointers, sizeof mirror->pointers[0], by_address);
    find_ranges(mirror);
    for (int i = 0; i < mirror->num_ranges; i++) {
        mirrored_range_t *const range = &mirror->ranges[i];
        const size_t skipped = offset * range->element_bytes;

        assert_int_equal(
            gdncp_device_alloc(GDNCP_DEVICE_CUDA, skipped + range->bytes, &range->block), GDNCP_OK);
        range->device = (char *)range->block + skipped;
    }
    redirect(mirror);
}

int64_t device_mirror_bytes(const device_mirror_t *mirror)
{
    int64_t bytes = 0;

    for (int i = 0; i < mirror->num_ranges; i++) {
        bytes += (int64_t)mirror->ranges[i].bytes;
    }
    return bytes;
}

static void copy(void *dst, const void *src, size_t bytes)
{
    assert_int_equal(gdncp_device_copy(GDNCP_DEVICE_CUDA, dst, src, bytes, NULL), GDNCP_OK);
}

void device_mirror_upload(const device_mirror_t *mirror)
{
    for (int i = 0; i < mirror->num_ranges; i++) {
        copy(mirror->ranges[i].device, mirror->ranges[i].host, mirror->ranges[i].bytes);
    }
}

static char *download(const mirrored_range_t *range)
{
    char *const bytes = malloc(range->bytes + 1);

    assert_non_null(bytes);
    copy(bytes, range->device, range->bytes);
    return bytes;
}

void device_mirror_check_untouched(const device_mirror_t *mirror, bool outputs_too)
{
    for (int i = 0; i < mirror->num_ranges; i++) {
        const mirrored_range_t *const range = &mirror->ranges[i];

        if (outputs_too || !range->is_output) {
            char *const bytes = download(range);

            assert_memory_equal(bytes, range->host, range->bytes);
            free(bytes);
        }
    }
}

void device_mirror_take_outputs(device_mirror_t *mirror)
{
    for (int i = 0; i < mirror->num_ranges; i++) {
        mirrored_range_t *const range = &mirror->ranges[i];

        if (!range->is_output) {
            continue;
        }
        char *const bytes = download(range);

        if (range->result == NULL) {
            range->result = bytes;
        } else {
            assert_memory_equal(bytes, range->result, range->bytes);
            free(bytes);
        }
    }
}

void device_mirror_close(device_mirror_t *mirror)
{
    for (int i = 0; i < mirror->num_ranges; i++) {
        mirrored_range_t *const range = &mirror->ranges[i];

        if (range->result != NULL) {
            memcpy(range->host, range->result, range->bytes);
        }
        free(range->result);
        gdncp_device_free(GDNCP_DEVICE_CUDA, range->block);
    }
}
