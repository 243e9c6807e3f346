/* Stacks that take turns on one thread of the host. */
#ifndef GDNCP_EMULATOR_FIBRE_H
#define GDNCP_EMULATOR_FIBRE_H

#include <cstddef>

namespace gdncp_emulated
{

struct fibre {
    void *context; /* where it goes on */
    const void *stack;
    size_t stack_bytes;
    void *address_sanitizer; /* its frames that outlive calls */
    void *thread_sanitizer;  /* who it is: fibres are threads there */
    void (*entry)(void *argument);
    void *argument;
};

/* Address space for stacks; memory is taken as it is touched. */
char *map_stacks(size_t count, size_t stack_bytes);
void unmap_stacks(char *stacks, size_t count, size_t stack_bytes);

/* A fibre on a stack, whose lowest page becomes a guard; fibre_start() says what it does. */
void fibre_create(fibre *made, char *stack, size_t stack_bytes);
void fibre_destroy(fibre *made);

/* When switched to, call entry(argument), which never returns. Whatever it did before is over. */
void fibre_start(fibre *started, void (*entry)(void *argument), void *argument);

/* The calling thread's own stack as a fibre, to be switched from. */
void fibre_adopt_thread(fibre *adopted);

/* Go on with `to`; returns when somebody switches to `from`. Orders no memory. */
void fibre_switch(fibre *from, fibre *to);

} /* namespace gdncp_emulated */

#endif
