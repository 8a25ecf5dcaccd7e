/* floor.c - the least that a server of this kind can do: accept, send, close, for one receiver.
 *
 *   floor PORT PATH
 *
 * It does not look at addresses, and while the receiver's queue is full it waits for room (POLLOUT), so that
 * it loses no connection. What socketbox costs is told as a multiple of this. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_on(int port) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        perror("floor: listen");
        exit(1);
    }
    return fd;
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (void *)&address, sizeof address) < 0) {
        perror("floor: connect");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int listener = listen_on(atoi(argv[1])), receiver = connect_to(argv[2]);
    char payload[4] = {3};
    struct iovec iov = {payload, sizeof payload};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {
        .align = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
        while (sendmsg(receiver, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno != EAGAIN) {
                perror("floor: send");
                return 1;
            }
            poll(&(struct pollfd){.fd = receiver, .events = POLLOUT}, 1, -1);
        }
        close(fd);
    }
}
