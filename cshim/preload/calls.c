/* calls.c - one function for each wrapped call that may concern a virtual listener. */
#define _GNU_SOURCE
#include "calls.h"

#include "directory.h"
#include "guest.h"
#include "hints.h"
#include "listener.h"
#include "receive.h"
#include "swap.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum { FIRST_DYNAMIC_PORT = 49152, DYNAMIC_PORTS = 16384 }; /* RFC 6335 */

static int get_int(int fd, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    return real.getsockopt(fd, SOL_SOCKET, name, &value, &length) < 0 ? -errno : value;
}

static bool is_tcp(int fd) {
    int domain = get_int(fd, SO_DOMAIN), protocol = get_int(fd, SO_PROTOCOL);
    return get_int(fd, SO_TYPE) == SOCK_STREAM && (domain == AF_INET || domain == AF_INET6) &&
           (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

static bool is_of_family(int fd, sa_family_t family) {
    int domain = get_int(fd, SO_DOMAIN);
    return domain == family || (family == AF_UNSPEC && domain == AF_INET);
}

static bool is_bound(int fd) {
    union name name = {0};
    socklen_t length = sizeof name;
    return real.getsockname(fd, &name.any, &length) == 0 && name.in6.sin6_port;
}

/* For port 0 the kernel would choose one; here the socket's inode does, so that no two sockets share it. */
static uint16_t invent_port(int fd) {
    struct stat info;
    return fstat(fd, &info) < 0 ? FIRST_DYNAMIC_PORT
                                : (uint16_t)(FIRST_DYNAMIC_PORT + info.st_ino % DYNAMIC_PORTS);
}

int call_bind(int fd, const struct sockaddr *address, socklen_t length) {
    UNCANCELLED;
    struct listener listener;
    struct decision decision;
    if (hint_is(fd, HINT_LISTENER) && listener_load(fd, &listener))
        return -EINVAL; /* bound already */
    uint16_t port = environment.mapped ? invent_port(fd) : 0;
    decision.outcome = OUTCOME_DIRECT;
    if (address)
        decide_bind(&environment, address, length, port, &decision);
    if (decision.outcome == OUTCOME_DIRECT || !is_tcp(fd) || !is_of_family(fd, address->sa_family))
        return outcome_of(real.bind(fd, address, length));
    switch (decision.outcome) {
    case OUTCOME_LINK_LOCAL:
        return outcome_of(real.bind(fd, (void *)&decision.link_local, sizeof decision.link_local));
    case OUTCOME_REFUSE:
        return -decision.error;
    default:
        return is_bound(fd) ? -EINVAL : listener_bind(fd, &decision, address, length, port);
    }
}

int call_listen(int fd, int backlog) {
    UNCANCELLED;
    struct listener listener;
    if (hint_is(fd, HINT_LISTENER) && listener_load(fd, &listener))
        return listener_listen(fd, &listener, backlog);
    /* The kernel would bind an unbound socket to a random port of every address. */
    if (environment.block_unbound && is_tcp(fd) && !is_bound(fd))
        return -EINVAL;
    return outcome_of(real.listen(fd, backlog));
}

/* ---- connect ---- */

static int connect_stream(int fd, const struct sockaddr_un *to, socklen_t length) {
    int flags = real.fcntl(fd, F_GETFL);
    OWNED int socket_fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0), 0);
    if (socket_fd < 0 || real.connect(socket_fd, (const void *)to, length) < 0)
        return -errno;
    return swap_in(fd, socket_fd, HINT_NONE);
}

static int connect_receiver(int fd, const struct sockaddr_un *to, socklen_t length) {
    int ends[2];
    OWNED int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sender < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    OWNED int kept = ends[0];
    OWNED int sent = ends[1];
    int status = receive_forward(sender, sent, (const void *)to, length);
    return status ? status : swap_in(fd, kept, HINT_NONE);
}

static int connect_decided(int fd, const struct decision *decision, uint16_t port) {
    UNCANCELLED;
    char path[SOCKET_PATH_ROOM];
    struct sockaddr_un to;
    socklen_t length;
    int status = directory_path(decision, port, path);
    if (status == 0)
        status = place_address(path, &to, &length);
    if (status == 0)
        status = decision->outcome == OUTCOME_STREAM ? connect_stream(fd, &to, length)
                                                     : connect_receiver(fd, &to, length);
    return status == -ENOENT ? -ECONNREFUSED : status; /* no such file means: nobody listens there */
}

