#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

test_random_t test_random_start(const char *name, uint64_t fallback)
{
    const char *const text = getenv("GDNCP_TEST_SEED");
    const uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : fallback;

    printf("%s: seed %llu\n", name, (unsigned long long)seed);
    return (test_random_t){.state = seed};
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
uint64_t test_random_u64(test_random_t *random)
{
    uint64_t z = (random->state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t test_random_int(test_random_t *random, int64_t low, int64_t high)
{
    return low + (int64_t)(test_random_u64(random) % (uint64_t)(high - low + 1));
}

double test_random_uniform(test_random_t *random)
{
    return (double)(test_random_u64(random) >> 11) * 0x1p-53;
}

double test_random_normal(test_random_t *random)
{
    const double radius = sqrt(-2.0 * log(1.0 - test_random_uniform(random)));

    return radius * cos(6.283185307179586 * test_random_uniform(random));
}

void test_random_fill(test_random_t *random, float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = (float)test_random_normal(random);
    }
}
