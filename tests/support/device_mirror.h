/* Host memory that an operator is to work on, copied to the device and back. */
#ifndef GDNCP_TEST_DEVICE_MIRROR_H
#define GDNCP_TEST_DEVICE_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_MIRRORED = 24 };

/* A pointer of a call's arguments, and the memory behind it. */
typedef struct mirrored_pointer {
    void **pointer;
    char *host;
    size_t bytes;
    size_t element_bytes;
    bool is_output;
} mirrored_pointer_t;

/* Host memory that overlaps no other range, and its copy. */
typedef struct mirrored_range {
    char *host;
    size_t bytes;
    size_t element_bytes; /* the largest */
    bool is_output;       /* some pointer to it is one */
    void *block;          /* on the device */
    char *device;         /* of host[0], inside the block */
    char *result;         /* what a first run left there, on the host */
} mirrored_range_t;

/* All zero: nothing is mirrored yet. */
typedef struct device_mirror {
    mirrored_pointer_t pointers[MAX_MIRRORED];
    int num_pointers;
    mirrored_range_t ranges[MAX_MIRRORED];
    int num_ranges;
} device_mirror_t;

/* The memory behind *pointer, which device_mirror_open() redirects; NULL stays NULL. */
void device_mirror_add(device_mirror_t *mirror, void **pointer, size_t bytes, size_t element_bytes,
                       bool is_output);

/* Allocate on the device, `offset` elements beyond what allocations are aligned to. Pointers to the
 * same or overlapping memory still do so there. */
void device_mirror_open(device_mirror_t *mirror, size_t offset);

/* On the device, once it is open. */
int64_t device_mirror_bytes(const device_mirror_t *mirror);

/* Copy what the host holds to the device. */
void device_mirror_upload(const device_mirror_t *mirror);

/* Fail unless the device holds what the host does: everywhere, or in all that is no output. */
void device_mirror_check_untouched(const device_mirror_t *mirror, bool outputs_too);

/* Take the outputs; fail unless they have the bits of those that were taken before. */
void device_mirror_take_outputs(device_mirror_t *mirror);

/* Write the outputs that were taken to the host, if any, and free. */
void device_mirror_close(device_mirror_t *mirror);

#endif
