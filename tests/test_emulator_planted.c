/* Mistakes planted in kernels are found, by what each build has; without the mistake nothing is. */
#include "planted_case.h"

static float rotated(int t)
{
    return (float)((t + 32) % COUNT + 1);
}

static float next_lane(int t)
{
    return (float)(t / 32 * 32 + (t + 1) % 32 + 1);
}

static float sum_of_all(int t)
{
    (void)t;
    return COUNT * (COUNT + 1) / 2.0f;
}

static gdncp_status_t barrier(bool mended, const arrays_t *a)
{
    return planted_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t second_barrier(bool mended, const arrays_t *a)
{
    return planted_second_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t warp_barrier(bool mended, const arrays_t *a)
{
    return planted_warp_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t early_return(bool mended, const arrays_t *a)
{
    return planted_early_return(mended, a->in, a->out, a->stream);
}

static gdncp_status_t shared_beside(bool mended, const arrays_t *a)
{
    return planted_shared_write(mended, a->in, a->out, 2, a->stream);
}

static gdncp_status_t shared_before(bool mended, const arrays_t *a)
{
    return planted_shared_write(mended, a->in, a->out, -COUNT, a->stream);
}

static gdncp_status_t shared_far(bool mended, const arrays_t *a)
{
    return planted_shared_write(mended, a->in, a->out, 200, a->stream);
}

static gdncp_status_t recursion(bool mended, const arrays_t *a)
{
    return planted_recursion(mended, a->in, a->out, a->stream);
}

static gdncp_status_t write_beside(bool mended, const arrays_t *a)
{
    return planted_global_write(mended, a->in, a->out, 2, a->stream);
}

static gdncp_status_t write_before(bool mended, const arrays_t *a)
{
    return planted_global_write(mended, a->in, a->out, -COUNT, a->stream);
}

static gdncp_status_t write_far(bool mended, const arrays_t *a)
{
    return planted_global_write(mended, a->in, a->out, 1000, a->stream);
}

static gdncp_status_t read_beside(bool mended, const arrays_t *a)
{
    return planted_global_read(mended, a->in, a->out, 2, a->stream);
}

static gdncp_status_t read_far(bool mended, const arrays_t *a)
{
    return planted_global_read(mended, a->in, a->out, 1000, a->stream);
}

static gdncp_status_t missing_lane(bool mended, const arrays_t *a)
{
    return planted_missing_lane(mended, a->in, a->out, a->stream);
}

static gdncp_status_t divergence(bool mended, const arrays_t *a)
{
    return planted_divergence(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_wait(bool mended, const arrays_t *a)
{
    return planted_copy_wait(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_barrier(bool mended, const arrays_t *a)
{
    return planted_copy_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_over(bool mended, const arrays_t *a)
{
    return planted_copy_over(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_source(bool mended, const arrays_t *a)
{
    return planted_copy_source(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_unaligned(bool mended, const arrays_t *a)
{
    return planted_copy_address(a->in, a->out, mended ? 0 : 1, a->stream);
}

static gdncp_status_t copy_beside(bool mended, const arrays_t *a)
{
    return planted_copy_address(a->in, a->out, mended ? 0 : 4, a->stream);
}

static gdncp_status_t copy_too_long(bool mended, const arrays_t *a)
{
    return planted_copy_count(1, mended ? 16 : 20, a->in, a->out, a->stream);
}

static gdncp_status_t copies_without_end(bool mended, const arrays_t *a)
{
    return planted_copy_count(mended ? 2048 : 2049, 16, a->in, a->out, a->stream);
}

static gdncp_status_t copy_place(bool mended, const arrays_t *a)
{
    return planted_copy_place(mended, a->in, a->out, a->stream);
}

static gdncp_status_t row_unaligned(bool mended, const arrays_t *a)
{
    return planted_row_address(a->in, a->out, mended ? 0 : 8, a->stream);
}

static gdncp_status_t row_beside(bool mended, const arrays_t *a)
{
    return planted_row_address(a->in, a->out, mended ? 0 : 32, a->stream);
}

/* Blocks of one kernel write the same element: only in which order is seen. */
static gdncp_status_t blocks(bool mended, const arrays_t *a)
{
    gdncp_status_t status = planted_copy(a->in, a->out, a->stream);

    if (status == GDNCP_OK && !mended) {
        status = planted_blocks(false, a->in, a->out, a->stream);
    }
    return status == GDNCP_OK && mended ? planted_blocks(true, a->in, a->out, a->stream) : status;
}

static const planted_t all_planted[] = {
    {"barrier", barrier, rotated, SEEDS | THREAD, NULL},
    {"second barrier", second_barrier, sum_of_all, SEEDS | THREAD, NULL},
    {"warp barrier", warp_barrier, rotated, THREAD, NULL},
    {"early return", early_return, rotated, STOPS,
     "waits in sync_block for threads that do not come: of 128 threads 64 wait there, 64 have "
     "returned, 0 wait elsewhere"},
    {"shared beside", shared_beside, rotated, STOPS | ADDRESS,
     "has written outside of its 516 bytes of shared memory"},
    {"shared before", shared_before, rotated, STOPS | ADDRESS,
     "has written outside of its 516 bytes of shared memory"},
    {"shared far", shared_far, rotated, STOPS,
     "touches offset 1308 of its 516 bytes of shared memory"},
    {"recursion", recursion, same, STOPS, "bytes of stack"},
    {"write beside", write_beside, same, STOPS | ADDRESS,
     "global_write has written outside of a block of 516 bytes of device memory"},
    {"write before", write_before, same, STOPS | ADDRESS,
     "global_write has written outside of a block of 516 bytes of device memory"},
    {"write far", write_far, same, STOPS, "at offset 4508 of a block of 516 bytes"},
    {"read beside", read_beside, same, SEEDS | ADDRESS, NULL},
    {"read far", read_far, same, STOPS, "of a block of 516 bytes of device memory"},
    {"missing lane", missing_lane, next_lane, STOPS,
     "waits in shuffle for threads that do not come"},
    {"divergence", divergence, next_lane, STOPS,
     "comes to sync_warp while lanes of its warp wait in shuffle"},
    {"copy wait", copy_wait, same, SEEDS, NULL},
    {"copy barrier", copy_barrier, same, SEEDS | THREAD, NULL},
    {"copy over", copy_over, rotated, SEEDS | THREAD, NULL},
    {"copy source", copy_source, same, STOPS,
     "the source has changed before the copy was waited for"},
    {"copy unaligned", copy_unaligned, same, STOPS, "is not aligned to 16 bytes"},
    {"copy beside", copy_beside, same, STOPS, "lie outside of device memory"},
    {"copy too long", copy_too_long, same, STOPS, "cp_async_16: expected 0..16 bytes, got 20"},
    {"copies without end", copies_without_end, same, STOPS,
     "more than 2048 copies of one thread under way"},
    {"copy place", copy_place, same, STOPS, "its place was written before the copy was waited for"},
    {"row unaligned", row_unaligned, same, STOPS, "of shared memory is not aligned to 16 bytes"},
    {"row beside", row_beside, same, STOPS,
     "ldmatrix_x4: 16 bytes at offset 528 lie outside of its 528 bytes of shared memory"},
    {"blocks", blocks, same, SEEDS | THREAD, NULL},
};

static void mistakes_are_found(void **state)
{
    (void)state;
    check_mistakes_are_found(all_planted, sizeof all_planted / sizeof all_planted[0]);
}

static void what_is_mended_is_right(void **state)
{
    (void)state;
    check_mended_is_right(all_planted, sizeof all_planted / sizeof all_planted[0]);
}

/* The process of a child: a mistake that every seed finds, with the environment's. */
static int run_with_seed(const void *seed)
{
    gdncp_stream_t stream = NULL;
    void *array = NULL;

    setenv("GDNCP_EMULATOR_SEED", seed, 1);
    if (gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream) != GDNCP_OK ||
        gdncp_device_alloc(GDNCP_DEVICE_CUDA, ARRAY_BYTES, &array) != GDNCP_OK ||
        planted_early_return(false, array, array, stream) != GDNCP_OK) {
        fprintf(stderr, "%s", gdncp_last_error());
        return BROKEN;
    }
    return gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream) == GDNCP_OK ? RIGHT : BROKEN;
}

static void the_environment_has_a_seed(void **state)
{
    static const char *const seeds[] = {"7", "9223372036854775807"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const child_outcome_t outcome = run_child(run_with_seed, seeds[i]);
        char expected[64];

        snprintf(expected, sizeof expected, "(GDNCP_EMULATOR_SEED=%s)", seeds[i]);
        assert_int_equal(outcome.signal, SIGABRT);
        assert_non_null(strstr(outcome.text, expected));
    }
    const child_outcome_t outcome = run_child(run_with_seed, "-1");

    assert_int_equal(outcome.exit_code, BROKEN);
    assert_non_null(strstr(outcome.text, "GDNCP_EMULATOR_SEED: expected an integer in 0.."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_found),
        cmocka_unit_test(what_is_mended_is_right),
        cmocka_unit_test(the_environment_has_a_seed),
    };

    return cmocka_run_group_tests_name("planted mistakes", tests, NULL, NULL);
}
