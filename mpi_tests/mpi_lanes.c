/* What carries data to every other rank: each lane must be of the kind that the argument names. */
#include <stdio.h>
#include <string.h>

#include "gdncp/comm.h"

/* UCX names the lanes to a peer "tcp/eth0 …": all begin with the kind. */
static int check_peer(gdncp_comm_t *comm, int peer, const char *kind)
{
    char text[512];

    if (gdncp_comm_describe_lanes(comm, peer, text, sizeof text) != GDNCP_OK) {
        fprintf(stderr, "rank %d: %s\n", gdncp_comm_rank(comm), gdncp_last_error());
        return 1;
    }
    int num_wrong = text[0] == '\0';

    for (const char *lane = text; lane != NULL; lane = strchr(lane, ' ')) {
        lane += *lane == ' ';
        num_wrong += strncmp(lane, kind, strlen(kind)) != 0;
    }
    if (num_wrong > 0) {
        fprintf(stderr, "rank %d: expected lanes of %s to rank %d, got \"%s\"\n",
                gdncp_comm_rank(comm), kind, peer, text);
    }
    return num_wrong;
}

int main(int argc, char **argv)
{
    const char *const kind = argc > 1 ? argv[1] : "";
    gdncp_comm_t *comm = NULL;
    int num_wrong = 0;

    if (gdncp_comm_create_from_environment(NULL, &comm) != GDNCP_OK) {
        fprintf(stderr, "%s\n", gdncp_last_error());
        return 1;
    }
    for (int peer = 0; peer < gdncp_comm_size(comm); peer++) {
        num_wrong += peer != gdncp_comm_rank(comm) ? check_peer(comm, peer, kind) : 0;
    }
    const gdncp_status_t status =
        gdncp_comm_agree(comm, num_wrong == 0 ? GDNCP_OK : GDNCP_ERR_INTERNAL);

    if (status == GDNCP_OK && gdncp_comm_rank(comm) == 0) {
        printf("lanes of %s between %d ranks\n", kind, gdncp_comm_size(comm));
    }
    gdncp_comm_destroy(comm);
    return status != GDNCP_OK;
}
