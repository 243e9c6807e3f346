/* One rank in a conformance case: its communicator, its failures, and the messages it expects. */
#ifndef GDNCP_CONFORMANCE_RANK_H
#define GDNCP_CONFORMANCE_RANK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm_internal.h"
#include "random.h"

typedef struct conformance {
    gdncp_comm_t *comm;
    int rank;
    int size;
    uint64_t seed; /* equal on all ranks */
    int num_failures;
    char first_failure[400];
} conformance_t;

static inline bool expect(conformance_t *c, bool holds, const char *what)
{
    if (!holds && c->num_failures++ == 0) {
        snprintf(c->first_failure, sizeof c->first_failure, "%s (last error: %s)", what,
                 gdncp_last_error());
    }
    return holds;
}

static inline bool expect_ok(conformance_t *c, gdncp_status_t status, const char *what)
{
    return expect(c, status == GDNCP_OK, what);
}

static inline void expect_error(conformance_t *c, gdncp_status_t status, gdncp_status_t expected,
                                const char *word, const char *what)
{
    char sentence[300];

    snprintf(sentence, sizeof sentence, "%s: expected %s naming \"%s\", got %s", what,
             gdncp_status_string(expected), word, gdncp_status_string(status));
    expect(c, status == expected && strstr(gdncp_last_error(), word) != NULL, sentence);
}

/* The bytes of the n-th message from one rank to another. */
static inline void fill_message(const conformance_t *c, unsigned char *bytes, size_t count,
                                int from, int to, int number)
{
    test_random_t random = {.state = c->seed ^ ((uint64_t)from << 48) ^ ((uint64_t)to << 32) ^
                                     ((uint64_t)number << 8)};

    for (size_t i = 0; i < count; i += 8) {
        const uint64_t word = test_random_u64(&random);

        memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
    }
}

static inline bool is_message(const conformance_t *c, const unsigned char *bytes, size_t count,
                              int from, int to, int number)
{
    unsigned char *const expected = malloc(count);

    fill_message(c, expected, count, from, to, number);
    const bool equal = memcmp(bytes, expected, count) == 0;
    free(expected);
    return equal;
}

static inline unsigned char *poisoned(size_t count)
{
    unsigned char *const bytes = malloc(count);

    memset(bytes, 0xa5, count);
    return bytes;
}

#endif
