/* gdncp-bench-comm: time exchanges beside what the machine's memory could do. */
#include "comm_main.h"

int main(int argc, char **argv)
{
    return comm_main(argc, argv);
}
