/**
 * @file
 * The environment variables that gdncp reads.
 */
#ifndef GDNCP_ENVIRONMENT_PUBLIC_H
#define GDNCP_ENVIRONMENT_PUBLIC_H

#include <stdio.h>

#include "export.h"

GDNCP_BEGIN_DECLS

/** Print every GDNCP_* variable, one a line: name, value or "unset", default, meaning. */
GDNCP_API void gdncp_environment_print(FILE *stream);

GDNCP_END_DECLS

#endif
