/* internal.h - what the C files share among themselves: ownership of descriptors, and addresses. */
#ifndef SOCKETBOX_INTERNAL_H
#define SOCKETBOX_INTERNAL_H

#include "socketbox.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* SB_CLOSE int fd: closed when it goes out of scope, unless SB_TAKE(fd) passed it on. 0 is a descriptor. */
static inline void sb_close_owned(int *fd) {
    if (*fd >= 0)
        close(*fd);
}
static inline int sb_take_owned(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}
#define SB_CLOSE __attribute__((cleanup(sb_close_owned)))
#define SB_TAKE(fd) sb_take_owned(&(fd))

#define SB_PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)

/* The address of a Unix socket: a path, or @name in the abstract namespace (unix(7)). -ENAMETOOLONG past 107
 * bytes. */
int sb_unix_address(const char *path, struct sockaddr_un *address, socklen_t *length);

/* The two halves of a flow: the local one asked of the socket, the remote one from an address already at
 * hand. */
int sb_flow_local(int fd, struct sb_flow *flow);
void sb_flow_remote(struct sb_flow *flow, const struct sockaddr_storage *remote);

/* no_new_privs and the system call filter, on every thread of this process, for good. */
int sb_confine(void);

/* splice.c for relay.c: moves what these events of its two sockets allow, which are watched edge-triggered
 * for IN, OUT, RDHUP and PRI. Returns which ways have more to move than one turn may. */
enum { SB_MORE_UP = 1, SB_MORE_DOWN = 2 };
int sb_move_both(struct sb_relay *relay, struct sb_pipes *pipes, uint32_t client_events,
                 uint32_t target_events);
void sb_return_pipe(struct sb_pipes *pipes, struct sb_way *way);

/* A bit of sb_way.seen that epoll(7) has no use for: a short read does not mean that there is no more, as
 * with a Unix socket, which keeps messages with descriptors apart. */
#define SB_READ_TO_THE_END (1u << 26)

#endif
