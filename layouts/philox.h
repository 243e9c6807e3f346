/* Philox 4x32-10. */
#ifndef GDNCP_PHILOX_H
#define GDNCP_PHILOX_H

#include <stdint.h>

typedef struct gdncp_random_words {
    uint32_t word[4];
} gdncp_random_words_t;

/* Ten rounds of a counter, with a key that is advanced between them. */
static inline gdncp_random_words_t gdncp_philox(gdncp_random_words_t counter, uint64_t key)
{
    uint32_t *const x = counter.word;
    uint32_t key0 = (uint32_t)key;
    uint32_t key1 = (uint32_t)(key >> 32);

    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = (uint64_t)0xD2511F53U * x[0];
        const uint64_t product1 = (uint64_t)0xCD9E8D57U * x[2];

        counter =
            (gdncp_random_words_t){{(uint32_t)(product1 >> 32) ^ x[1] ^ key0, (uint32_t)product1,
                                    (uint32_t)(product0 >> 32) ^ x[3] ^ key1, (uint32_t)product0}};
        key0 += 0x9E3779B9U; /* the golden ratio */
        key1 += 0xBB67AE85U; /* the square root of 3, less 1 */
    }
    return counter;
}

#endif
