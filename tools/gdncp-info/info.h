/* What the commands of gdncp-info have in common. */
#ifndef GDNCP_INFO_H
#define GDNCP_INFO_H

#include "gdncp/status.h"

/* Print a sentence to stderr, after the program's name. Returns the status. */
__attribute__((format(printf, 2, 3))) gdncp_status_t info_fail(gdncp_status_t status,
                                                               const char *format, ...);

/* "gdncp-info layout": argv[0] is "layout". Returns the exit status. */
int info_layout(int argc, char **argv);

#endif
