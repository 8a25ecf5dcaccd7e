/* handoff.c - descriptors through Unix sockets (SCM_RIGHTS, unix(7)); all control messages of the project. */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

/* The most descriptors one message may carry (SCM_MAX_FD in the kernel), and the most payload anybody reads.
 */
/* The C library's CMSG_NXTHDR compares a signed with an unsigned number on musl, in our name. */
#pragma GCC diagnostic ignored "-Wsign-compare"

enum { MAX_FDS = 253, MAX_PAYLOAD = 128, BATCH = 64 };

union one_fd {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

/* Sends each descriptor in a message of its own, in order, and closes those that went. Returns how many went;
 * -errno when the first did not. */
int sb_send_fds(int socket, const int32_t *fds, int count, const void *payload, int length) {
    struct iovec iov = {.iov_base = (void *)payload, .iov_len = (size_t)length};
    struct mmsghdr messages[BATCH];
    union one_fd control[BATCH];
    int sent = 0;
    while (sent < count) {
        int batch = count - sent < BATCH ? count - sent : BATCH;
        for (int i = 0; i < batch; i++) {
            messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov,
                                                       .msg_iovlen = 1,
                                                       .msg_control = control[i].bytes,
                                                       .msg_controllen = sizeof control[i].bytes}};
            control[i].align = (struct cmsghdr){
                .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
            memcpy(CMSG_DATA(&control[i].align), &fds[sent + i], sizeof(int));
        }
        int went = sendmmsg(socket, messages, (unsigned)batch, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (went < 0)
            return sent ? sent : -errno;
        for (int i = 0; i < went; i++)
            close(fds[sent + i]);
        sent += went;
        if (went < batch)
            return sent;
    }
    return sent;
}

/* The first descriptor of a message; every further one, in this control message or another, is closed. */
static int take_first(struct msghdr *message) {
    int first = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (first < 0)
                first = fd;
            else
                close(fd);
        }
    }
    return first;
}

/* SKBOX_STRICT_STREAM_MODE: 0 anything, 1 a SOCK_STREAM socket, 2 also of a family that connections come in.
 * A listening socket is never a connection. */
static bool acceptable(int fd, int strict) {
    int32_t kind[4];
    if (strict == 0)
        return true;
    if (sb_socket_kind(fd, kind) < 0 || kind[1] != SOCK_STREAM)
        return false;
    return strict == 1 || (!kind[3] && (kind[0] == AF_UNIX || kind[0] == AF_INET || kind[0] == AF_INET6));
}

/* With a full descriptor table the kernel would deliver the message without its descriptor, and the
 * connection would be lost (MSG_CTRUNC): make sure of a free slot first, so that it stays queued instead. */
static int free_slot(int socket) {
    int probe = fcntl(socket, F_DUPFD_CLOEXEC, 0);
    if (probe < 0)
        return -errno;
    close(probe);
    return 0;
}

/* What one message can bring: as many descriptors as the kernel passes, and who sent it. */
union control {
    char bytes[CMSG_SPACE(MAX_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
};

/* recvmsg(2) of one message; *first is the first descriptor in it, or -1. */
static ssize_t receive_message(int socket, struct msghdr *message, int *first) {
    int status = free_slot(socket);
    if (status)
        return status;
    ssize_t length = recvmsg(socket, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0)
        return -errno;
    *first = take_first(message);
    return length;
}

/* The kernel says who sent a message once sb_want_senders has asked it to; one that was sent before that is
 * nobody's, and has no process id. */
static bool sent_by(struct msghdr *message, uint32_t uid) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        struct ucred sender;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS ||
            c->cmsg_len < CMSG_LEN(sizeof sender))
            continue;
        memcpy(&sender, CMSG_DATA(c), sizeof sender);
        return sender.pid > 0 && sender.uid == uid;
    }
    return false;
}

/* Lets every message that comes from now on say who sent it (SO_PASSCRED, unix(7)). */
int sb_want_senders(int socket) {
    int on = 1;
    return setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ? -errno : 0;
}

/* One message of our own processes: its text, and at most one descriptor (fd[0], -1 without). Returns the
 * length; 0: the other end has gone; -EMSGSIZE: it was longer than size. */
int sb_receive_message(int socket, void *buffer, int size, int32_t fd[1]) {
    union control control;
    struct iovec iov = {.iov_base = buffer, .iov_len = (size_t)size};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    SB_CLOSE int first = -1;
    ssize_t length = receive_message(socket, &message, &first);
    if (length < 0)
        return (int)length;
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : -EMFILE;
    fd[0] = SB_TAKE(first);
    return (int)length;
}

static int receive_one(int socket, struct sb_flow *flow, int strict, uint32_t from_uid,
                       char payload[MAX_PAYLOAD]) {
    union control control;
    struct iovec iov = {.iov_base = payload, .iov_len = MAX_PAYLOAD};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    memset(payload, 0, MAX_PAYLOAD);
    SB_CLOSE int fd = -1;
    ssize_t length = receive_message(socket, &message, &fd);
    if (length < 0)
        return (int)length;
    if (length == 0 && fd < 0) {
        /* An empty datagram is a message without a descriptor; on the other types it is the end. */
        int type = 0;
        socklen_t size = sizeof type;
        if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type != SOCK_DGRAM)
            return -ENODATA;
    }
    memset(flow, 0, sizeof *flow);
    if (from_uid != SB_ANYBODY && !sent_by(&message, from_uid))
        flow->fd = -EACCES;
    else if (fd < 0)
        flow->fd = message.msg_flags & MSG_CTRUNC ? -EMFILE : -EBADMSG;
    else if (!acceptable(fd, strict))
        flow->fd = -EPROTOTYPE;
    else if (sb_flow_of(fd, flow) < 0 && strict)
        flow->fd = -EBADMSG;
    else
        flow->fd = SB_TAKE(fd);
    return 1;
}

/* Receives up to max connections. Returns how many entries of flows are filled; an entry whose fd is negative
 * was a message without a usable socket: -EBADMSG none in it, -EPROTOTYPE one of the wrong kind, -EMFILE lost
 * for want of a descriptor, -EACCES not sent by from_uid (SB_ANYBODY: do not look). 0: none is waiting.
 * payloads_or_null has 128 bytes for each entry, which take its message; what a short one leaves is zero.
 * -ENODATA: the sender of a connected socket has gone. -EMFILE: no descriptor is free; what waits goes on
 * waiting. */
int sb_receive_fds(int socket, struct sb_flow *flows, int max, int strict, uint32_t from_uid,
                   void *payloads_or_null) {
    int count = 0;
    char ignored[MAX_PAYLOAD], *payloads = payloads_or_null;
    while (count < max) {
        int status = receive_one(socket, &flows[count], strict, from_uid,
                                 payloads ? payloads + (ptrdiff_t)count * MAX_PAYLOAD : ignored);
        if (status == -EINTR)
            continue;
        if (status == -EAGAIN || status == -EWOULDBLOCK)
            return count;
        if (status < 0)
            return count ? count : status;
        count++;
    }
    return count;
}
