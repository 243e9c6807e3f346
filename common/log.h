/* Log lines on stderr, only when GDNCP_LOG asks for them. */
#ifndef GDNCP_LOG_H
#define GDNCP_LOG_H

typedef enum gdncp_log_level {
    GDNCP_LOG_ERROR = 1,
    GDNCP_LOG_WARN,
    GDNCP_LOG_INFO,
    GDNCP_LOG_DEBUG
} gdncp_log_level_t;

/* One line "gdncp info [rank 2] message"; dropped below the level GDNCP_LOG names. rank < 0: none.
 */
void gdncp_log(gdncp_log_level_t level, int rank, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
