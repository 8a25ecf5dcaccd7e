/* splice.c - bytes from one socket to another and back, without a copy in user space (splice(2)). */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#ifndef SIOCATMARK
#define SIOCATMARK 0x8905 /* <asm-generic/sockios.h> */
#endif

_Static_assert(sizeof(struct sb_way) == 48 && offsetof(struct sb_way, moved) == 40, "way layout");
_Static_assert(sizeof(struct sb_relay) == 104 && offsetof(struct sb_relay, culprit) == 100, "relay layout");

/* As much as the largest pipe that anybody may have (pipe(7)); what a copy takes at a time. */
enum { CHUNK = 1 << 20, COPY = 16384, PAGE = 4096 };

/* What says that there is more to learn from reading a socket than the data that has come. */
enum { NOT_JUST_DATA = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI };

/* Returns how many pages it holds. A user's pipes together may hold only so much (pipe-user-pages-soft); then
 * it stays as small as it is. */
int sb_pipe(int32_t pipe[3], int size) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    if (size)
        (void)fcntl(ends[1], F_SETPIPE_SZ, size);
    int capacity = fcntl(ends[1], F_GETPIPE_SZ);
    pipe[0] = ends[0];
    pipe[1] = ends[1];
    pipe[2] = capacity < PAGE ? 1 : capacity / PAGE;
    return pipe[2];
}

static void move_pipe(int32_t to[3], int32_t from[3]) {
    for (int i = 0; i < 3; i++) {
        to[i] = from[i];
        from[i] = -1;
    }
}

static bool is_over(const struct sb_way *way) {
    return way->state == SB_WAY_DONE || way->state == SB_WAY_BROKEN;
}

static void fail(struct sb_relay *relay, int fd, int error) {
    if (relay->error)
        return;
    relay->error = error;
    relay->culprit = fd;
}

/* Nothing can be written any more. What waits in the pipe is lost, as it is with the kernel's own queue. */
static void break_way(struct sb_way *way) {
    way->state = SB_WAY_BROKEN;
    way->blocked = 0;
    way->urgent = -1;
}

static bool would_block(int error) {
    return error == EAGAIN || error == EWOULDBLOCK;
}

static void write_failed(struct sb_relay *relay, struct sb_way *way, int error) {
    fail(relay, way->to, error);
    break_way(way);
}

/* Whoever cannot be read for an error has lost his connection as a whole; what he sent before still arrives.
 */
static void read_failed(struct sb_relay *relay, struct sb_way *way, struct sb_way *back, int error) {
    fail(relay, way->from, error);
    way->state = SB_WAY_RESETTING;
    if (!is_over(back))
        break_way(back);
}

