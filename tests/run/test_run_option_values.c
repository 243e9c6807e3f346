/* Values of the programs' options, and the sentences of those that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "option_values.h"

static char sentence[256];

__attribute__((format(printf, 2, 3))) static gdncp_status_t fail_so(gdncp_status_t status,
                                                                    const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return status;
}

static void integers_lie_inside_their_limits(void **state)
{
    static const char *const bad[] = {"", "x", "3x", "3 ", "1", "8", "99999999999999999999"};
    int64_t value = -5;
    int number = -5;

    (void)state;
    assert_int_equal(option_integer(fail_so, "-f", "2", 2, 7, &value), GDNCP_OK);
    assert_int_equal(value, 2);
    assert_int_equal(option_int(fail_so, "-f", "7", 2, 7, &number), GDNCP_OK);
    assert_int_equal(number, 7);
    assert_int_equal(option_integer(fail_so, "-f", "-3", -4, 7, &value), GDNCP_OK);
    assert_int_equal(value, -3);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char expected[sizeof sentence];

        snprintf(expected, sizeof expected, "-f: expected an integer 2..7, got '%s'", bad[i]);
        assert_int_equal(option_int(fail_so, "-f", bad[i], 2, 7, &number),
                         GDNCP_ERR_INVALID_ARGUMENT);
        assert_string_equal(sentence, expected);
    }
    assert_int_equal(number, 7);
}

static void bytes_have_units(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {
        {"1", 1}, {"1000", 1000}, {"3K", 3 << 10}, {"5M", 5 << 20}, {"2G", INT64_C(2) << 30}};
    static const struct {
        const char *text;
        const char *sentence;
    } bad[] = {
        {"0K", "-b: expected an integer 1..2097152, got '0'"},
        {"3G", "-b: expected an integer 1..2, got '3'"},
        {"2147483649", "-b: expected an integer 1..2147483648, got '2147483649'"},
        {"K", "-b: expected an integer 1..2147483648, got 'K'"},
        {"1T", "-b: expected an integer 1..2147483648, got '1T'"},
        {"1KK", "-b: expected an integer 1..2097152, got '1K'"},
        {"0000000000000000000000000000000000001K",
         "-b: expected an integer 1..2147483648, got '0000000000000000000000000000000000001K'"},
    };
    const int64_t maximum = INT64_C(2) << 30;
    int64_t value = 0;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(option_bytes(fail_so, "-b", good[i].text, maximum, &value), GDNCP_OK);
        assert_int_equal(value, good[i].bytes);
    }
    value = -5;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(option_bytes(fail_so, "-b", bad[i].text, maximum, &value),
                         GDNCP_ERR_INVALID_ARGUMENT);
        assert_string_equal(sentence, bad[i].sentence);
    }
    assert_int_equal(value, -5);
}

static void choices_are_listed(void **state)
{
    static const char *const names[] = {"ucx", "threads", "nccl"};
    int index = -5;

    (void)state;
    assert_int_equal(option_choice(fail_so, "--transport", "nccl", names, 3, &index), GDNCP_OK);
    assert_int_equal(index, 2);
    assert_int_equal(option_choice(fail_so, "--transport", "nccl", names, 2, &index),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_string_equal(sentence, "--transport: expected ucx or threads, got 'nccl'");
    assert_int_equal(option_choice(fail_so, "--transport", "", names, 3, &index),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_string_equal(sentence, "--transport: expected ucx, threads or nccl, got ''");
    assert_int_equal(index, 2);
}

static void names_lie_between_commas(void **state)
{
    char name[OPTION_NAME_BYTES];
    const char *rest = "bf16,,a name that is longer than other,f32";

    (void)state;
    assert_true(option_next_name(&rest, name));
    assert_string_equal(name, "bf16");
    assert_true(option_next_name(&rest, name));
    assert_string_equal(name, "");
    assert_true(option_next_name(&rest, name));
    assert_string_equal(name, "");
    assert_true(option_next_name(&rest, name));
    assert_string_equal(name, "f32");
    assert_false(option_next_name(&rest, name));
    rest = "heads,"; /* an empty one ends it */
    assert_true(option_next_name(&rest, name) && option_next_name(&rest, name));
    assert_string_equal(name, "");
    assert_false(option_next_name(&rest, name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_lie_inside_their_limits),
        cmocka_unit_test(bytes_have_units),
        cmocka_unit_test(choices_are_listed),
        cmocka_unit_test(names_lie_between_commas),
    };

    return cmocka_run_group_tests_name("option_values", tests, NULL, NULL);
}
