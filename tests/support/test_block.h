/* Heap memory of tests whose extent can be asked for: a tensor that a test has spoilt says nothing
 * about the memory behind it. */
#ifndef GDNCP_TEST_BLOCK_H
#define GDNCP_TEST_BLOCK_H

#include <stddef.h>

/* At least one byte, so that an empty tensor has data. Free with test_block_free(). */
void *test_block_alloc(size_t bytes);

/* NULL does nothing. */
void test_block_free(void *block);

/* Bytes from an address to the end of the block that it lies in; `otherwise` outside of all. */
size_t test_block_bytes(const void *address, size_t otherwise);

#endif
