/* descriptor.c - the plain things that are done with a descriptor. */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

enum { POLL_BATCH = 64 };

int sb_close(int fd) {
    /* On Linux the descriptor is gone even after EINTR (close(2)): trying again could close another's. */
    return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

/* Closes the connection without a word of farewell: its peer gets a reset (SO_LINGER, socket(7)). */
int sb_reset(int fd) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    return sb_close(fd);
}

/* Closes those connections whose client has reset them, and puts -1 in their place; returns how many. A
 * client that has only finished sending is not among them (POLLHUP needs both directions closed, POLLERR an
 * error). */
int sb_close_reset(int32_t *fds, int count) {
    struct pollfd polled[POLL_BATCH];
    int closed = 0;
    for (int start = 0; start < count; start += POLL_BATCH) {
        int batch = count - start < POLL_BATCH ? count - start : POLL_BATCH;
        for (int i = 0; i < batch; i++)
            polled[i] = (struct pollfd){.fd = fds[start + i]};
        int ready = poll(polled, (nfds_t)batch, 0);
        if (ready < 0)
            return closed ? closed : -errno;
        for (int i = 0; ready > 0 && i < batch; i++) {
            if (!(polled[i].revents & (POLLERR | POLLHUP)))
                continue;
            close(fds[start + i]);
            fds[start + i] = -1;
            closed++;
        }
    }
    return closed;
}

int sb_duplicate(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

/* to becomes another name of what from names, and is inherited by children as the standard streams are. */
int sb_redirect(int from, int to) {
    return dup2(from, to) < 0 ? -errno : 0;
}

int sb_read(int fd, void *buffer, int length) {
    ssize_t got = read(fd, buffer, (size_t)length);
    return got < 0 ? -errno : (int)got;
}

/* What a read would give, left where it is; never waits. */
int sb_peek(int fd, void *buffer, int length) {
    ssize_t got = recv(fd, buffer, (size_t)length, MSG_PEEK | MSG_DONTWAIT);
    return got < 0 ? -errno : (int)got;
}

int sb_write(int fd, const void *buffer, int length) {
    ssize_t put = write(fd, buffer, (size_t)length);
    return put < 0 ? -errno : (int)put;
}

/* 1: a write of up to PIPE_BUF bytes would not block, or would fail at once (pipe(7)); 0: not within
 * timeout_ms. */
int sb_wait_writable(int fd, int timeout_ms) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    int ready = poll(&one, 1, timeout_ms);
    return ready < 0 ? -errno : ready;
}

static int change_flags(int fd, int get, int set, int flag, int on) {
    int flags = fcntl(fd, get);
    if (flags < 0 || fcntl(fd, set, on ? flags | flag : flags & ~flag) < 0)
        return -errno;
    return 0;
}

int sb_set_inheritable(int fd, int inheritable) {
    return change_flags(fd, F_GETFD, F_SETFD, FD_CLOEXEC, !inheritable);
}

int sb_set_nonblocking(int fd, int nonblocking) {
    return change_flags(fd, F_GETFL, F_SETFL, O_NONBLOCK, nonblocking);
}

int sb_shutdown(int fd, int how) {
    return shutdown(fd, how) < 0 ? -errno : 0;
}

/* Soft RLIMIT_NOFILE to the hard limit; returns it. */
int sb_raise_nofile(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int)limit.rlim_cur;
}
