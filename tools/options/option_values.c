#include "option_values.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

gdncp_status_t option_integer(option_fail_t *fail, const char *option, const char *text,
                              int64_t minimum, int64_t maximum, int64_t *value_p)
{
    char *end;

    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < minimum || value > maximum) {
        return fail(GDNCP_ERR_INVALID_ARGUMENT,
                    "%s: expected an integer %" PRId64 "..%" PRId64 ", got '%s'", option, minimum,
                    maximum, text);
    }
    *value_p = value;
    return GDNCP_OK;
}

gdncp_status_t option_int(option_fail_t *fail, const char *option, const char *text, int minimum,
                          int maximum, int *value_p)
{
    int64_t value = 0;
    const gdncp_status_t status = option_integer(fail, option, text, minimum, maximum, &value);

    if (status == GDNCP_OK) {
        *value_p = (int)value;
    }
    return status;
}

gdncp_status_t option_bytes(option_fail_t *fail, const char *option, const char *text,
                            int64_t maximum, int64_t *value_p)
{
    static const char units[] = "KMG";
    char digits[OPTION_NAME_BYTES];
    const size_t length = strlen(text);
    const char *const unit = length > 1 ? strchr(units, text[length - 1]) : NULL;

    if (unit == NULL || length > sizeof digits) {
        return option_integer(fail, option, text, 1, maximum, value_p);
    }
    const int shift = 10 * (int)(unit - units + 1);

    memcpy(digits, text, length - 1);
    digits[length - 1] = '\0';
    const gdncp_status_t status =
        option_integer(fail, option, digits, 1, maximum >> shift, value_p);

    if (status == GDNCP_OK) {
        *value_p <<= shift;
    }
    return status;
}

/* "a, b or c" */
static void join(const char *const *names, int num_names, char *text, size_t bytes)
{
    size_t length = 0;

    text[0] = '\0';
    for (int i = 0; i < num_names && length < bytes; i++) {
        const char *const before = i == 0 ? "" : i == num_names - 1 ? " or " : ", ";

        length += (size_t)snprintf(text + length, bytes - length, "%s%s", before, names[i]);
    }
}

gdncp_status_t option_choice(option_fail_t *fail, const char *option, const char *text,
                             const char *const *names, int num_names, int *index_p)
{
    char all[128];

    for (int i = 0; i < num_names; i++) {
        if (strcmp(text, names[i]) == 0) {
            *index_p = i;
            return GDNCP_OK;
        }
    }
    join(names, num_names, all, sizeof all);
    return fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected %s, got '%s'", option, all, text);
}

bool option_next_name(const char **rest_p, char *name)
{
    const char *const item = *rest_p;

    if (item == NULL) {
        return false;
    }
    const size_t length = strcspn(item, ",");

    snprintf(name, OPTION_NAME_BYTES, "%.*s", length < OPTION_NAME_BYTES ? (int)length : 0, item);
    *rest_p = item[length] == ',' ? item + length + 1 : NULL;
    return true;
}
