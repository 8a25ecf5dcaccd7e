/* accept.c - a received connection instead of an accepted one. */
#define _GNU_SOURCE
#include "accept.h"

#include "connection.h"
#include "guest.h"
#include "hints.h"
#include "receive.h"

#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

enum { YIELD_EVERY = 8 };

static int get_int(int fd, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    return real.getsockopt(fd, SOL_SOCKET, name, &value, &length) < 0 ? -errno : value;
}

/* What came, as far as one question to the kernel tells: the address of its peer tells its family, and that
 * it is a connection at all. */
struct arrival {
    int status; /* of getpeername */
    int domain; /* its family; 0: unknown, and it does not matter */
    union name peer;
    socklen_t length;
};

/* SKBOX_STRICT_STREAM_MODE: 0 anything, 1 a SOCK_STREAM socket, 2 also of a family that connections come in.
 * A listening socket is no connection; one that was reset while it was queued has no peer any more and is
 * asked more. 0 or -errno. */
static int examine(int fd, struct arrival *arrival) {
    arrival->status = connection_true_name(fd, REMOTE, &arrival->peer, &arrival->length);
    int domain = arrival->status ? get_int(fd, SO_DOMAIN) : arrival->peer.any.sa_family;
    arrival->domain = domain < 0 ? 0 : domain;
    if (environment.strict == 0)
        return 0;
    if (get_int(fd, SO_TYPE) != SOCK_STREAM)
        return -ECONNABORTED;
    if (environment.strict == 1)
        return 0;
    if (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6)
        return -ECONNABORTED;
    return arrival->status && get_int(fd, SO_ACCEPTCONN) ? -ECONNABORTED : 0;
}

/* ---- siblings: several addresses at one path ---- */

/* How well a listener bound to name fits a connection to local: 0 not at all. */
static int fitness(const struct sockaddr_in6 *name, bool v6only, const uint8_t local[16],
                   bool local_is_ipv4) {
    union name any;
    uint8_t bytes[16];
    uint16_t port;
    memset(&any, 0, sizeof any);
    memcpy(&any, name, sizeof *name);
    if (!present_canonical(&any, bytes, &port))
        return 0;
    if (memcmp(bytes, local, 16) == 0)
        return 4;
    bool is_ipv4 = any.any.sa_family == AF_INET;
    bool wildcard = is_ipv4 ? any.in.sin_addr.s_addr == 0 : memcmp(bytes, (uint8_t[16]){0}, 16) == 0;
    if (is_ipv4 == local_is_ipv4)
        return wildcard ? 3 : 2;
    return !is_ipv4 && !v6only ? 1 : 0;
}

static bool is_mapped(const uint8_t bytes[16]) {
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(bytes, prefix, sizeof prefix) == 0;
}

/* Passes a connection to the sibling whose address fits better than ours; false: it stays here. */
static bool pass_to_sibling(int fd, const struct listener *listener, int connection) {
    union name name;
    socklen_t length = sizeof name;
    uint8_t local[16];
    uint16_t port;
    if (real.getsockname(connection, &name.any, &length) < 0 || !present_canonical(&name, local, &port))
        return false;
    int best = fitness(&listener->name, listener->v6only, local, is_mapped(local));
    const struct sibling *chosen = NULL;
    for (int i = 0; i < listener->sibling_count && i < MAX_SIBLINGS; i++) {
        const struct sibling *sibling = &listener->siblings[i];
        int fit = fitness(&sibling->name, sibling->v6only, local, is_mapped(local));
        if (fit > best) {
            best = fit;
            chosen = sibling;
        }
    }
    if (!chosen)
        return false;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, chosen->socket, sizeof chosen->socket);
    return receive_forward(fd, connection, (void *)&to, chosen->length) == 0;
}

/* ---- taking ---- */

/* This thread was woken and another waits, perhaps: the message that did it goes, unless a connection is what
 * is first in the queue, and a new one wakes the next. */
static void wake_next(int fd, const struct listener *listener) {
    UNCANCELLED;
    struct sockaddr_un path;
    socklen_t length;
    if (receive_first_is_empty(fd)) {
        OWNED int connection = receive_take(fd, SOCK_CLOEXEC); /* another thread may have been quicker */
        if (connection >= 0 && place_address(listener->path, &path, &length) == 0)
            receive_forward(fd, connection, (const void *)&path, length);
    }
    listener_wake(listener);
}

static bool nobody_listens(int fd, struct listener *listener) {
    if (!listener_load(fd, listener) || listener->listening)
        return false;
    if (listener->adopted)
        listener_wake(listener); /* the next thread */
    return true;
}

/* A message that holds no connection counts as one that vanished: accept says ECONNABORTED, and does not
 * block after poll has promised one. */
static int take_connection(int fd, struct listener *listener, int flags, struct arrival *arrival) {
    bool passed_on = false, waited = false;
    while (listener->listening) {
        OWNED int connection = receive_take(fd, flags);
        if (connection >= 0) {
            int status = examine(connection, arrival);
            if (status)
                return status;
            if (listener->is_sibling)
                listener_serves_sibling();
            if (listener->sibling_count == 0 || !pass_to_sibling(fd, listener, connection))
                return PASS_ON(connection);
            passed_on = true;
            continue;
        }
        if (connection == -ENODATA) /* an empty message, or the end after shutdown, which is noted by now */
            return nobody_listens(fd, listener) ? -EINVAL : -ECONNABORTED;
        if (connection != -EAGAIN)
            return connection;
        if (passed_on && !(real.fcntl(fd, F_GETFL) & O_NONBLOCK))
            return -ECONNABORTED;
        int status = receive_wait(fd);
        if (status)
            return status;
        waited = true;
        if (!listener_load(fd, listener)) /* options may have changed meanwhile, or the descriptor itself */
            return -EBADF;
    }
    if (waited && listener->adopted)
        wake_next(fd, listener);
    return -EINVAL;
}