int call_connect(int fd, const struct sockaddr *address, socklen_t length) {
    struct listener listener;
    struct decision decision;
    if (hint_is(fd, HINT_LISTENER) && listener_load(fd, &listener))
        return listener_connect(&listener, address, length);
    decision.outcome = OUTCOME_DIRECT;
    if (address)
        decide_connect(&environment, address, length, &decision);
    if (decision.outcome == OUTCOME_DIRECT || !is_tcp(fd) || !is_of_family(fd, address->sa_family))
        return outcome_of(real.connect(fd, address, length));
    if (decision.outcome == OUTCOME_REFUSE)
        return -decision.error;
    return connect_decided(fd, &decision, ntohs(((const struct sockaddr_in *)address)->sin_port));
}

/* ---- questions ---- */

int call_name(int fd, enum side side, struct sockaddr *address, socklen_t *length) {
    struct listener listener;
    union name name;
    socklen_t name_length;
    int status = 0;
    if (!address || !length)
        return -EFAULT;
    if (*length > INT32_MAX)
        return -EINVAL;
    if (!hint_is(fd, HINT_LISTENER) || !listener_load(fd, &listener))
        status = connection_name(fd, side, &name, &name_length);
    else if (side == REMOTE)
        status = -ENOTCONN;
    else
        listener_name(&listener, &name, &name_length);
    return status ? status : hand_out(&name, name_length, address, length);
}

void call_protect(struct sockaddr *address, const socklen_t *length) {
    if (!address || !length || environment.protection == 0)
        return;
    if (environment.protection == 1 && *length != sizeof(struct sockaddr_in) &&
        *length != sizeof(struct sockaddr_in6))
        return;
    size_t most = sizeof(struct sockaddr_storage); /* no address is longer, whatever the caller says */
    memset(address, 0, *length < most ? *length : most);
}

int call_shutdown(int fd, int how) {
    UNCANCELLED;
    struct listener listener;
    return listener_load(fd, &listener) ? listener_shutdown(fd, &listener, how)
                                        : outcome_of(real.shutdown(fd, how));
}

int call_ioctl(int fd, unsigned long request, void *argument) {
    struct listener listener;
    return listener_load(fd, &listener) ? listener_ioctl(fd, &listener, request, argument)
                                        : outcome_of(real.ioctl(fd, request, argument));
}

int call_get_option(int fd, int level, int name, void *value, socklen_t *length) {
    struct listener listener;
    return listener_load(fd, &listener) ? listener_get_option(fd, &listener, level, name, value, length)
                                        : outcome_of(real.getsockopt(fd, level, name, value, length));
}

int call_set_option(int fd, int level, int name, const void *value, socklen_t length) {
    struct listener listener;
    return listener_load(fd, &listener) ? listener_set_option(fd, &listener, level, name, value, length)
                                        : outcome_of(real.setsockopt(fd, level, name, value, length));
}

bool call_nothing_to_read(int fd) {
    struct listener listener;
    int saved = errno;
    bool is_listener = listener_load(fd, &listener);
    errno = is_listener ? ENOTCONN : saved;
    return is_listener;
}

/* ---- descriptors ---- */

/* dup2 and dup3: what from was, to becomes; a listener that to was is closed by it. */
int call_dup_over(int from, int to, int flags) {
    UNCANCELLED;
    struct listener listener;
    bool closes = from != to && hint_is(to, HINT_LISTENER) && listener_load(to, &listener);
    unsigned kind = hint_of(from);
    if (kind && from != to)
        hint_set(to, hint_of(to) | kind);
    int result = outcome_of(flags < 0 ? real.dup2(from, to) : real.dup3(from, to, flags));
    if (result < 0)
        return result;
    if (from != to)
        hint_copy(from, to);
    if (closes && !listener.is_sibling)
        place_leave(listener.path, &listener.file);
    return result;
}

int call_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    struct listener listener;
    if (!event || !listener_load(fd, &listener))
        return outcome_of(real.epoll_ctl(epoll, operation, fd, event));
    struct epoll_event readable = *event;
    readable.events &= ~(uint32_t)(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    return outcome_of(real.epoll_ctl(epoll, operation, fd, &readable));
}

void call_close_range(unsigned first, unsigned last) {
    int highest = atomic_load(&hint_highest);
    for (int fd = first > INT32_MAX ? INT32_MAX : (int)first; fd <= highest && (unsigned)fd <= last; fd++)
        if (hint_is(fd, HINT_LISTENER))
            listener_close(fd);
}
