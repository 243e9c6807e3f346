/* gdncp-bench-comm: time exchanges beside what the machine's memory could do. */
#include <stdio.h>

#include "comm_launch.h"
#include "gdncp/gdncp.h"

static void list(void)
{
    for (int i = 0; comm_registry[i] != NULL; i++) {
        printf("%-20s %s\n", comm_registry[i]->name, comm_registry[i]->about);
    }
}

int main(int argc, char **argv)
{
    comm_program_t program = {.argc = argc, .argv = argv};
    const gdncp_status_t status = comm_options_parse(argc, argv, &program.options);

    if (status != GDNCP_OK) {
        return comm_say(-1, status, 0);
    }
    switch (program.options.request) {
    case COMM_HELP:
        fputs(comm_options_help(), stdout);
        return 0;
    case COMM_VERSION:
        printf("gdncp-bench-comm %s\n", gdncp_version());
        return 0;
    case COMM_LIST:
        list();
        return 0;
    default:
        return comm_launch(&program);
    }
}
