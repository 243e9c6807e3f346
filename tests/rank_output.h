/* What forked ranks write, kept apart for the case that it is wanted. */
#ifndef GDNCP_RANK_OUTPUT_H
#define GDNCP_RANK_OUTPUT_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* In the parent, before the rank is forked. */
static inline FILE *open_rank_output(void)
{
    FILE *const file = tmpfile();

    if (file == NULL) {
        abort();
    }
    return file;
}

/* In the rank. */
static inline void write_to_rank_output(FILE *file)
{
    fflush(NULL);
    dup2(fileno(file), STDOUT_FILENO);
    dup2(fileno(file), STDERR_FILENO);
}

/* In the parent, after the rank's end: its last lines. */
static inline const char *read_rank_output(FILE *file)
{
    enum { LAST_BYTES = 4096 };
    static char text[LAST_BYTES + 1];

    fseek(file, 0, SEEK_END);
    fseek(file, ftell(file) > LAST_BYTES ? -LAST_BYTES : -ftell(file), SEEK_CUR);
    text[fread(text, 1, LAST_BYTES, file)] = '\0';
    return text;
}

#endif
