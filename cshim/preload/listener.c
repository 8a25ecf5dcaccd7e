/* listener.c - a virtual listener from bind to close; accept has a file of its own. */
#define _GNU_SOURCE
#include "listener.h"

#include "carry.h"
#include "directory.h"
#include "guest.h"
#include "hints.h"
#include "keep.h"
#include "proc.h"
#include "receive.h"
#include "swap.h"
#include "turn.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE 0x89e0 /* linux/un.h */
#endif

enum { MAX_NUMBERED = 64 };

_Static_assert(sizeof(struct listener) <= CARRY_MAX, "a full listener fits into a descriptor");

/* Whoever had the descriptor before may have put there what he likes. */
static bool is_sound(const struct listener *listener) {
    sa_family_t family = listener->name.sin6_family;
    bool sound = (family == AF_INET || family == AF_INET6) &&
                 (listener->type == SOCK_DGRAM || listener->type == SOCK_STREAM) &&
                 memchr(listener->path, 0, sizeof listener->path) &&
                 listener->sibling_count <= MAX_SIBLINGS && listener->options.count <= MAX_OPTIONS;
    for (int i = 0; sound && i < listener->sibling_count; i++)
        sound = listener->siblings[i].length <= offsetof(struct sockaddr_un, sun_path) + SIBLING_NAME;
    for (int i = 0; sound && i < listener->options.count; i++)
        sound = listener->options.list[i].length <= OPTION_SIZE;
    return sound;
}

bool listener_read(int fd, struct listener *listener) {
    return carry_read(fd, listener, sizeof *listener) >= 0 && is_sound(listener);
}

bool listener_load(int fd, struct listener *listener) {
    if (listener_read(fd, listener))
        return true;
    hint_drop(fd);
    return false;
}

static int store(int fd, const struct listener *listener) {
    size_t unused = (size_t)(MAX_OPTIONS - listener->options.count) * sizeof(struct option);
    return carry_write(fd, listener, sizeof *listener - unused);
}

void listener_name(const struct listener *listener, union name *name, socklen_t *length) {
    memset(name, 0, sizeof *name);
    memcpy(name, &listener->name, sizeof listener->name);
    *length = name->any.sa_family == AF_INET ? sizeof name->in : sizeof name->in6;
}

int hand_out(const union name *name, socklen_t name_length, struct sockaddr *address, socklen_t *length) {
    if (!address)
        return 0;
    memcpy(address, name, *length < name_length ? *length : name_length);
    *length = name_length;
    return 0;
}

static int get_int(int fd, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    return real.getsockopt(fd, level, name, &value, &length) < 0 ? -errno : value;
}

/* ---- bind: what is asked for ---- */

/* A relative path means what it means now: the program may change its directory before it closes. */
static void make_absolute(char path[SOCKET_PATH_ROOM]) {
    char folder[PATH_ROOM], absolute[SOCKET_PATH_ROOM];
    if (*path == '/' || *path == '@' || !getcwd(folder, sizeof folder))
        return;
    size_t length = strlen(folder), rest = strlen(path);
    if (length + 1 + rest >= sizeof absolute)
        return;
    memcpy(absolute, folder, length);
    absolute[length] = '/';
    memcpy(absolute + length + 1, path, rest + 1);
    memcpy(path, absolute, length + rest + 2);
}

static uint16_t port_of(const struct sockaddr_in6 *name) {
    return ntohs(name->sin6_port); /* at the same offset in both families */
}
_Static_assert(offsetof(struct sockaddr_in6, sin6_port) == offsetof(struct sockaddr_in, sin_port), "as said");

static bool is_wildcard(const struct sockaddr_in6 *name) {
    union name any;
    uint8_t bytes[16];
    uint16_t port;
    memcpy(&any, name, sizeof *name);
    if (any.any.sa_family == AF_INET)
        return any.in.sin_addr.s_addr == 0;
    return present_canonical(&any, bytes, &port) && memcmp(bytes, (uint8_t[16]){0}, 16) == 0;
}

/* What of tcp, the program's socket or one with its options, is kept. A socket bound to one IPv6 address is
 * IPv6 only, whatever the program said (ipv6(7)): tcp is for the moment of the question, too. */
