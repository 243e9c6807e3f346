#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gdncp/memory.h"
#include "workspace.h"

static void workspace_grows_once(void **state)
{
    gdncp_memory_usage_t usage = {0};
    gdncp_workspace_t *workspace = NULL;
    void *first = NULL;
    void *second = NULL;

    (void)state;
    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_workspace_create(&workspace), GDNCP_OK);
    assert_int_equal(gdncp_workspace_reserve(workspace, 1000, &first), GDNCP_OK);
    assert_int_equal(gdncp_workspace_reserve(workspace, 10, &second), GDNCP_OK);
    assert_ptr_equal(first, second);
    assert_int_equal(usage.num_allocations, 2);
    gdncp_workspace_destroy(workspace);
    gdncp_workspace_destroy(NULL);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.current_bytes, 0);
}

static void too_much_scratch_is_refused(void **state)
{
    gdncp_workspace_t *workspace = NULL;
    void *memory = NULL;

    (void)state;
    assert_int_equal(gdncp_workspace_create(&workspace), GDNCP_OK);
    assert_int_equal(gdncp_workspace_reserve(workspace, SIZE_MAX, &memory),
                     GDNCP_ERR_OUT_OF_MEMORY);
    assert_null(memory);
    gdncp_workspace_destroy(workspace);
}

/* Made once, of memory of its own, and freed with the outer one. */
static void an_inner_workspace_keeps_apart(void **state)
{
    gdncp_memory_usage_t usage = {0};
    gdncp_workspace_t *workspace = NULL;
    gdncp_workspace_t *inner = NULL;
    gdncp_workspace_t *again = NULL;
    void *memory = NULL;
    void *inner_memory = NULL;

    (void)state;
    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_workspace_create(&workspace), GDNCP_OK);
    assert_int_equal(gdncp_workspace_reserve(workspace, 1000, &memory), GDNCP_OK);
    assert_int_equal(gdncp_workspace_inner(workspace, &inner), GDNCP_OK);
    assert_int_equal(gdncp_workspace_reserve(inner, 1000, &inner_memory), GDNCP_OK);
    assert_int_equal(gdncp_workspace_inner(workspace, &again), GDNCP_OK);
    assert_ptr_equal(inner, again);
    assert_ptr_not_equal(memory, inner_memory);
    assert_int_equal(usage.num_allocations, 4);
    assert_int_equal(gdncp_workspace_inner(NULL, &again), GDNCP_OK);
    assert_null(again);
    gdncp_workspace_destroy(workspace);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.current_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workspace_grows_once),
        cmocka_unit_test(too_much_scratch_is_refused),
        cmocka_unit_test(an_inner_workspace_keeps_apart),
    };

    return cmocka_run_group_tests_name("workspace", tests, NULL, NULL);
}
