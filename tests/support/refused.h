/* Checks of what a refused argument is told. Include cmocka.h before. */
#ifndef GDNCP_TEST_REFUSED_H
#define GDNCP_TEST_REFUSED_H

#include <string.h>

#include "error.h"

/* That the status is of an invalid argument, and that the sentence begins with its name and holds
 * all parts, up to NULL. */
static inline void check_refused_parts(gdncp_status_t status, const char *argument,
                                       const char *const *parts)
{
    const char *const sentence = gdncp_last_error();

    assert_int_equal(status, GDNCP_ERR_INVALID_ARGUMENT);
    if (strncmp(sentence, argument, strlen(argument)) != 0) {
        fail_msg("\"%s\" does not begin with \"%s\"", sentence, argument);
    }
    for (int i = 0; parts[i] != NULL; i++) {
        if (strstr(sentence, parts[i]) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", sentence, parts[i]);
        }
    }
    gdncp_fail(GDNCP_OK, "the sentence of an earlier error");
}

#define check_refused(status, argument, ...)                                                       \
    check_refused_parts(status, argument, (const char *const[]){__VA_ARGS__, NULL})

#endif
