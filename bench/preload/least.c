/* least.c - the least that makes nginx take connections from a datagram socket: bind puts one where nginx's
 * TCP socket was, listen does nothing, accept4 receives. What socketbox-preload costs is told as a multiple.
 *
 *   LEAST_PATH=PATH LD_PRELOAD=least.so nginx ...
 *
 * It has one listener, checks nothing that it receives, loses a connection when no descriptor is free, and is
 * found out by every other question about the listener. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int listener = -1;

int bind(int fd, const struct sockaddr *address, socklen_t length) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    (void)address, (void)length;
    strncpy(path.sun_path, getenv("LEAST_PATH"), sizeof path.sun_path - 1);
    int receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (syscall(SYS_bind, receiver, &path, sizeof path) < 0 || dup2(receiver, fd) < 0)
        return -1;
    close(receiver);
    listener = fd;
    return 0;
}

int listen(int fd, int backlog) {
    return fd == listener ? 0 : (int)syscall(SYS_listen, fd, backlog);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    if (fd != listener)
        return (int)syscall(SYS_accept4, fd, address, length, flags);
    char payload[4];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {payload, sizeof payload};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    int how = MSG_DONTWAIT | (flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0), connection, on = 1;
    if (recvmsg(fd, &message, how) < 0)
        return -1;
    if (message.msg_controllen < CMSG_LEN(sizeof(int))) {
        errno = ECONNABORTED;
        return -1;
    }
    memcpy(&connection, CMSG_DATA(&control.align), sizeof connection);
    /* nginx closes a connection of IPv6 that comes from a listener of IPv4. */
    setsockopt(connection, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){AF_INET}, sizeof(int));
    if (address)
        getpeername(connection, address, length);
    if (flags & SOCK_NONBLOCK)
        ioctl(connection, FIONBIO, &on);
    return connection;
}
