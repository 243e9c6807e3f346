/* Checks of errors. To be included after cmocka.h. */
#ifndef GDNCP_TEST_LAYOUTS_CHECK_H
#define GDNCP_TEST_LAYOUTS_CHECK_H

#include <stdarg.h>
#include <string.h>

#include "error.h"
#include "gdncp/status.h"

/* The status of an invalid argument, and a sentence that begins with its name and holds all else
 * that is listed, up to NULL. */
static inline void check_refused(gdncp_status_t status, const char *argument, ...)
{
    const char *const sentence = gdncp_last_error();
    const char *part;
    va_list parts;

    assert_int_equal(status, GDNCP_ERR_INVALID_ARGUMENT);
    if (strncmp(sentence, argument, strlen(argument)) != 0) {
        fail_msg("\"%s\" does not begin with \"%s\"", sentence, argument);
    }
    va_start(parts, argument);
    while ((part = va_arg(parts, const char *)) != NULL) {
        if (strstr(sentence, part) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", sentence, part);
        }
    }
    va_end(parts);
    gdncp_fail(GDNCP_OK, "the sentence of an earlier error");
}

#endif
