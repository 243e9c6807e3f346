#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "log.h"

/* What fill() logs on stderr, as text of at most size - 1 bytes. */
static void capture(void (*fill)(void), char *text, size_t size)
{
    FILE *const file = tmpfile();
    const int saved = dup(STDERR_FILENO);

    assert_non_null(file);
    assert_true(saved >= 0);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    fill();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void one_of_each(void)
{
    gdncp_log(GDNCP_LOG_ERROR, 2, "disk %d", 1);
    gdncp_log(GDNCP_LOG_WARN, -1, "disk %d", 2);
    gdncp_log(GDNCP_LOG_INFO, 0, "disk %d", 3);
    gdncp_log(GDNCP_LOG_DEBUG, 1, "disk %d", 4);
}

static void nothing_is_printed_unasked(void **state)
{
    char text[4096];

    (void)state;
    unsetenv("GDNCP_LOG");
    capture(one_of_each, text, sizeof text);
    assert_string_equal(text, "");
}

static void level_is_a_threshold(void **state)
{
    static const struct {
        const char *level;
        const char *lines;
    } cases[] = {
        {"error", "gdncp error [rank 2] disk 1\n"},
        {"warn", "gdncp error [rank 2] disk 1\ngdncp warn disk 2\n"},
        {"info", "gdncp error [rank 2] disk 1\ngdncp warn disk 2\ngdncp info [rank 0] disk 3\n"},
        {"debug", "gdncp error [rank 2] disk 1\ngdncp warn disk 2\ngdncp info [rank 0] disk 3\n"
                  "gdncp debug [rank 1] disk 4\n"},
    };
    char text[4096];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setenv("GDNCP_LOG", cases[i].level, 1);
        capture(one_of_each, text, sizeof text);
        assert_string_equal(text, cases[i].lines);
    }
}

static void unknown_level_is_told_once(void **state)
{
    static const char error_line[] = "gdncp error [rank 2] disk 1\n";
    char text[4096];

    (void)state;
    setenv("GDNCP_LOG", "loud", 1);
    capture(one_of_each, text, sizeof text);
    assert_non_null(strstr(text, "GDNCP_LOG: expected error, warn, info or debug, got \"loud\"\n"));
    assert_non_null(strstr(text, error_line));
    assert_null(strstr(text, "disk 2"));
    capture(one_of_each, text, sizeof text);
    assert_string_equal(text, error_line);
}

static void long_message_with_breaks(void)
{
    char message[5000];

    memset(message, 'm', sizeof message);
    message[3] = '\n';
    message[sizeof message - 1] = '\0';
    gdncp_log(GDNCP_LOG_ERROR, 2147483647, "%s", message);
}

static void a_message_is_one_line(void **state)
{
    char text[8192];

    (void)state;
    setenv("GDNCP_LOG", "error", 1);
    capture(long_message_with_breaks, text, sizeof text);
    assert_memory_equal(text, "gdncp error [rank 2147483647] mmm mmm", 36);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_true(strlen(text) > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_printed_unasked),
        cmocka_unit_test(level_is_a_threshold),
        cmocka_unit_test(unknown_level_is_told_once),
        cmocka_unit_test(a_message_is_one_line),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
