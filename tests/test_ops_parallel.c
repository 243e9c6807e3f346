/* Loops over work items: each is taken once, and subnormal numbers are zeros inside, not after. */
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "op_parallel.h"
#include "threads.h"

enum { NUM_ITEMS = 100 };

typedef struct results {
    int taken[NUM_ITEMS];
    float halves[NUM_ITEMS];
    int threads[NUM_ITEMS];
} results_t;

static volatile float smallest_normal = FLT_MIN;

static void halve(void *context, int64_t item, int thread)
{
    results_t *const results = context;

    results->taken[item]++;
    results->halves[item] = smallest_normal * 0.5f;
    results->threads[item] = thread;
}

static void each_item_is_taken_once(void **state)
{
    (void)state;
    for (int num_threads = 1; num_threads <= 4; num_threads++) {
        results_t results = {0};

        test_set_num_threads(num_threads);
        const int worth = gdncp_parallel_num_threads(NUM_ITEMS);

        assert_true(worth >= 1 && worth <= num_threads);
        gdncp_parallel_for(NUM_ITEMS, worth, halve, &results);
        for (int i = 0; i < NUM_ITEMS; i++) {
            assert_int_equal(results.taken[i], 1);
            assert_true(results.threads[i] >= 0 && results.threads[i] < worth);
        }
    }
}

static void subnormal_numbers_are_zeros_inside(void **state)
{
    (void)state;
    for (int num_threads = 1; num_threads <= 4; num_threads++) {
        results_t results = {0};

        test_set_num_threads(num_threads);
        gdncp_parallel_for(NUM_ITEMS, gdncp_parallel_num_threads(NUM_ITEMS), halve, &results);
        for (int i = 0; i < NUM_ITEMS; i++) {
#ifdef __SSE__
            assert_true(results.halves[i] == 0.0f);
#endif
        }
        assert_true(smallest_normal * 0.5f > 0.0f); /* the caller's own arithmetic */
    }
}

static void no_items_are_no_work(void **state)
{
    (void)state;
    assert_int_equal(gdncp_parallel_num_threads(0), 1);
    gdncp_parallel_for(0, 1, halve, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_is_taken_once),
        cmocka_unit_test(subnormal_numbers_are_zeros_inside),
        cmocka_unit_test(no_items_are_no_work),
    };

    return cmocka_run_group_tests_name("parallel", tests, NULL, NULL);
}
