/* Random numbers for tests: seeded, and the seed is printed. */
#ifndef GDNCP_TEST_RANDOM_H
#define GDNCP_TEST_RANDOM_H

#include <stdint.h>

typedef struct test_random {
    uint64_t state;
} test_random_t;

/* Seed from GDNCP_TEST_SEED, else from `fallback`; prints "name: seed N". */
test_random_t test_random_start(const char *name, uint64_t fallback);

uint64_t test_random_u64(test_random_t *random);

/* Uniform in [low, high], both included. */
int64_t test_random_int(test_random_t *random, int64_t low, int64_t high);

/* Uniform in [0, 1). */
double test_random_uniform(test_random_t *random);

/* Standard normal. */
double test_random_normal(test_random_t *random);

/* Fill with standard normals. */
void test_random_fill(test_random_t *random, float *values, int64_t count);

#endif
