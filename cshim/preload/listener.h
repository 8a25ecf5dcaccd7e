/* listener.h - a listening TCP socket that is not there: the program's descriptor is a Unix socket that
 * connections are sent to. Everything it pretends is in the struct below, which the descriptor carries. */
#ifndef SOCKETBOX_PRELOAD_LISTENER_H
#define SOCKETBOX_PRELOAD_LISTENER_H

#include "options.h"
#include "place.h"
#include "present.h"

enum { MAX_SIBLINGS = 4, SIBLING_NAME = 16 };

/* Another listener of this program at the same path, bound to another address (0.0.0.0 and [::], say). It has
 * a socket of its own, connected to the one at the path, which passes on what belongs there. */
struct sibling {
    struct sockaddr_in6 name;
    uint16_t v6only, length;
    char socket[SIBLING_NAME]; /* sun_path: a name the kernel chose, in the abstract namespace */
};

struct listener {
    struct sockaddr_in6 name; /* what was bound; or a sockaddr_in in its first bytes */
    int32_t protocol;
    uint16_t type;      /* SOCK_DGRAM: receives connections; SOCK_STREAM: a plain Unix listener */
    uint8_t listening;  /* listen was called, shutdown was not */
    uint8_t shut;       /* shutdown was called since */
    uint8_t is_sibling; /* the path is another listener's */
    uint8_t sibling_count;
    uint8_t v6only, reuse_port;
    uint8_t adopted; /* the socket is a manager's, who holds it too, and its file is not ours */
    struct place_file file;
    char path[SOCKET_PATH_ROOM];
    struct sibling siblings[MAX_SIBLINGS];
    struct options options; /* last: only as much travels as there is */
};

extern struct environment environment; /* prepare.c */

/* What fd carries; false: it is no virtual listener. */
bool listener_read(int fd, struct listener *listener);
/* The same, and the hint of one that is none is dropped. */
bool listener_load(int fd, struct listener *listener);

/* Each does what the call of its name does to a TCP socket. 0 (or a length, or a descriptor) or -errno. */
int listener_bind(int fd, const struct decision *decision, const struct sockaddr *address, socklen_t length,
                  uint16_t invented_port);
int listener_listen(int fd, struct listener *listener, int backlog);
int listener_shutdown(int fd, struct listener *listener, int how);
int listener_wake(const struct listener *listener);
int listener_connect(const struct listener *listener, const struct sockaddr *address, socklen_t length);
int listener_ioctl(int fd, const struct listener *listener, unsigned long request, void *argument);
int listener_get_option(int fd, const struct listener *listener, int level, int name, void *value,
                        socklen_t *length);
int listener_set_option(int fd, struct listener *listener, int level, int name, const void *value,
                        socklen_t length);
int listener_close(int fd);
/* This process accepts at a sibling: when it closes that, it gives back what waits there. */
void listener_serves_sibling(void);
void listener_name(const struct listener *listener, union name *name, socklen_t *length);

/* Copies an address out as the kernel does: cut to *length, which becomes the true length. */
int hand_out(const union name *name, socklen_t name_length, struct sockaddr *address, socklen_t *length);

#endif