static int note_options(int tcp, struct listener *listener) {
    union name any;
    memcpy(&any, &listener->name, sizeof listener->name);
    int said = get_int(tcp, IPPROTO_IPV6, IPV6_V6ONLY), only = 1;
    bool specific = any.any.sa_family == AF_INET6 && !is_wildcard(&listener->name) &&
                    !IN6_IS_ADDR_V4MAPPED(&any.in6.sin6_addr);
    if (specific)
        real.setsockopt(tcp, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    listener->v6only = specific || said > 0;
    listener->reuse_port = get_int(tcp, SOL_SOCKET, SO_REUSEPORT) > 0;
    int status = options_capture(tcp, listener->name.sin6_family, listener->protocol, &listener->options);
    if (specific)
        real.setsockopt(tcp, IPPROTO_IPV6, IPV6_V6ONLY, &said, sizeof said);
    return status;
}

/* Of a bound address getsockname(2) tells neither sin_zero nor flow, and a scope only of a link-local one. */
static void drop_untold(struct sockaddr_in6 *name) {
    if (name->sin6_family == AF_INET) {
        memset((char *)name + offsetof(struct sockaddr_in, sin_zero), 0,
               sizeof *name - offsetof(struct sockaddr_in, sin_zero));
        return;
    }
    name->sin6_flowinfo = 0;
    if (!IN6_IS_ADDR_LINKLOCAL(&name->sin6_addr))
        name->sin6_scope_id = 0;
}

/* Fills listener from the program's TCP socket and the address that it binds. */
static int describe(int fd, const struct decision *decision, const struct sockaddr *address, socklen_t length,
                    uint16_t invented_port, struct listener *listener) {
    memset(listener, 0, sizeof *listener);
    memcpy(&listener->name, address, length < sizeof listener->name ? length : sizeof listener->name);
    listener->name.sin6_family = (sa_family_t)get_int(fd, SOL_SOCKET, SO_DOMAIN);
    drop_untold(&listener->name);
    if (!listener->name.sin6_port)
        listener->name.sin6_port = htons(invented_port);
    listener->protocol = get_int(fd, SOL_SOCKET, SO_PROTOCOL);
    listener->type = decision->outcome == OUTCOME_STREAM ? SOCK_STREAM : SOCK_DGRAM;
    int status = directory_path(decision, port_of(&listener->name), listener->path);
    if (status)
        return status;
    make_absolute(listener->path);
    return note_options(fd, listener);
}

/* ---- bind: putting a socket where the program's was ---- */

static int install(int fd, int socket, const struct listener *listener) {
    int status = store(socket, listener);
    return status ? status : swap_in(fd, socket, HINT_LISTENER);
}

/* ---- bind: others at the same path ---- */

/* Would the kernel let only one of two TCP sockets have these addresses? */
static bool conflicting(const struct listener *a, const struct listener *b) {
    if (port_of(&a->name) != port_of(&b->name))
        return false;
    if (a->name.sin6_family == b->name.sin6_family)
        return memcmp(&a->name, &b->name, sizeof a->name) == 0 || is_wildcard(&a->name) ||
               is_wildcard(&b->name);
    const struct listener *six = a->name.sin6_family == AF_INET6 ? a : b;
    return is_wildcard(&six->name) && !six->v6only;
}

/* The listeners of this process at one path: the one that bound it, and one with the very same address. */
struct household {
    int primary, same, managed; /* descriptors; -1: none. managed: a manager's, see adopt */
    struct listener first;
};

static int find_household(const struct listener *listener, struct household *household) {
    struct listener other;
    household->primary = household->same = household->managed = -1;
    int highest = atomic_load(&hint_highest);
    for (int fd = 0; fd <= highest; fd++) {
        if (!hint_is(fd, HINT_LISTENER) || !listener_load(fd, &other))
            continue;
        if (other.type != listener->type || strcmp(other.path, listener->path) != 0)
            continue;
        if (other.adopted && hint_is(fd, HINT_INHERITED)) {
            household->managed = fd;
            continue;
        }
        if (conflicting(listener, &other) && !(listener->reuse_port && other.reuse_port))
            return -EADDRINUSE;
        if (memcmp(&other.name, &listener->name, sizeof other.name) == 0)
            household->same = fd;
        if (!other.is_sibling) {
            household->primary = fd;
            household->first = other;
        }
    }
    return 0;
}

/* A socket of its own that only the one at the path can send to, because it is connected to that. */
static int join(int fd, int primary, struct listener *first, struct listener *listener) {
    struct sockaddr_un name = {.sun_family = AF_UNIX}, path;
    socklen_t length = sizeof name, path_length;
    if (first->sibling_count == MAX_SIBLINGS)
        return -EADDRINUSE;
    OWNED int own = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int status = place_address(first->path, &path, &path_length);
    if (status || own < 0)
        return status ? status : -errno;
    if (real.bind(own, (void *)&name, sizeof name.sun_family) < 0 ||
        real.getsockname(own, (void *)&name, &length) < 0 ||
        real.connect(own, (void *)&path, path_length) < 0)
        return -errno;
    struct sibling *sibling = &first->siblings[first->sibling_count];
    size_t size = length - offsetof(struct sockaddr_un, sun_path);
    if (size > sizeof sibling->socket)
        return -ENAMETOOLONG;
    *sibling =
        (struct sibling){.name = listener->name, .v6only = listener->v6only, .length = (uint16_t)length};
    memcpy(sibling->socket, name.sun_path, size);
    first->sibling_count++;
    listener_serves_sibling();
    listener->is_sibling = 1;
    status = install(fd, own, listener);
    return status ? status : store(primary, first);
}

/* The name that the socket living at path was bound by, which another may have been given since (rename). */
static bool bound_name_at(const char *path, struct sockaddr_un *name) {
    struct sockaddr_un address;
    socklen_t length, name_length = sizeof *name;
    if (place_address(path, &address, &length) < 0)
        return false;
    *name = address;
    OWNED int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0 || real.connect(probe, (void *)&address, length) < 0)
        return true; /* of another kind, or not ours to ask: the name that it has now */
    memset(name, 0, sizeof *name);
    return real.getpeername(probe, (void *)name, &name_length) == 0;
}

