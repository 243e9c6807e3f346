#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "error.h"

static void every_status_has_its_name(void **state)
{
    static const char *const names[] = {
        "GDNCP_OK",
        "GDNCP_ERR_INVALID_ARGUMENT",
        "GDNCP_ERR_OUT_OF_MEMORY",
        "GDNCP_ERR_NOT_SUPPORTED",
        "GDNCP_ERR_IO",
        "GDNCP_ERR_FORMAT",
        "GDNCP_ERR_TRANSPORT",
        "GDNCP_ERR_TIMEOUT",
        "GDNCP_ERR_PEER_LOST",
        "GDNCP_ERR_MISMATCH",
        "GDNCP_ERR_NUMERIC",
        "GDNCP_ERR_DEVICE",
        "GDNCP_ERR_INTERNAL",
    };

    (void)state;
    assert_int_equal(sizeof names / sizeof names[0], GDNCP_ERR_INTERNAL + 1);
    for (int i = 0; i <= GDNCP_ERR_INTERNAL; i++) {
        assert_string_equal(gdncp_status_string((gdncp_status_t)i), names[i]);
    }
    assert_string_equal(gdncp_status_string((gdncp_status_t)-1), "unknown status");
    assert_string_equal(gdncp_status_string((gdncp_status_t)(GDNCP_ERR_INTERNAL + 1)),
                        "unknown status");
}

static void *read_error_of_new_thread(void *argument)
{
    snprintf(argument, 64, "%s", gdncp_last_error());
    return NULL;
}

static void sentence_belongs_to_the_thread(void **state)
{
    char seen[64] = "not run";
    pthread_t thread;

    (void)state;
    assert_int_equal(gdncp_fail(GDNCP_ERR_TIMEOUT, "rank: expected 0..%d, got %d", 3, 7),
                     GDNCP_ERR_TIMEOUT);
    assert_string_equal(gdncp_last_error(), "rank: expected 0..3, got 7");
    assert_int_equal(pthread_create(&thread, NULL, read_error_of_new_thread, seen), 0);
    pthread_join(thread, NULL);
    assert_string_equal(seen, "");
    assert_string_equal(gdncp_last_error(), "rank: expected 0..3, got 7");
}

static void sentence_may_quote_the_last_one(void **state)
{
    (void)state;
    gdncp_fail(GDNCP_ERR_IO, "socket: closed");
    gdncp_fail(GDNCP_ERR_PEER_LOST, "rank 3: %s", gdncp_last_error());
    assert_string_equal(gdncp_last_error(), "rank 3: socket: closed");
    assert_int_equal(gdncp_fail_memory("a plan"), GDNCP_ERR_OUT_OF_MEMORY);
    assert_string_equal(gdncp_last_error(), "out of memory: a plan");
}

static void long_sentence_is_cut(void **state)
{
    char text[5000];

    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    gdncp_fail(GDNCP_ERR_IO, "path: %s", text);
    assert_int_equal(strlen(gdncp_last_error()), 1023);
}

static void version_is_three_numbers(void **state)
{
    int dots = 0;

    (void)state;
    for (const char *c = gdncp_version(); *c != '\0'; c++) {
        assert_true((*c >= '0' && *c <= '9') || *c == '.');
        dots += *c == '.';
    }
    assert_int_equal(dots, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_name),
        cmocka_unit_test(sentence_belongs_to_the_thread),
        cmocka_unit_test(sentence_may_quote_the_last_one),
        cmocka_unit_test(long_sentence_is_cut),
        cmocka_unit_test(version_is_three_numbers),
    };

    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
