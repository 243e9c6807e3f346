/* layout_inline.h in kernels: every token of random packs, against an oracle that places them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cut_kernels.h"
#include "gdncp/device.h"
#include "random.h"
#include "test_layouts_oracle.h"

enum { NUM_PACKS = 8, MAX_RANKS = 9 };

/* Memory of the device, poisoned, or with a copy of what the host has. */
static void *on_device(const void *host, size_t bytes)
{
    void *const poison = malloc(bytes);
    void *device = NULL;

    assert_non_null(poison);
    memset(poison, 0xa5, bytes);
    assert_int_equal(gdncp_device_alloc(GDNCP_DEVICE_CUDA, bytes, &device), GDNCP_OK);
    assert_int_equal(
        gdncp_device_copy(GDNCP_DEVICE_CUDA, device, host != NULL ? host : poison, bytes, NULL),
        GDNCP_OK);
    free(poison);
    return device;
}

static void *to_host(void *device, size_t bytes)
{
    void *const host = malloc(bytes);

    assert_non_null(host);
    assert_int_equal(gdncp_device_copy(GDNCP_DEVICE_CUDA, host, device, bytes, NULL), GDNCP_OK);
    gdncp_device_free(GDNCP_DEVICE_CUDA, device);
    return host;
}

static void check_kind(gdncp_layout_kind_t kind, const pack_t *pack)
{
    const size_t tokens = (size_t)num_tokens(pack);
    const size_t offsets = (size_t)(pack->num_sequences + 1) * sizeof *pack->slots;
    placement_t placement = place_by_kind(pack, kind);
    gdncp_cut_t cut =
        gdncp_cut_of(kind, pack->slots, pack->num_sequences, pack->num_ranks, pack->stripe);
    int64_t *const cu_seqlens = on_device(pack->slots, offsets);
    int *ranks = on_device(NULL, tokens * sizeof *ranks);
    int64_t *locals = on_device(NULL, tokens * sizeof *locals);
    int64_t *positions = on_device(NULL, tokens * sizeof *positions);

    cut.cu_seqlens = cu_seqlens;
    if (cut_locate_all(&cut, (int64_t)tokens, ranks, locals, positions, NULL) != GDNCP_OK) {
        fail_msg("%s", gdncp_last_error());
    }
    ranks = to_host(ranks, tokens * sizeof *ranks);
    locals = to_host(locals, tokens * sizeof *locals);
    positions = to_host(positions, tokens * sizeof *positions);
    for (size_t t = 0; t < tokens; t++) {
        assert_int_equal(ranks[t], placement.ranks[t]);
        assert_int_equal(locals[t], placement.local_indices[t]);
        assert_int_equal(positions[t], t);
    }
    gdncp_device_free(GDNCP_DEVICE_CUDA, cu_seqlens);
    free(ranks);
    free(locals);
    free(positions);
    free_placement(&placement);
}

static void kernels_find_every_token(void **state)
{
    test_random_t random = test_random_start("cut", 20261204);

    (void)state;
    for (int i = 0; i < NUM_PACKS * NUM_NAMED_KINDS; i++) {
        const gdncp_layout_kind_t kind = named_kinds[i % NUM_NAMED_KINDS];
        const int num_ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const bool even =
            kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP || test_random_int(&random, 0, 1) == 1;
        pack_t pack = random_pack(&random, num_ranks, even ? 2 * num_ranks : 1);

        pack.stripe = test_random_int(&random, 1, 2);
        check_kind(kind, &pack);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_find_every_token),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("cut", tests, NULL, NULL);
}
