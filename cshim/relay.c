/* relay.c - the table of relayed connections: events of its sockets become moves, and news for who decides.
 *
 * The table is the caller's; `slot` is an index. Both sockets of a slot are registered with epoll(7) once,
 * for all events, edge-triggered, under ~(2 * slot + side) in the place of a descriptor, which is never
 * negative otherwise. */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>

_Static_assert(sizeof(struct sb_relay) == 128 && offsetof(struct sb_relay, stage) == 120, "relay layout");
_Static_assert(sizeof(struct sb_pipes) == 12 + 64 * 12, "pipes layout");

enum side { CLIENT, TARGET };
#define WATCHED (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | (uint32_t)EPOLLET)

static int watch(int epoll, int operation, int fd, int slot, enum side side) {
    struct epoll_event event = {.events = WATCHED, .data.u64 = (uint32_t) ~(2 * slot + (int)side)};
    return epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
}

static struct sb_way empty_way(void) {
    return (struct sb_way){.from = -1, .to = -1, .pipe = {-1, -1, -1}, .urgent = -1};
}

/* An urgent byte (tcp(7)) comes in its place, and is not passed over. */
static void take_urgent_inline(int fd) {
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
}

/* Puts a client into a free slot. It must never block us, and never wait for more before it sends. It stays
 * the caller's where that fails. */
