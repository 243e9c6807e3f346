/* What this build of gdncp is, what it may use here, and the variables it reads. */
#include <stdio.h>
#include <stdlib.h>

#include "gdncp/gdncp.h"

int main(int argc, char **argv)
{
    gdncp_core_share_t share;

    if (argc > 1) {
        fprintf(stderr, "gdncp-info: expected no arguments, got %s\n", argv[1]);
        return EXIT_FAILURE;
    }
    if (gdncp_topology_bind(0, 1, &share) != GDNCP_OK) {
        fprintf(stderr, "gdncp-info: %s\n", gdncp_last_error());
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
