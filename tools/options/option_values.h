/* Values of options, for the programs; they are no part of the library. */
#ifndef GDNCP_OPTION_VALUES_H
#define GDNCP_OPTION_VALUES_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/status.h"

/* How a program records the sentence of an error, which names the option, what was expected and
 * what came. It returns the status. */
typedef gdncp_status_t option_fail_t(gdncp_status_t status, const char *format, ...);

/* minimum..maximum. What the pointers below point to is set on success only. */
gdncp_status_t option_integer(option_fail_t *fail, const char *option, const char *text,
                              int64_t minimum, int64_t maximum, int64_t *value_p);
gdncp_status_t option_int(option_fail_t *fail, const char *option, const char *text, int minimum,
                          int maximum, int *value_p);

/* A number of bytes, 1..maximum, which may end in K, M or G for powers of 1024. */
gdncp_status_t option_bytes(option_fail_t *fail, const char *option, const char *text,
                            int64_t maximum, int64_t *value_p);

/* Which of names [num_names] it is. */
gdncp_status_t option_choice(option_fail_t *fail, const char *option, const char *text,
                             const char *const *names, int num_names, int *index_p);

enum { OPTION_NAME_BYTES = 32 };

/*
 * Take the next of some names with commas between from *rest_p, which begins as the whole text;
 * false after the last. name [OPTION_NAME_BYTES] is empty where it is longer than that.
 */
bool option_next_name(const char **rest_p, char *name);

#endif