/* Is fd bound to the file at path? Who may not ask (SIOCUNIXFILE needs CAP_NET_ADMIN) compares names. */
static bool is_bound_to(int fd, const char *path) {
    struct stat bound, wanted;
    struct sockaddr_un name = {0}, there;
    socklen_t length = sizeof name;
    OWNED int file = real.ioctl(fd, SIOCUNIXFILE);
    if (file >= 0)
        return fstat(file, &bound) == 0 && lstat(path, &wanted) == 0 && bound.st_dev == wanted.st_dev &&
               bound.st_ino == wanted.st_ino;
    return bound_name_at(path, &there) && real.getsockname(fd, (void *)&name, &length) == 0 &&
           memcmp(&name, &there, sizeof name) == 0;
}

struct inherited {
    const struct listener *listener;
    int fd;        /* -1: none yet */
    ino_t inode;   /* of its socket, of which there may be copies */
    bool doubtful; /* several sockets go by that name */
};

static int note_receiver(void *context, int fd) {
    struct inherited *found = context;
    struct stat info;
    if (hint_is(fd, HINT_LISTENER) || get_int(fd, SOL_SOCKET, SO_DOMAIN) != AF_UNIX ||
        get_int(fd, SOL_SOCKET, SO_TYPE) != found->listener->type ||
        !is_bound_to(fd, found->listener->path) || fstat(fd, &info) < 0)
        return 0;
    found->doubtful = found->doubtful || (found->fd >= 0 && info.st_ino != found->inode);
    found->fd = fd;
    found->inode = info.st_ino;
    return 0;
}

/* A socket at the path that this process was started with (LISTEN_FDS): the manager's file, not ours. It
 * may carry what an earlier process made of it. While that one still serves, it must not find that nobody
 * listens any more. */
static int adopt(struct listener *listener, int managed) {
    struct listener before;
    struct inherited found = {.listener = listener, .fd = managed};
    if (managed < 0)
        proc_each_descriptor(note_receiver, &found);
    if (found.fd < 0 || found.doubtful)
        return -EADDRINUSE;
    if (listener_read(found.fd, &before))
        listener->listening = before.listening;
    listener->file = (struct place_file){0};
    listener->adopted = 1;
    return outcome_of(real.fcntl(found.fd, F_DUPFD_CLOEXEC, 0));
}

/* PATH.1, PATH.2 ...: processes that share one address with SO_REUSEPORT have a path each. */
static int take_numbered(struct listener *listener) {
    char path[SOCKET_PATH_ROOM];
    size_t length = strlen(listener->path);
    for (int number = 1; number <= MAX_NUMBERED; number++) {
        if ((size_t)snprintf(path, sizeof path, "%s.%d", listener->path, number) >= sizeof path)
            return -ENAMETOOLONG;
        int socket = place_bind(path, listener->type, NULL, &listener->file);
        if (socket == -EADDRINUSE)
            continue;
        if (socket >= 0)
            memcpy(listener->path + length, path + length, sizeof path - length);
        return socket;
    }
    return -EADDRINUSE;
}

