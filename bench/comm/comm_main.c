/* The program that times exchanges: gdncp-bench-comm, or gdncp-bench asked for one of them. */
#include "comm_main.h"

#include <stdio.h>
#include <string.h>

#include "comm_launch.h"
#include "gdncp/gdncp.h"

static void list(void)
{
    for (int i = 0; comm_registry[i] != NULL; i++) {
        printf("%-20s %s\n", comm_registry[i]->name, comm_registry[i]->about);
    }
}

bool comm_is_asked_for(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        for (int j = 0; comm_registry[j] != NULL; j++) {
            if (strcmp(argv[i], comm_registry[j]->name) == 0) {
                return true;
            }
        }
    }
    return false;
}

int comm_main(int argc, char **argv)
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
