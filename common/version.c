/* Version of the library; the build passes it. */
#include "gdncp/status.h"

const char *gdncp_version(void)
{
    return GDNCP_VERSION;
}