static int take_place(struct listener *listener, int managed) {
    if (managed >= 0)
        return adopt(listener, managed);
    int socket = place_bind(listener->path, listener->type, NULL, &listener->file);
    if (socket == -EADDRINUSE)
        socket = adopt(listener, -1);
    if (socket == -EADDRINUSE && listener->reuse_port)
        socket = take_numbered(listener);
    return socket;
}

static int settle(int fd, struct listener *listener) {
    struct household household;
    int status = find_household(listener, &household);
    if (status)
        return status;
    if (household.same >= 0 || (household.primary >= 0 && listener->type == SOCK_STREAM))
        return swap_in(fd, household.same >= 0 ? household.same : household.primary, HINT_LISTENER);
    if (household.primary >= 0)
        return join(fd, household.primary, &household.first, listener);
    OWNED int socket = take_place(listener, household.managed);
    if (socket < 0)
        return socket;
    status = install(fd, socket, listener);
    if (status) {
        real.close(PASS_ON(socket));
        place_leave(listener->path, &listener->file);
    }
    return status;
}

/* Threads that bind one address at the same moment with SO_REUSEPORT find each other. */
static struct turn binding;
enum { PATIENCE = 3000 };

int listener_bind(int fd, const struct decision *decision, const struct sockaddr *address, socklen_t length,
                  uint16_t invented_port) {
    struct listener listener;
    int status = describe(fd, decision, address, length, invented_port, &listener);
    if (status)
        return status;
    turn_take(&binding, PATIENCE);
    status = settle(fd, &listener);
    turn_leave(&binding);
    return status;
}

/* ---- after bind ---- */

/* A Unix socket stays shut for ever where a TCP socket can listen again: take a new one. */
static int revive(int fd, struct listener *listener) {
    if (listener->is_sibling)
        return -EINVAL;
    if (listener->adopted)
        return 0;
    struct place_file old = listener->file;
    OWNED int socket = place_bind(listener->path, listener->type, &old, &listener->file);
    return socket < 0 ? socket : install(fd, socket, listener);
}

int listener_listen(int fd, struct listener *listener, int backlog) {
    int status = listener->shut ? revive(fd, listener) : 0;
    if (status == 0 && listener->type == SOCK_STREAM)
        status = outcome_of(real.listen(fd, backlog));
    if (status)
        return status;
    listener->listening = 1;
    listener->shut = 0;
    return store(fd, listener);
}

/* A manager's socket must outlive us, so it is not shut down: an empty message wakes a thread in accept,
 * which finds that nobody listens, and wakes the next. */
int listener_wake(const struct listener *listener) {
    UNCANCELLED;
    struct sockaddr_un address;
    socklen_t length;
    OWNED int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int status = sender < 0 ? -errno : place_address(listener->path, &address, &length);
    if (status == 0)
        sendto(sender, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, (void *)&address, length);
    return status < 0 ? status : 0; /* a full queue wakes everybody as well */
}

int listener_shutdown(int fd, struct listener *listener, int how) {
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    if (!listener->listening)
        return -ENOTCONN;
    if (how == SHUT_WR)
        return 0;
    listener->listening = 0;
    listener->shut = 1;
    int status = store(fd, listener);
    if (status)
        return status;
    return listener->adopted ? listener_wake(listener) : outcome_of(real.shutdown(fd, SHUT_RDWR));
}

int listener_connect(const struct listener *listener, const struct sockaddr *address, socklen_t length) {
    if (length < sizeof address->sa_family)
        return -EINVAL;
    return listener->listening ? -EISCONN : -EADDRNOTAVAIL;
}

/* What is about the descriptor, and not about TCP or the network. */
static bool is_of_descriptor(unsigned long request) {
    switch (request) {
    case FIONBIO:
    case FIOASYNC:
    case FIOCLEX:
    case FIONCLEX:
    case FIOSETOWN:
    case SIOCSPGRP:
    case FIOGETOWN:
    case SIOCGPGRP:
        return true;
    default:
        return false;
    }
}