int sb_relay_open(int epoll, struct sb_relay *relays, int slot, int client, int nonblocking) {
    struct sb_relay *relay = &relays[slot];
    int on = 1;
    /* A socket has no other flag worth asking for first. */
    if (!nonblocking && fcntl(client, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    int status = watch(epoll, EPOLL_CTL_ADD, client, slot, CLIENT);
    if (status)
        return status;
    take_urgent_inline(client);
    *relay = (struct sb_relay){.up = empty_way(), .down = empty_way(), .stage = SB_RELAY_WAITING};
    relay->up.from = relay->down.to = client;
    if (setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        relay->up.seen = SB_READ_TO_THE_END; /* a Unix socket has no such option, and no such delay */
    return 0;
}

/* Gives it a target, which sb_connect_inet or sb_connect_unix has made, and which may still be connecting.
 * One that was registered before is told of again, with all events that it shows. With SB_HOLD nothing moves
 * before sb_relay_move. The target stays the caller's where that fails. */
int sb_relay_join(int epoll, struct sb_relay *relays, int slot, int target, int flags) {
    struct sb_relay *relay = &relays[slot];
    int status = watch(epoll, EPOLL_CTL_ADD, target, slot, TARGET);
    if (status == -EEXIST)
        status = watch(epoll, EPOLL_CTL_MOD, target, slot, TARGET);
    if (status)
        return status;
    take_urgent_inline(target);
    relay->up.to = relay->down.from = target;
    relay->down.seen = flags & SB_UNIX_TARGET ? SB_READ_TO_THE_END : 0;
    relay->stage = flags & SB_HOLD ? SB_RELAY_HELD : SB_RELAY_CONNECTING;
    return 0;
}

/* Lets go of a target that was not reached, or not in time. */
int sb_relay_leave(struct sb_relay *relays, int slot) {
    struct sb_relay *relay = &relays[slot];
    int target = relay->down.from;
    relay->up.to = relay->down.from = -1;
    relay->stage = SB_RELAY_WAITING;
    relay->error = 0;
    return close(target) < 0 ? -errno : 0;
}

/* It takes nothing any more, and may have said something before. */
static void target_failed(struct sb_relay *relay, int error) {
    relay->up.state = SB_WAY_BROKEN;
    if (relay->error)
        return;
    relay->error = error;
    relay->culprit = relay->down.from;
}

/* A reset instead of a connection is ECONNREFUSED (tcp(7)); these are of one that stood. Whoever has answered
 * before is heard to the end; asking for the error has taken it, so that it is noted here. */
static bool has_answered_and_reset(struct sb_relay *relay, int error) {
    char byte;
    if ((error != ECONNRESET && error != EPIPE) ||
        recv(relay->down.from, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
        return false;
    target_failed(relay, error);
    return true;
}

/* false while it is under way. A socket can be written before it is connected only where that has failed. */
static bool has_connected(struct sb_relay *relay, uint32_t events) {
    int result =
        (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == EPOLLOUT ? 0 : sb_connect_result(relay->up.to);
    if (result == -EINPROGRESS)
        return false;
    if (has_answered_and_reset(relay, -result)) {
        relay->told |= SB_NEWS_REACHED;
        return true;
    }
    relay->told |= result ? SB_NEWS_FAILED : SB_NEWS_REACHED;
    relay->error = -result;
    return !result;
}

/* What is left over for lack of a turn is told again by epoll(7): changing a registration does that. */
static void pump(int epoll, struct sb_relay *relay, int slot, struct sb_pipes *pipes, uint32_t client_events,
                 uint32_t target_events) {
    int more = sb_move_both(relay, pipes, client_events, target_events);
    if (more & SB_MORE_UP)
        (void)watch(epoll, EPOLL_CTL_MOD, relay->up.from, slot, CLIENT);
    if (more & SB_MORE_DOWN)
        (void)watch(epoll, EPOLL_CTL_MOD, relay->down.from, slot, TARGET);
    if (relay->stage == SB_RELAY_OVER)
        relay->told |= SB_NEWS_OVER;
}

static void start(int epoll, struct sb_relay *relay, int slot, struct sb_pipes *pipes) {
    relay->stage = SB_RELAY_MOVING;
    pump(epoll, relay, slot, pipes, relay->up.seen, relay->down.seen);
}

static void handle(int epoll, struct sb_relay *relay, int slot, enum side side, uint32_t events,
                   struct sb_pipes *pipes) {
    if (relay->stage == SB_RELAY_MOVING) {
        pump(epoll, relay, slot, pipes, side == CLIENT ? events : 0, side == TARGET ? events : 0);
        return;
    }
    if (relay->stage == SB_RELAY_FREE || relay->stage == SB_RELAY_OVER)
        return;
    struct sb_way *way = side == CLIENT ? &relay->up : &relay->down;
    way->seen |= events & ~(uint32_t)EPOLLOUT;
    if (side == CLIENT) {
        /* A hangup alone is a Unix client that has sent all it wanted to, and closed. */
        if (relay->stage == SB_RELAY_WAITING || events & EPOLLERR)
            relay->told |= SB_NEWS_CLIENT;
    } else if (!(relay->told & (SB_NEWS_REACHED | SB_NEWS_FAILED)) && has_connected(relay, events) &&
               relay->stage == SB_RELAY_CONNECTING)
        start(epoll, relay, slot, pipes);
}

/* Waits, and moves what can be moved, until there is something for the caller: events of other descriptors,
 * of which as many as the result says are in `events`, or slots that have news (sb_relay.told, which is the
 * caller's to clear): told[0] of them, from told[1] on. A signal ends the wait too. `told` has room for one
 * more than `max`. */
int sb_relay_wait(int epoll, struct sb_relay *relays, struct sb_pipes *pipes, struct sb_event *events,
                  int max, uint32_t *told) {
    int others = 0;
    told[0] = 0;
    do {
        int count = sb_epoll_wait(epoll, events, max, -1);
        if (count <= 0)
            return count;
        for (int i = 0; i < count; i++) {
            if (events[i].fd >= 0) {
                events[others++] = events[i];
                continue;
            }
            int slot = ~events[i].fd >> 1;
            struct sb_relay *relay = &relays[slot];
            uint32_t before = relay->told;
            handle(epoll, relay, slot, ~events[i].fd & 1, events[i].events, pipes);
            if (!before && relay->told)
                told[++told[0]] = (uint32_t)slot;
        }
    } while (!others && !told[0]);
    return others;
}

/* Lets a held connection go. Where writing to its target failed with `error`, that is only heard to the end.
 * Returns its news (enum sb_relay_news). */
int sb_relay_move(int epoll, struct sb_relay *relays, int slot, struct sb_pipes *pipes, int error) {
    struct sb_relay *relay = &relays[slot];
    if (error)
        target_failed(relay, error);
    start(epoll, relay, slot, pipes);
    int news = (int)relay->told;
    relay->told = 0;
    return news;
}

/* Ends a connection that somebody else may still have open, so that closing it would neither end its
 * registration nor tell the peer. Breaking the association is what resets it then (connect(2), tcp(7)). */
static void end_shared(int epoll, int fd, int reset) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    (void)epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
    if (!reset || setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) < 0 ||
        connect(fd, &nobody, sizeof nobody) < 0)
        (void)shutdown(fd, SHUT_RDWR);
}

/* Closes both sockets and frees the slot. `reset`: so that their peers learn that it was not the proper end.
 * `shared`: somebody else may still have the client open. */
int sb_relay_close(int epoll, struct sb_relay *relays, int slot, struct sb_pipes *pipes, int reset,
                   int shared) {
    struct sb_relay *relay = &relays[slot];
    sb_return_pipe(pipes, &relay->up);
    sb_return_pipe(pipes, &relay->down);
    if (shared)
        end_shared(epoll, relay->up.from, reset);
    (void)(reset ? sb_reset : sb_close)(relay->up.from);
    if (relay->up.to >= 0)
        (void)(reset ? sb_reset : sb_close)(relay->up.to);
    relay->stage = SB_RELAY_FREE;
    return 0;
}
