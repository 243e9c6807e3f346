/* What this build of gdncp is, what it may use here, and the variables it reads; and pictures of
 * layouts. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdncp/gdncp.h"
#include "info.h"

gdncp_status_t info_fail(gdncp_status_t status, const char *format, ...)
{
    va_list arguments;

    fputs("gdncp-info: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return status;
}

static const char usage[] = "Usage: gdncp-info           the version, what may be used here, and "
                            "the environment variables\n"
                            "       gdncp-info layout    a picture of who holds which tokens; see "
                            "gdncp-info layout --help\n";

static int print_build(void)
{
    gdncp_core_share_t share;
    const gdncp_status_t status = gdncp_topology_bind(0, 1, &share);

    if (status != GDNCP_OK) {
        (void)info_fail(status, "%s", gdncp_last_error());
        return EXIT_FAILURE;
    }
    printf("gdncp %s\n\n", gdncp_version());
    printf("transports     %s, %s, %s, %s\n", gdncp_transport_name(GDNCP_TRANSPORT_SELF),
           gdncp_transport_name(GDNCP_TRANSPORT_THREADS), gdncp_transport_name(GDNCP_TRANSPORT_UCX),
           gdncp_transport_name(GDNCP_TRANSPORT_NCCL));
    printf("devices        cpu\n");
    printf("cores          %d that this process may use\n\n", share.num_cores);
    gdncp_environment_print(stdout);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        return print_build();
    }
    if (strcmp(argv[1], "layout") == 0) {
        return info_layout(argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    (void)info_fail(GDNCP_ERR_INVALID_ARGUMENT,
                    "command: expected layout, --help or nothing, got '%s'", argv[1]);
    return EXIT_FAILURE;
}
