/* What fuzz targets share: numbers from the fuzzer's bytes, and checks that stop the program. */
#ifndef GDNCP_FUZZ_INPUT_H
#define GDNCP_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The target's entry, as libFuzzer calls it. Targets may be called any number of times. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Bytes that are not read yet. */
typedef struct fuzz_input {
    const uint8_t *next;
    const uint8_t *end;
} fuzz_input_t;

/* 0 after the end. */
static inline uint8_t fuzz_byte(fuzz_input_t *input)
{
    return (uint8_t)(input->next < input->end ? *input->next++ : 0);
}

/* minimum..maximum, which are less than 256 apart. */
static inline int fuzz_int(fuzz_input_t *input, int minimum, int maximum)
{
    return minimum + fuzz_byte(input) % (maximum - minimum + 1);
}

/* Mostly a small number, -8..231; after a byte of 240 or more any number. */
static inline int64_t fuzz_number(fuzz_input_t *input)
{
    const uint8_t first = fuzz_byte(input);
    uint64_t number = 0;

    if (first < 240) {
        return (int64_t)first - 8;
    }
    for (int i = 0; i < 8; i++) {
        number = number << 8 | fuzz_byte(input);
    }
    return (int64_t)number;
}

/* Memory of exactly so many numbers, so that reading or writing past its end is seen. */
static inline int64_t *fuzz_numbers(int64_t count)
{
    int64_t *const numbers = malloc((size_t)count * sizeof *numbers);

    FUZZ_CHECK(count == 0 || numbers != NULL);
    return numbers;
}

#endif
