/* accept.c - many connections for one call. */
#define _GNU_SOURCE
#include "internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

/* Errors that belong to the one connection that accept(2) took off the queue; the next may well succeed. */
static bool lost_one_connection(int error) {
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

/* How many connections wait behind the one just taken. An accept that finds none costs four microseconds,
 * because the kernel makes the file before it looks; asking costs a tenth of that. TCP_INFO of a listener
 * counts its queue in tcpi_unacked. Where it cannot be asked, the next call will find out. */
static int waiting_behind(int listener) {
    struct tcp_info info;
    socklen_t length = sizeof info;
    if (getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
        return 0;
    return info.tcpi_unacked > INT32_MAX ? INT32_MAX : (int)info.tcpi_unacked;
}

/* Both names mean the same bit of the socket, but each family knows only its own: an inherited listener may
 * be of AF_INET. */
static int clear_transparency(int fd, sa_family_t family) {
    int off = 0, six = family == AF_INET6;
    return setsockopt(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_TRANSPARENT : IP_TRANSPARENT, &off,
                      sizeof off);
}

/* For one that was not accepted here. Other kinds of sockets have nothing to clear. */
int sb_clear_transparent(int fd) {
    int domain;
    socklen_t length = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0)
        return -errno;
    if (domain != AF_INET && domain != AF_INET6)
        return 0;
    return clear_transparency(fd, (sa_family_t)domain) < 0 ? -errno : 0;
}

static int accept_one(int listener, struct sb_flow *flow, int flags) {
    struct sockaddr_storage remote = {0};
    socklen_t length = sizeof remote;
    SB_CLOSE int fd = accept4(listener, (void *)&remote, &length,
                              flags & SB_NONBLOCKING ? SOCK_CLOEXEC | SOCK_NONBLOCK : SOCK_CLOEXEC);
    if (fd < 0)
        return -errno;
    sb_flow_remote(flow, &remote);
    int status = sb_flow_local(fd, flow);
    if (!status && flags & SB_CLEAR_TRANSPARENT && clear_transparency(fd, remote.ss_family) < 0)
        status = -errno;
    flow->fd = status ? status : SB_TAKE(fd);
    return 0;
}

/* Accepts up to max connections, as blocking sockets, which the receivers of the original expect, unless
 * flags (enum sb_accept_flag) say otherwise. Returns how many entries of flows are filled; an entry whose fd
 * is negative was lost before it could be had (see above). 0: none is waiting. What stops accepting
 * altogether (EMFILE, ENFILE, ENOBUFS, ENOMEM, a listener gone) is returned as -errno when it is the first
 * thing met, otherwise by the next call. */
int sb_accept(int listener, struct sb_flow *flows, int max, int flags) {
    int count = 0;
    for (int expected = 1; count < expected && count < max;) {
        int status = accept_one(listener, &flows[count], flags);
        if (status == -EINTR)
            continue;
        if (status == -EAGAIN || status == -EWOULDBLOCK)
            return count;
        if (status && !lost_one_connection(-status))
            return count ? count : status;
        if (status)
            flows[count].fd = status;
        if (++count == expected && count < max)
            expected += waiting_behind(listener);
    }
    return count;
}