static int take_stream(int fd, const struct listener *listener, int flags, struct arrival *arrival) {
    if (!listener->listening)
        return -EINVAL;
    int connection = outcome_of(real.accept4(fd, NULL, NULL, flags & SOCK_CLOEXEC));
    arrival->domain = AF_UNIX;
    arrival->status = connection_true_name(connection, REMOTE, &arrival->peer, &arrival->length);
    return connection;
}

/* ---- making it the program's ---- */

/* SKBOX_STEALTH_MODE: a Unix peer is reported as [::1]:0, to a program of IPv4 as 127.0.0.1:0. */
static socklen_t stealthy(union name *name, sa_family_t family) {
    memset(name, 0, sizeof *name);
    name->any.sa_family = family == AF_INET ? AF_INET : AF_INET6;
    if (family == AF_INET) {
        name->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof name->in;
    }
    name->in6.sin6_addr = (struct in6_addr)IN6ADDR_LOOPBACK_INIT;
    return sizeof name->in6;
}

/* The peer's name in arrival, as it is told to a program that listens in this family. */
static int tell_peer(struct arrival *arrival, sa_family_t family) {
    bool stands_in;
    if (arrival->domain == AF_UNIX && environment.stealth)
        arrival->length = stealthy(&arrival->peer, family);
    else if (arrival->status == -ENOTSOCK && environment.strict == 0)
        arrival->length = 0;
    else if (arrival->status) /* reset while it was queued */
        return arrival->status == -ENOTCONN ? -ECONNABORTED : arrival->status;
    else if (family)
        arrival->length = present_as(&environment, family, &arrival->peer, arrival->length, &stands_in);
    return 0;
}

static void yield_sometimes(void) {
    static atomic_uint count;
    if (environment.yield && atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) % YIELD_EVERY == 0)
        sched_yield();
}

/* Owned connection in, descriptor for the program out. family 0: whatever it is. */
static int deliver(int taken, struct arrival *arrival, sa_family_t family, struct sockaddr *address,
                   socklen_t *length, int flags) {
    UNCANCELLED;
    OWNED int connection = taken;
    int nonblocking = (flags & SOCK_NONBLOCK) != 0;
    hint_drop(connection);
    if (family)
        connection_conform(connection, arrival->domain, family);
    int status = address ? tell_peer(arrival, family) : 0;
    if (status)
        return status;
    connection_log(connection);
    real.ioctl(connection, FIONBIO, &nonblocking);
    if (address)
        hand_out(&arrival->peer, arrival->length, address, length);
    yield_sometimes();
    return PASS_ON(connection);
}

/* accept(2) is a cancellation point. What comes after this is none, apart from waiting. */
static void maybe_cancelled(void) {
    int before = PTHREAD_CANCEL_DEFERRED; /* glibc before 2.34 does not say so without its libpthread */
    if (real.pthread_setcanceltype && real.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before) == 0)
        real.pthread_setcanceltype(before, &before);
}

static int check_arguments(const struct sockaddr *address, const socklen_t *length, int flags) {
    if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
        return -EINVAL;
    if (address && !length)
        return -EFAULT;
    return address && *length > INT32_MAX ? -EINVAL : 0;
}

int accept_virtual(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    struct listener listener;
    struct arrival arrival;
    int status = check_arguments(address, length, flags);
    if (status)
        return status;
    maybe_cancelled();
    if (!listener_load(fd, &listener))
        return outcome_of(real.accept4(fd, address, length, flags));
    int connection = listener.type == SOCK_STREAM ? take_stream(fd, &listener, flags, &arrival)
                                                  : take_connection(fd, &listener, flags, &arrival);
    if (connection < 0)
        return connection;
    if (arrival.domain != AF_UNIX)
        options_inherit(&listener.options, connection);
    return deliver(connection, &arrival, listener.name.sin6_family, address, length, flags);
}

/* ---- sockets that others made ---- */

static bool receives(int fd) {
    int type = get_int(fd, SO_TYPE);
    if (get_int(fd, SO_DOMAIN) != AF_UNIX)
        return false;
    return type == SOCK_DGRAM ||
           (environment.accept_stream && (type == SOCK_STREAM || type == SOCK_SEQPACKET));
}

int accept_foreign(int fd, int error, struct sockaddr *address, socklen_t *length, int flags) {
    if ((error != EOPNOTSUPP && error != EINVAL) || check_arguments(address, length, flags) || !receives(fd))
        return -error;
    for (;;) {
        struct arrival arrival;
        OWNED int connection = receive_take(fd, flags);
        if (connection >= 0) {
            int status = examine(connection, &arrival);
            return status ? status : deliver(PASS_ON(connection), &arrival, 0, address, length, flags);
        }
        if (connection == -ENODATA)
            return get_int(fd, SO_TYPE) == SOCK_DGRAM ? -ECONNABORTED : -EINVAL; /* the sender has gone */
        if (connection != -EAGAIN)
            return connection;
        int status = receive_wait(fd);
        if (status)
            return status;
    }
}
