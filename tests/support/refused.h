/* Checks of what a refused argument is told. Include cmocka.h before. */
#ifndef GDNCP_TEST_REFUSED_H
#define GDNCP_TEST_REFUSED_H

#include <string.h>

#include "error.h"

/* That the sentence begins with the argument's name and says what came. */
static inline void check_refused(gdncp_status_t status, const char *argument, const char *got)
{
    assert_int_equal(status, GDNCP_ERR_INVALID_ARGUMENT);
    if (strncmp(gdncp_last_error(), argument, strlen(argument)) != 0 ||
        strstr(gdncp_last_error(), got) == NULL) {
        fail_msg("\"%s\" should begin with \"%s\" and say \"%s\"", gdncp_last_error(), argument,
                 got);
    }
    gdncp_fail(GDNCP_OK, "the sentence of an earlier error");
}

#endif
