/* The watch as its own files see it. All but abort and leave run on the communicator's thread; the
 * mutex is held in all that is below. */
#ifndef GDNCP_WATCH_INTERNAL_H
#define GDNCP_WATCH_INTERNAL_H

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "watch.h"

enum { GDNCP_WATCH_TEXT_BYTES = 240, GDNCP_WATCH_MAX_VISITORS = 16 };

typedef struct gdncp_bytes {
    char *data;
    size_t begin; /* what lies before is dealt with */
    size_t end;
    size_t capacity;
} gdncp_bytes_t;

/* First on every connection, from both sides. */
typedef struct gdncp_watch_greeting {
    uint64_t magic;
    uint64_t token; /* of who listened */
    int32_t rank;   /* who sends it */
    int32_t zero;
} gdncp_watch_greeting_t;

typedef enum gdncp_link_state {
    GDNCP_LINK_AWAITED, /* the peer will connect */
    GDNCP_LINK_RESTING, /* until the next try to connect */
    GDNCP_LINK_CONNECTING,
    GDNCP_LINK_GREETING, /* connected; the peer's greeting is not here yet */
    GDNCP_LINK_UP,
    GDNCP_LINK_CLOSED
} gdncp_link_state_t;

typedef struct gdncp_link {
    int peer;
    gdncp_link_state_t state;
    int fd; /* -1: none */
    int candidate;
    int num_refused; /* of the candidates of this round */
    int64_t next_ms; /* when a try is given up, or begins */
    gdncp_bytes_t in;
    gdncp_bytes_t out; /* sent once the link is up */
} gdncp_link_t;

typedef struct gdncp_visitor {
    int fd; /* -1: none */
    int64_t since_ms;
    size_t num_received;
    gdncp_watch_greeting_t greeting;
} gdncp_visitor_t;

typedef enum gdncp_fate { GDNCP_FATE_ALIVE, GDNCP_FATE_LEFT, GDNCP_FATE_LOST } gdncp_fate_t;

/* What is known of a rank. */
typedef struct gdncp_watched {
    gdncp_fate_t fate;
    int seen_by;
    char text[GDNCP_WATCH_TEXT_BYTES];
    bool has_joined; /* the agreement */
    void *record;
    size_t record_bytes;
    bool *set; /* [size]: whom it announced as gone; NULL: nothing yet */
} gdncp_watched_t;

typedef enum gdncp_news {
    GDNCP_NEWS_LOST = 1, /* of rank, seen by another; text */
    GDNCP_NEWS_LEFT,     /* text: why */
    GDNCP_NEWS_ABORT,    /* by rank; text: why */
    GDNCP_NEWS_JOIN,     /* rank's record */
    GDNCP_NEWS_ANNOUNCE, /* rank's set */
    GDNCP_NEWS_DECIDE    /* the set */
} gdncp_news_t;

typedef struct gdncp_watch_frame {
    uint32_t magic;
    uint32_t news;
    int32_t rank;
    int32_t seen_by;
    uint64_t bytes; /* that follow */
} gdncp_watch_frame_t;

struct gdncp_watch {
    pthread_mutex_t mutex;
    gdncp_watch_address_t address;
    int listeners[2]; /* UNIX, TCP; -1: none */
    int rank;
    int size;
    int64_t timeout_ms;
    int64_t connect_ms; /* when gdncp_watch_connect() was called */
    int64_t next_look_ms;
    const gdncp_watch_address_t *peers; /* [size], a copy */
    gdncp_liveness_t liveness;
    int num_links;
    gdncp_link_t *links;
    gdncp_visitor_t visitors[GDNCP_WATCH_MAX_VISITORS];
    struct pollfd *polled; /* [num_links + 2 + GDNCP_WATCH_MAX_VISITORS] */

    gdncp_watched_t *watched; /* [size] */
    bool *own_set;            /* [size] */
    bool *decided_set;        /* [size] */
    bool decided;
    atomic_bool has_news;  /* not yet told by gdncp_watch_look() */
    atomic_bool has_ended; /* first_lost, aborted_by or given_up is set */
    int first_lost;        /* -1: nobody */
    int64_t lost_ms;
    int aborted_by; /* -1: nobody */
    char abort_text[GDNCP_WATCH_TEXT_BYTES];
    bool given_up; /* by the others */
    bool has_left;
};

/* watch_address.c */

/* Fill in the watch's address, and listen there. */
gdncp_status_t gdncp_watch_listen(gdncp_watch_t *watch);
bool gdncp_watch_is_near(const gdncp_watch_address_t *a, const gdncp_watch_address_t *b);
/* The n-th address at which a peer may be; false where there is none. */
bool gdncp_watch_candidate(const gdncp_watch_t *watch, const gdncp_watch_address_t *peer, int n,
                           struct sockaddr_storage *address, socklen_t *bytes_p);
void gdncp_watch_tune_socket(const gdncp_watch_t *watch, int fd);

/* watch_links.c */

/* Wait up to wait_ms for a socket to be ready, then serve all that are. */
void gdncp_links_serve(gdncp_watch_t *watch, int wait_ms);
/* Send to all neighbours, at once as far as the sockets take it. */
void gdncp_links_flood(gdncp_watch_t *watch, gdncp_news_t news, int rank, int seen_by,
                       const void *data, size_t bytes);
/* Whether all that was flooded has left this process. */
bool gdncp_links_are_flushed(const gdncp_watch_t *watch);
/* Expect no connection of a peer that is gone any more. */
void gdncp_links_forget(gdncp_watch_t *watch, int peer);
void gdncp_links_close(gdncp_watch_t *watch);
/* Make a connection that was accepted the link that awaits it; false where none does. */
bool gdncp_link_adopt(gdncp_watch_t *watch, const gdncp_watch_greeting_t *greeting, int fd);

/* watch_visitors.c */

/* After a poll of visitors [GDNCP_WATCH_MAX_VISITORS] and listeners [2]. */
void gdncp_visitors_serve(gdncp_watch_t *watch, const struct pollfd *of_visitors,
                          const struct pollfd *of_listeners, int64_t now_ms);
/* Let nobody in any more. */
void gdncp_visitors_close(gdncp_watch_t *watch);

/* watch.c */

/* A frame that is whole and whose rank is one of the communicator's. */
void gdncp_watch_hear(gdncp_watch_t *watch, const gdncp_watch_frame_t *frame, const void *data);
void gdncp_watch_lose(gdncp_watch_t *watch, int rank, int seen_by, const char *text);
/* The status and sentence of what ended all waits; something has. */
gdncp_status_t gdncp_watch_fail_ended(const gdncp_watch_t *watch);
/* Serve the sockets, waiting up to wait_ms for one to be ready; then look for processes' ends. */
void gdncp_watch_serve(gdncp_watch_t *watch, int wait_ms);
/* Send what is still to be sent, until the deadline. */
void gdncp_watch_flush(gdncp_watch_t *watch, int64_t deadline);

/* watch_agree.c */
void gdncp_watch_hear_join(gdncp_watch_t *watch, int rank, const void *record, size_t bytes);
void gdncp_watch_hear_announce(gdncp_watch_t *watch, int rank, const bool *set);
void gdncp_watch_hear_decide(gdncp_watch_t *watch, const bool *set);

#endif
