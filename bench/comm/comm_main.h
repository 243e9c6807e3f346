/* The program that times exchanges. */
#ifndef GDNCP_BENCH_COMM_MAIN_H
#define GDNCP_BENCH_COMM_MAIN_H

#include <stdbool.h>

/* Whether an argument is the name of one of its benchmarks. */
bool comm_is_asked_for(int argc, char **argv);

/* What main() is to return. */
int comm_main(int argc, char **argv);

#endif
