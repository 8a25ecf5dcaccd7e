/* receive.c - SCM_RIGHTS, unix(7). */
#define _GNU_SOURCE
#include "receive.h"

#include "guest.h"
#include "turn.h"

#include <fcntl.h>
#include <string.h>

/* The most descriptors one message may carry (SCM_MAX_FD in the kernel), and the most payload anybody reads.
 */
enum { MAX_FDS = 253, MAX_PAYLOAD = 128 };

/* Between making sure of a free descriptor and using it, no other thread may accept. It only narrows a race:
 * any open(2) may take the last descriptor. */
static struct turn accepting;
enum { PATIENCE = 50 };

/* With a full descriptor table the kernel would deliver the message without its descriptor and the connection
 * would be lost: look for a free one first, as accept(2) itself does. */
static int free_slot(int socket) {
    int probe = real.fcntl(socket, F_DUPFD_CLOEXEC, 0);
    if (probe < 0)
        return -errno;
    real.close(probe);
    return 0;
}

void receive_each(struct msghdr *message, void (*visit)(void *context, int fd), void *context) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            visit(context, fd);
        }
    }
}

static void keep_first(void *context, int fd) {
    int *first = context;
    if (*first < 0)
        *first = fd;
    else
        real.close(fd);
}

static int take(int socket, int flags) {
    char payload[MAX_PAYLOAD];
    union {
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = payload, .iov_len = sizeof payload};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    int how = MSG_DONTWAIT | (flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0);
    ssize_t length = real.recvmsg(socket, &message, how);
    if (length < 0)
        return -errno;
    int fd = -1;
    receive_each(&message, keep_first, &fd);
    if (fd >= 0)
        return fd;
    return length ? -ECONNABORTED : -ENODATA;
}

int receive_take(int socket, int flags) {
    UNCANCELLED;
    turn_take(&accepting, PATIENCE);
    int result = free_slot(socket);
    if (result == 0)
        result = take(socket, flags);
    turn_leave(&accepting);
    return result;
}

int receive_wait(int socket) {
    /* Peeking without room for control data leaves message and descriptor where they are. qemu-user does not
     * even ask the kernel when there are no parts; one of no bytes is the same to the kernel. */
    char none;
    struct iovec part = {.iov_base = &none, .iov_len = 0};
    struct msghdr nothing = {.msg_iov = &part, .msg_iovlen = 1};
    return real.recvmsg(socket, &nothing, MSG_PEEK) < 0 ? -errno : 0;
}

bool receive_first_is_empty(int socket) {
    char byte;
    return real.recv(socket, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) == 0;
}

int receive_forward(int socket, int fd, const struct sockaddr *to, socklen_t length) {
    char payload = 0;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {
        .align = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
    struct iovec iov = {.iov_base = &payload, .iov_len = 1};
    struct msghdr message = {.msg_name = (void *)to,
                             .msg_namelen = length,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    UNCANCELLED;
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}
