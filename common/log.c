/* Log lines on stderr. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "environment.h"

static const char *const level_names[] = {
    [GDNCP_LOG_ERROR] = "error",
    [GDNCP_LOG_WARN] = "warn",
    [GDNCP_LOG_INFO] = "info",
    [GDNCP_LOG_DEBUG] = "debug",
};

/* A message may hold a file's or a peer's text: line breaks in it must not make new lines. */
static void write_line(const char *level, int rank, const char *message)
{
    char line[1200];
    int length = rank < 0
                     ? snprintf(line, sizeof line, "gdncp %s %s\n", level, message)
                     : snprintf(line, sizeof line, "gdncp %s [rank %d] %s\n", level, rank, message);

    for (int i = 0; i < length - 1; i++) {
        if (line[i] == '\n' || line[i] == '\r') {
            line[i] = ' ';
        }
    }
    /* One call a line, so that lines of several ranks do not mix. */
    fwrite(line, 1, (size_t)length, stderr);
}

/* The level GDNCP_LOG names; 0 when unset. An unknown name is told once and means errors only. */
static int asked_level(void)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    const char *const text = gdncp_environment_text(GDNCP_VARIABLE_LOG);
    char message[128];

    if (text == NULL) {
        return 0;
    }
    for (int level = GDNCP_LOG_ERROR; level <= GDNCP_LOG_DEBUG; level++) {
        if (strcmp(text, level_names[level]) == 0) {
            return level;
        }
    }
    if (!atomic_flag_test_and_set(&told)) {
        snprintf(message, sizeof message,
                 "GDNCP_LOG: expected error, warn, info or debug, got \"%s\"", text);
        write_line(level_names[GDNCP_LOG_ERROR], -1, message);
    }
    return GDNCP_LOG_ERROR;
}

void gdncp_log(gdncp_log_level_t level, int rank, const char *format, ...)
{
    char message[1024];
    va_list arguments;

    if ((int)level > asked_level()) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    write_line(level_names[level], rank, message);
}
