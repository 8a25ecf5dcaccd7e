/* splice.c - bytes from one socket to another and back, without a copy in user space (splice(2)). */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#ifndef SIOCATMARK
#define SIOCATMARK 0x8905 /* <asm-generic/sockios.h> */
#endif

_Static_assert(sizeof(struct sb_way) == 56 && offsetof(struct sb_way, moved) == 48, "way layout");

/* As much as the largest pipe that anybody may have (pipe(7)); what a copy takes at a time. */
enum { CHUNK = 1 << 20, COPY = 16384, PAGE = 4096 };
/* What one event may move each way, so that other connections get their turn. */
enum { BUDGET = 4 << 20 };
/* A large pipe moves more for each call. They are few, because a user who is not root may have 64 MiB in
 * pipes (pipe(7), pipe-user-pages-soft), and because what waits in them is memory; any further one has the
 * usual 64 KiB. */
enum { LARGE = 1 << 20, LARGE_PIPES = 32 };
enum { IDLE_PIPES = sizeof(((struct sb_pipes *)0)->idle) / sizeof(((struct sb_pipes *)0)->idle[0]) };

/* What says that there is more to learn from reading a socket than the data that has come. */
enum { NOT_JUST_DATA = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI | SB_READ_TO_THE_END };

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

/* Sees to it that the way has a pipe, if there may be one more. */
static bool take_pipe(struct sb_pipes *pipes, int32_t pipe[3]) {
    if (pipe[0] >= 0)
        return true;
    if (pipes->count > 0) {
        memcpy(pipe, pipes->idle[--pipes->count], sizeof pipes->idle[0]);
        return true;
    }
    if (pipes->open >= pipes->limit || sb_pipe(pipe, pipes->open < LARGE_PIPES ? LARGE : 0) < 0)
        return false;
    pipes->open++;
    return true;
}

/* Takes it back; what waits in it has nowhere to go any more. */
void sb_return_pipe(struct sb_pipes *pipes, struct sb_way *way) {
    if (way->pipe[0] < 0)
        return;
    if (!way->held && pipes->count < IDLE_PIPES) {
        memcpy(pipes->idle[pipes->count++], way->pipe, sizeof pipes->idle[0]);
    } else {
        close(way->pipe[0]);
        close(way->pipe[1]);
        pipes->open--;
    }
    way->pipe[0] = way->pipe[1] = way->pipe[2] = -1;
    way->held = 0;
}

/* Closes those that are idle. */
int sb_pipes_close(struct sb_pipes *pipes) {
    for (; pipes->count > 0; pipes->count--, pipes->open--)
        for (int end = 0; end < 2; end++)
            close(pipes->idle[pipes->count - 1][end]);
    return 0;
}

