/* connection.c - family of received connections. */
#define _GNU_SOURCE
#include "connection.h"

#include "guest.h"
#include "hints.h"
#include "listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t inode_of(int fd) {
    struct stat info;
    return fstat(fd, &info) < 0 ? 0 : (uint32_t)info.st_ino;
}

/* The family to tell the addresses of fd in; 0: its own. A number that was reused behind our back is another
 * socket, whose inode is another. */
static sa_family_t family_of(int fd) {
    unsigned kind = hint_of(fd) & HINT_CONNECTION;
    if (!kind)
        return 0;
    if (atomic_load_explicit(&hint_inode[fd], memory_order_relaxed) != inode_of(fd)) {
        hint_drop(fd);
        return 0;
    }
    return kind == HINT_AS_IPV4 ? AF_INET : AF_INET6;
}

void connection_conform(int fd, int domain, sa_family_t wanted) {
    int ipv4 = AF_INET;
    if (domain == wanted || (domain != AF_INET && domain != AF_INET6) || fd >= HINT_LIMIT)
        return;
    /* Works on an established IPv4 connection, no more once the client has closed its side (ENOTCONN). */
    if (wanted == AF_INET && real.setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &ipv4, sizeof ipv4) == 0)
        return;
    atomic_store_explicit(&hint_inode[fd], inode_of(fd), memory_order_relaxed);
    hint_set(fd, wanted == AF_INET ? HINT_AS_IPV4 : HINT_AS_IPV6);
}

int connection_true_name(int fd, enum side side, union name *name, socklen_t *length) {
    *length = sizeof *name;
    memset(name, 0, sizeof *name);
    return outcome_of(side == REMOTE ? real.getpeername(fd, &name->any, length)
                                     : real.getsockname(fd, &name->any, length));
}

int connection_name(int fd, enum side side, union name *name, socklen_t *length) {
    bool stands_in;
    int status = connection_true_name(fd, side, name, length);
    sa_family_t family = status ? 0 : family_of(fd);
    if (family)
        *length = present_as(&environment, family, name, *length, &stands_in);
    return status;
}

/* Where the log goes: a descriptor to close (owned), or standard error, unless that is somebody's connection.
 */
static int open_log(bool *owned) {
    struct stat info;
    *owned = *environment.log;
    if (*owned)
        return outcome_of(open(environment.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
    return fstat(STDERR_FILENO, &info) < 0 || S_ISSOCK(info.st_mode) ? -EBADF : STDERR_FILENO;
}

void connection_log(int fd) {
    union name name, shown;
    socklen_t length;
    bool stands_in, owned;
    char line[160], from[INET6_ADDRSTRLEN], to[INET_ADDRSTRLEN];
    if (family_of(fd) != AF_INET || connection_true_name(fd, REMOTE, &name, &length) < 0)
        return;
    shown = name;
    present_as(&environment, AF_INET, &shown, length, &stands_in);
    int log = stands_in ? open_log(&owned) : -1;
    if (log < 0)
        return;
    inet_ntop(AF_INET6, &name.in6.sin6_addr, from, sizeof from);
    inet_ntop(AF_INET, &shown.in.sin_addr, to, sizeof to);
    int size = snprintf(line, sizeof line, "socketbox-preload: %s port %u stands for [%s]\n", to,
                        ntohs(name.in6.sin6_port), from);
    if (write(log, line, (size_t)size) < 0) {
        /* A log that cannot be written must not stop the program. */
    }
    if (owned)
        real.close(log);
}
