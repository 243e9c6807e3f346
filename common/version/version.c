/* Version of the library. */
#include "gdncp/status.h"

#ifndef GDNCP_VERSION
#error "the build defines GDNCP_VERSION"
#endif

const char *gdncp_version(void)
{
    return GDNCP_VERSION;
}