static bool is_over(const struct sb_way *way) {
    return way->state != SB_WAY_OPEN;
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

/* Whoever cannot be read for an error has lost his connection as a whole. What he sent before has gone on. */
static void read_failed(struct sb_relay *relay, struct sb_way *way, struct sb_way *back, int error) {
    fail(relay, way->from, error);
    break_way(way);
    if (!is_over(back))
        break_way(back);
}

/* A Unix socket may know urgent bytes (since Linux 5.15), and few who read from one do: there it goes among
 * the others. */
static ssize_t send_urgent(const struct sb_relay *relay, const struct sb_way *way) {
    const struct sb_way *back = way == &relay->up ? &relay->down : &relay->up;
    char byte = (char)way->urgent;
    return send(way->to, &byte, 1,
                MSG_DONTWAIT | MSG_NOSIGNAL | (back->seen & SB_READ_TO_THE_END ? 0 : MSG_OOB));
}

/* true: nothing waits any more. */
static bool drain(struct sb_relay *relay, struct sb_way *way, int64_t *budget) {
    way->blocked = 0;
    while (way->urgent >= 0 || way->held) {
        ssize_t count = way->urgent >= 0 ? send_urgent(relay, way)
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

/* Reading stops in front of an urgent byte, splice(2) for good. It comes in line (SO_OOBINLINE), so that
 * whoever reads past it without knowing loses nothing but its urgency. Returns whether there is one to be
 * drained now; until it is here, it stays announced. */
static bool pass_mark(struct sb_way *way) {
    int at_mark = 0;
    char byte = 0;
    if (ioctl(way->from, SIOCATMARK, &at_mark) < 0 || !at_mark ||
        recv(way->from, &byte, 1, MSG_DONTWAIT) != 1)
        return false;
    way->seen &= ~(uint32_t)EPOLLPRI;
    way->urgent = (unsigned char)byte;
    return true;
}

/* Bytes taken into the pipe; 0 at the end; -EAGAIN when there are none. */
static int fill(struct sb_way *way) {
    ssize_t count = splice(way->from, NULL, way->pipe[1], NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    /* In front of the mark it seems to be the end, once the peer has finished. */
    if (count == 0 && pass_mark(way))
        return 1;
    if (count < 0)
        return -errno;
    way->held = (uint32_t)count;
    return (int)count;
}

/* A small piece costs less as a copy than as two calls of splice(2), and most are small. What `to` does not
 * take waits in the pipe. Counts as fill does. */
static int forward(struct sb_relay *relay, struct sb_way *way, int64_t *budget) {
    char buffer[COPY];
    size_t room = (size_t)way->pipe[2] * PAGE < sizeof buffer ? (size_t)way->pipe[2] * PAGE : sizeof buffer;
    ssize_t there = recv(way->from, buffer, room, MSG_DONTWAIT);
    if (there <= 0)
        return there < 0 ? -errno : 0;
    way->large = (size_t)there == room;
    ssize_t sent = send(way->to, buffer, (size_t)there, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && !would_block(errno)) {
        write_failed(relay, way, errno);
        return -EAGAIN;
    }
    if (sent < 0)
        sent = 0;
    way->moved += (uint64_t)sent;
    *budget -= sent;
    way->held = (uint32_t)(there - sent);
    /* Where that fails, some may be in it all the same: a pipe that holds something is not used again. */
    if (way->held && write(way->pipe[1], buffer + sent, way->held) != way->held)
        return -EIO;
    return (int)there;
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

/* Where the other way is over already, both sockets are closed next, or reset, which says it all. An end that
 * comes after a write has failed may be none: the error that it stands for has been taken. */
static void finish(struct sb_relay *relay, struct sb_way *way, const struct sb_way *back) {
    way->state = SB_WAY_DONE;
    if (!is_over(back) && shutdown(way->to, SHUT_WR) < 0 && errno != ENOTCONN) {
        fail(relay, way->to, errno);
        way->state = SB_WAY_BROKEN;
    }
}

/* Moves what can be moved one way; true when it stopped only because the budget is spent. */
static bool move(struct sb_relay *relay, struct sb_way *way, struct sb_way *back, struct sb_pipes *pipes,
                 int64_t *budget) {
    for (;;) {
        if (!drain(relay, way, budget))
            return false;
        if (*budget <= 0)
            return true;
        if (way->seen & EPOLLPRI && pass_mark(way))
            continue;
        bool has_pipe = take_pipe(pipes, way->pipe), whole = way->large;
        bool just_data = !(way->seen & NOT_JUST_DATA);
        int count = !has_pipe ? copy(relay, way, budget) : whole ? fill(way) : forward(relay, way, budget);
        if (count == -EINTR)
            continue;
        if (count == -EAGAIN)
            return false;
        if (whole && count < COPY)
            way->large = 0;
        if (count <= 0) {
            if (count < 0)
                read_failed(relay, way, back, -count);
            else
                finish(relay, way, back);
            return false;
        }
        if (has_pipe && just_data && (whole ? count < way->pipe[2] : !way->large)) {
            /* A buffer was not filled, or, as each page of a pipe holds a byte at least, a pipe: the socket
             * has no more. What comes from now on is a new event, and asking again would only tell us that
             * there is nothing. */
            drain(relay, way, budget);
            return false;
        }
    }
}

static bool run(struct sb_relay *relay, struct sb_way *way, struct sb_way *back, struct sb_pipes *pipes,
                uint32_t from_events, uint32_t to_events) {
    way->seen |= from_events & (NOT_JUST_DATA | EPOLLIN);
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
    int64_t budget = BUDGET;
    if (way->blocked ? to_events & (EPOLLOUT | EPOLLERR | EPOLLHUP) : from_events & (EPOLLIN | NOT_JUST_DATA))
        return move(relay, way, back, pipes, &budget);
    return false;
}

static void put_pipe_back(struct sb_pipes *pipes, struct sb_way *way) {
    if (!way->held || is_over(way))
        sb_return_pipe(pipes, way);
}

int sb_move_both(struct sb_relay *relay, struct sb_pipes *pipes, uint32_t client_events,
                 uint32_t target_events) {
    struct sb_way *up = &relay->up, *down = &relay->down;
    int more = run(relay, up, down, pipes, client_events, target_events) ? SB_MORE_UP : 0;
    put_pipe_back(pipes, up);
    more |= run(relay, down, up, pipes, target_events, client_events) ? SB_MORE_DOWN : 0;
    put_pipe_back(pipes, down);
    put_pipe_back(pipes, up); /* an error of the other way may have ended this one */
    if (is_over(up) && is_over(down))
        relay->stage = SB_RELAY_OVER;
    return more;
}