/* The scratch socket is none that listens, so three answers are ours. */
int listener_ioctl(int fd, const struct listener *listener, unsigned long request, void *argument) {
    if (is_of_descriptor(request))
        return outcome_of(real.ioctl(fd, request, argument));
    if (listener->listening && (request == FIONREAD || request == SIOCOUTQ || request == SIOCOUTQNSD))
        return -EINVAL;
    OWNED int scratch = options_scratch(&listener->options, listener->name.sin6_family, listener->protocol);
    return scratch < 0 ? scratch : outcome_of(real.ioctl(scratch, request, argument));
}

int listener_get_option(int fd, const struct listener *listener, int level, int name, void *value,
                        socklen_t *length) {
    if (level == SOL_SOCKET && name == SO_COOKIE)
        return outcome_of(real.getsockopt(fd, level, name, value, length));
    OWNED int scratch = options_scratch(&listener->options, listener->name.sin6_family, listener->protocol);
    if (scratch < 0)
        return scratch;
    int status = outcome_of(real.getsockopt(scratch, level, name, value, length));
    if (status || !listener->listening || *length < 1)
        return status;
    /* The two answers that a scratch socket cannot know; the kernel has proved that value can be written. */
    if (level == SOL_SOCKET && name == SO_ACCEPTCONN)
        *(char *)value = 1;
    if (level == IPPROTO_TCP && name == TCP_INFO) {
        memset(value, 0, *length);
        ((struct tcp_info *)value)->tcpi_state = TCP_LISTEN;
    }
    return 0;
}

/* Two threads that set options of one listener at the same moment may lose one of them: the state is read,
 * changed and written back, and a lock would have to reach across processes. */
int listener_set_option(int fd, struct listener *listener, int level, int name, const void *value,
                        socklen_t length) {
    /* Only an unbound socket may change it, and the scratch socket is unbound. */
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && listener->name.sin6_family == AF_INET6)
        return -EINVAL;
    OWNED int scratch = options_scratch(&listener->options, listener->name.sin6_family, listener->protocol);
    if (scratch < 0)
        return scratch;
    if (real.setsockopt(scratch, level, name, value, length) < 0)
        return -errno;
    if (level == SOL_SOCKET && name == SO_RCVTIMEO)
        real.setsockopt(fd, level, name, value, length);
    int status = note_options(scratch, listener);
    return status ? status : store(fd, listener);
}

/* ---- close ---- */

/* The process that made or served siblings: what waits for them is its to give back, and not a child's that
 * was forked for one connection and closes the rest. */
static atomic_int server_of_siblings;

void listener_serves_sibling(void) {
    atomic_store_explicit(&server_of_siblings, hints_home(), memory_order_relaxed);
}

/* The one of our descriptors that is bound to the file at path, or -1: none is, or path is out of reach
 * (chroot). */
static int receiver_at(const char *path) {
    struct sockaddr_un address;
    socklen_t length;
    struct listener other;
    OWNED int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (place_address(path, &address, &length) < 0 || real.connect(probe, (void *)&address, length) < 0)
        return -1;
    int highest = atomic_load(&hint_highest);
    for (int fd = 0; fd <= highest; fd++) {
        bool receiver = is_kept(fd) || (hint_is(fd, HINT_LISTENER) && listener_read(fd, &other) &&
                                        other.type == SOCK_DGRAM && !other.is_sibling);
        if (receiver && is_bound_to(fd, path))
            return fd;
    }
    return -1;
}

/* A sibling's socket ends with the last process that has it, but the one at the path may be a manager's: what
 * was passed on and not accepted waits there again. A socket that sends to itself is not held up by its own
 * full queue. Without one, what waits stays for other processes that have the sibling. */
static void give_back(int fd, const struct listener *listener) {
    struct sockaddr_un path;
    socklen_t length;
    int connection, receiver = receiver_at(listener->path);
    if (receiver < 0 || place_address(listener->path, &path, &length) < 0)
        return;
    while ((connection = receive_take(fd, SOCK_CLOEXEC)) >= 0) {
        receive_forward(receiver, connection, (const void *)&path, length);
        real.close(connection);
    }
}

int listener_close(int fd) {
    UNCANCELLED;
    struct listener listener;
    if (!listener_load(fd, &listener))
        return outcome_of(real.close(fd));
    hint_drop(fd);
    if (listener.is_sibling && hints_owned() && atomic_load(&server_of_siblings) == hints_home())
        give_back(fd, &listener);
    int status = outcome_of(real.close(fd));
    if (!listener.is_sibling)
        place_leave(listener.path, &listener.file);
    return status;
}
