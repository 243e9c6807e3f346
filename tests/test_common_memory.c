#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gdncp/memory.h"

static void usage_follows_allocations(void **state)
{
    gdncp_memory_usage_t usage = {0};

    (void)state;
    gdncp_memory_track(&usage);
    void *const first = gdncp_memory_alloc(100);
    void *const second = gdncp_memory_alloc(50);
    gdncp_memory_track(NULL);
    assert_non_null(first);
    assert_int_equal((uintptr_t)first % 64, 0);
    assert_int_equal(usage.current_bytes, 150);
    gdncp_memory_free(first);
    gdncp_memory_free(second);
    gdncp_memory_free(NULL);
    assert_int_equal(usage.current_bytes, 0);
    assert_int_equal(usage.peak_bytes, 150);
    assert_int_equal(usage.num_allocations, 2);
}

static void too_much_memory_is_refused(void **state)
{
    (void)state;
    assert_null(gdncp_memory_alloc(SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage_follows_allocations),
        cmocka_unit_test(too_much_memory_is_refused),
    };

    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
