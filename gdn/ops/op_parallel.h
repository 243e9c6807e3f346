/* Loops over independent work items: on OpenMP threads, or in order without OpenMP. */
#ifndef GDNCP_OP_PARALLEL_H
#define GDNCP_OP_PARALLEL_H

#include <stdint.h>

/* Work on one item; thread < the num_threads of the loop says whose scratch to use. */
typedef void (*gdncp_parallel_body_t)(void *context, int64_t item, int thread);

/* Threads worth having for num_items, 1 at least: what scratch is sized for. */
int gdncp_parallel_num_threads(int64_t num_items);

/* Run body for each item in [0, num_items), with subnormal numbers as zeros on x86: a state that
 * decays through them would be a hundred times slower for a while, to no one's use. Which thread
 * takes an item is not fixed, so the result of an item may depend on nothing but the item. */
void gdncp_parallel_for(int64_t num_items, int num_threads, gdncp_parallel_body_t body,
                        void *context);

#endif
