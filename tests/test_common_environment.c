#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "environment.h"
#include "gdncp/environment.h"

static int clear_variables(void **state)
{
    (void)state;
    unsetenv("GDNCP_LOG");
    unsetenv("GDNCP_TIMEOUT");
    unsetenv("GDNCP_PORT");
    unsetenv("GDNCP_EMULATOR_SEED");
    return 0;
}

static void unset_and_empty_are_the_same(void **state)
{
    int64_t value = -1;

    (void)state;
    assert_null(gdncp_environment_text(GDNCP_VARIABLE_LOG));
    assert_null(gdncp_launcher_variable("GDNCP_LOG"));
    setenv("GDNCP_LOG", "", 1);
    setenv("GDNCP_TIMEOUT", "", 1);
    assert_null(gdncp_environment_text(GDNCP_VARIABLE_LOG));
    assert_int_equal(gdncp_environment_integer(GDNCP_VARIABLE_TIMEOUT, 1, 9, 7, &value), GDNCP_OK);
    assert_int_equal(value, 7);
}

static void text_is_the_variable(void **state)
{
    (void)state;
    setenv("GDNCP_LOG", "info", 1);
    setenv("GDNCP_PORT", "29501", 1);
    assert_string_equal(gdncp_environment_text(GDNCP_VARIABLE_LOG), "info");
    assert_string_equal(gdncp_environment_text(GDNCP_VARIABLE_PORT), "29501");
    assert_string_equal(gdncp_launcher_variable("GDNCP_PORT"), "29501");
}

static void integers_have_bounds(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {
        {"0", 0},
        {"65535", 65535},
        {"80", 80},
        {"-3", -3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = -1;

        setenv("GDNCP_PORT", cases[i].text, 1);
        assert_int_equal(gdncp_environment_integer(GDNCP_VARIABLE_PORT, -3, 65535, 5, &value),
                         GDNCP_OK);
        assert_int_equal(value, cases[i].value);
    }
}

static void a_seed_is_an_integer(void **state)
{
    int64_t value = -1;

    (void)state;
    setenv("GDNCP_EMULATOR_SEED", "9223372036854775807", 1);
    assert_int_equal(
        gdncp_environment_integer(GDNCP_VARIABLE_EMULATOR_SEED, 0, INT64_MAX, 0, &value), GDNCP_OK);
    assert_int_equal(value, INT64_MAX);
}

static void other_text_is_an_error_that_names_the_variable(void **state)
{
    static const char *const texts[] = {
        "x", "12x", "1.5", "0x10", "-1", "65536", "99999999999999999999", "-99999999999999999999",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int64_t value = -7;

        setenv("GDNCP_PORT", texts[i], 1);
        assert_int_equal(gdncp_environment_integer(GDNCP_VARIABLE_PORT, 0, 65535, 5, &value),
                         GDNCP_ERR_INVALID_ARGUMENT);
        assert_int_equal(value, -7);
        assert_non_null(strstr(gdncp_last_error(), "GDNCP_PORT"));
        assert_non_null(strstr(gdncp_last_error(), "0..65535"));
        assert_non_null(strstr(gdncp_last_error(), texts[i]));
    }
    setenv("GDNCP_PORT", "9223372036854775808", 1);
    assert_int_equal(
        gdncp_environment_integer(GDNCP_VARIABLE_PORT, INT64_MIN, INT64_MAX, 5, &(int64_t){0}),
        GDNCP_ERR_INVALID_ARGUMENT);
}

static void table_has_every_variable(void **state)
{
    char *text = NULL;
    size_t size = 0;
    int lines = 0;
    FILE *const stream = open_memstream(&text, &size);

    (void)state;
    setenv("GDNCP_TIMEOUT", "1234", 1);
    gdncp_environment_print(stream);
    fclose(stream);
    assert_non_null(strstr(text, "GDNCP_LOG"));
    assert_non_null(strstr(text, "GDNCP_TIMEOUT"));
    assert_non_null(strstr(text, "1234"));
    assert_non_null(strstr(text, "GDNCP_PORT"));
    assert_non_null(strstr(text, "GDNCP_CUDA"));
    assert_non_null(strstr(text, "GDNCP_EMULATOR_SEED"));
    assert_non_null(strstr(text, "GDNCP_FLIGHT_RECORD"));
    assert_non_null(strstr(text, "unset"));
    for (size_t i = 0; i < size; i++) {
        lines += text[i] == '\n';
    }
    assert_int_equal(lines, GDNCP_NUM_VARIABLES);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(unset_and_empty_are_the_same, clear_variables),
        cmocka_unit_test_setup(text_is_the_variable, clear_variables),
        cmocka_unit_test_setup(integers_have_bounds, clear_variables),
        cmocka_unit_test_setup(a_seed_is_an_integer, clear_variables),
        cmocka_unit_test_setup(other_text_is_an_error_that_names_the_variable, clear_variables),
        cmocka_unit_test_setup(table_has_every_variable, clear_variables),
    };

    return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
