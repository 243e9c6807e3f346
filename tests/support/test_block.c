#include "test_block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

typedef struct block {
    struct block *next;
    char *memory;
    size_t bytes;
} block_t;

static block_t *blocks;

void *test_block_alloc(size_t bytes)
{
    block_t *const block = malloc(sizeof *block);

    assert_non_null(block);
    *block = (block_t){.next = blocks, .memory = malloc(bytes + 1), .bytes = bytes};
    assert_non_null(block->memory);
    blocks = block;
    return block->memory;
}

void test_block_free(void *memory)
{
    block_t **link = &blocks;

    if (memory == NULL) {
        return;
    }
    while (*link != NULL && (*link)->memory != memory) {
        link = &(*link)->next;
    }
    block_t *const block = *link;

    assert_non_null(block);
    *link = block->next;
    free(block->memory);
    free(block);
}

size_t test_block_bytes(const void *address, size_t otherwise)
{
    const char *const at = address;

    for (const block_t *block = blocks; block != NULL; block = block->next) {
        if (at >= block->memory && at <= block->memory + block->bytes) {
            return (size_t)(block->memory + block->bytes - at);
        }
    }
    return otherwise;
}