/* A receiver without urgent data (a Unix socket) gets the byte among the others. */
static ssize_t send_urgent(int to, char byte) {
    ssize_t sent = send(to, &byte, 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
        sent = send(to, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent;
}

/* true: nothing waits any more. */
static bool drain(struct sb_relay *relay, struct sb_way *way, int64_t *budget) {
    way->blocked = 0;
    while (way->urgent >= 0 || way->held) {
        ssize_t count = way->urgent >= 0 ? send_urgent(way->to, (char)way->urgent)
                                         : splice(way->pipe[0], NULL, way->to, NULL, way->held,
                                                  SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && would_block(errno)) {
            way->blocked = 1;
            return false;
        }
        if (count <= 0) {
            write_failed(relay, way, count < 0 ? errno : EIO);
            return false;
        }
        if (way->urgent >= 0)
            way->urgent = -1;
        else
            way->held -= (uint32_t)count;
        way->moved += (uint64_t)count;
        *budget -= count;
    }
    return true;
}

/* splice(2) stops in front of an urgent byte and never gets past it; a plain read does, and takes the byte
 * behind it along. Returns how many bytes are to be drained now, counted as fill does. */
static int pass_mark(struct sb_way *way) {
    int at_mark = 0;
    char byte = 0;
    way->seen &= ~(uint32_t)EPOLLPRI;
    if (ioctl(way->from, SIOCATMARK, &at_mark) < 0 || !at_mark)
        return -EAGAIN;
    if (recv(way->from, &byte, 1, MSG_OOB | MSG_DONTWAIT) == 1)
        way->urgent = (unsigned char)byte;
    else if (errno != EINVAL) /* announced, and not here yet */
        return -EAGAIN;
    if (recv(way->from, &byte, 1, MSG_DONTWAIT) == 1) {
        if (write(way->pipe[1], &byte, 1) != 1)
            return -EIO;
        way->held = 1;
    }
    return way->urgent >= 0 || way->held ? 1 : -EAGAIN;
}

/* Bytes taken into the pipe; 0 at the end; -EAGAIN when there are none. */
static int fill(struct sb_way *way) {
    ssize_t count = splice(way->from, NULL, way->pipe[1], NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    int result = count < 0 ? -errno : (int)count;
    /* In front of the mark there is never anything, or, once the peer has finished, the end. */
    if (way->seen & EPOLLPRI && (count == 0 || would_block(-result))) {
        int passed = pass_mark(way);
        return passed == -EAGAIN ? result : passed;
    }
    if (count < 0)
        return result;
    way->held = (uint32_t)count;
    return (int)count;
}

/* The same without a pipe, for when none can be had: what `to` does not take stays where it is. */
static int copy(struct sb_relay *relay, struct sb_way *way, int64_t *budget) {
    char buffer[COPY];
    ssize_t there = recv(way->from, buffer, sizeof buffer, MSG_PEEK | MSG_DONTWAIT);
    if (there <= 0)
        return there < 0 ? -errno : 0;
    ssize_t sent = send(way->to, buffer, (size_t)there, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && would_block(errno)) {
        way->blocked = 1;
        return -EAGAIN;
    }
    if (sent <= 0) {
        write_failed(relay, way, sent < 0 ? errno : EIO);
        return -EAGAIN;
    }
    way->moved += (uint64_t)sent;
    *budget -= sent;
    /* These bytes are there: it has just been seen. */
    return recv(way->from, buffer, (size_t)sent, MSG_DONTWAIT) == sent ? (int)sent : -EIO;
}

/* Where the other way is done already, both sockets are closed next, which says the same. */
static void finish(struct sb_relay *relay, struct sb_way *way, const struct sb_way *back) {
    if (way->state == SB_WAY_RESETTING) {
        way->state = SB_WAY_BROKEN;
        return;
    }
    way->state = SB_WAY_DONE;
    if (back->state != SB_WAY_DONE && shutdown(way->to, SHUT_WR) < 0 && errno != ENOTCONN) {
        fail(relay, way->to, errno);
        way->state = SB_WAY_BROKEN;
    }
}

/* Moves what can be moved one way; true when it stopped only because the budget is spent. */
static bool move(struct sb_relay *relay, struct sb_way *way, struct sb_way *back, int32_t spare[3],
                 int64_t *budget) {
    for (;;) {
        if (!drain(relay, way, budget))
            return false;
        if (way->state != SB_WAY_OPEN) {
            finish(relay, way, back);
            return false;
        }
        if (*budget <= 0)
            return true;
        if (way->pipe[0] < 0 && spare[0] >= 0)
            move_pipe(way->pipe, spare);
        bool has_pipe = way->pipe[0] >= 0;
        int count = has_pipe ? fill(way) : copy(relay, way, budget);
        if (count == -EINTR)
            continue;
        if (count == -EAGAIN)
            return false;
        if (count < 0)
            read_failed(relay, way, back, -count);
        else if (count == 0)
            way->state = SB_WAY_ENDING;
        else if (has_pipe && count < way->pipe[2] && !(way->seen & NOT_JUST_DATA)) {
            /* Each page of a pipe holds a byte at least, so this pipe was not full: the socket has no more.
             * What comes from now on is a new event, and asking again would only tell us that there is
             * nothing. */
            drain(relay, way, budget);
            return false;
        }
    }
}

static bool run(struct sb_relay *relay, struct sb_way *way, struct sb_way *back, int32_t spare[3],
                uint32_t from_events, uint32_t to_events, int64_t *budget) {
    way->seen |= from_events & NOT_JUST_DATA;
    if (is_over(way))
        return false;
    /* An error of `to` shows where it is read; where that is over, or it is not to be read, it shows here. */
    if (to_events & EPOLLERR && is_over(back)) {
        int error = 0;
        socklen_t length = sizeof error;
        if (getsockopt(way->to, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error) {
            write_failed(relay, way, error);
            return false;
        }
    }
    bool more = false;
    if (way->blocked ? to_events & (EPOLLOUT | EPOLLERR | EPOLLHUP) : from_events & (EPOLLIN | NOT_JUST_DATA))
        more = move(relay, way, back, spare, budget);
    if (!way->held && way->pipe[0] >= 0 && spare[0] < 0)
        move_pipe(spare, way->pipe);
    return more;
}

/* Moves what can be moved both ways, about `budget` bytes at most, after these events of its two sockets,
 * which are watched edge-triggered for IN, OUT, RDHUP and PRI. `spare` is a pipe to work with; it is taken
 * (-1) when something has to wait in it. Returns a set of enum sb_relay_result. */
int sb_relay(struct sb_relay *relay, int32_t spare[3], uint32_t client_events, uint32_t target_events,
             int budget) {
    struct sb_way *up = &relay->up, *down = &relay->down;
    int64_t up_budget = budget, down_budget = budget;
    bool more = run(relay, up, down, spare, client_events, target_events, &up_budget);
    more |= run(relay, down, up, spare, target_events, client_events, &down_budget);
    int result = more ? SB_RELAY_MORE : 0;
    if (is_over(up) && is_over(down))
        result |= SB_RELAY_OVER;
    if (up->pipe[0] >= 0 || down->pipe[0] >= 0 || spare[0] < 0)
        result |= SB_RELAY_PIPES;
    return result;
}

/* Closes the connection without a word of farewell: its peer gets a reset (SO_LINGER, socket(7)). */
int sb_reset(int fd) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    return sb_close(fd);
}
