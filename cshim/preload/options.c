/* options.c - capture and replay of socket options. */
#define _GNU_SOURCE
#include "options.h"

#include "guest.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#ifndef TCP_NOTSENT_LOWAT
#define TCP_NOTSENT_LOWAT 25
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#ifndef SO_MAX_PACING_RATE
#define SO_MAX_PACING_RATE 47
#endif

enum how {
    KEEP = 0,
    INHERIT = 1, /* sockets that accept returns have it too (tcp(7), socket(7)) */
    HALF = 2,    /* the kernel doubles what it is told, and tells the doubled value */
};

/* The order is part of what travels between processes: append only. */
static const struct {
    int level, name, how;
} table[] = {
    {SOL_SOCKET, SO_REUSEADDR, KEEP},
    {SOL_SOCKET, SO_REUSEPORT, KEEP},
    {SOL_SOCKET, SO_KEEPALIVE, INHERIT},
    {SOL_SOCKET, SO_LINGER, INHERIT},
    {SOL_SOCKET, SO_OOBINLINE, INHERIT},
    {SOL_SOCKET, SO_DONTROUTE, INHERIT},
    {SOL_SOCKET, SO_PRIORITY, KEEP},
    {SOL_SOCKET, SO_MARK, INHERIT},
    {SOL_SOCKET, SO_RCVBUF, INHERIT | HALF},
    {SOL_SOCKET, SO_SNDBUF, INHERIT | HALF},
    {SOL_SOCKET, SO_RCVLOWAT, INHERIT},
    {SOL_SOCKET, SO_RCVTIMEO, INHERIT},
    {SOL_SOCKET, SO_SNDTIMEO, INHERIT},
    {SOL_SOCKET, SO_TIMESTAMP, INHERIT},
    {SOL_SOCKET, SO_MAX_PACING_RATE, INHERIT},
    {IPPROTO_TCP, TCP_NODELAY, INHERIT},
    {IPPROTO_TCP, TCP_CORK, INHERIT},
    {IPPROTO_TCP, TCP_MAXSEG, KEEP},
    {IPPROTO_TCP, TCP_KEEPIDLE, INHERIT},
    {IPPROTO_TCP, TCP_KEEPINTVL, INHERIT},
    {IPPROTO_TCP, TCP_KEEPCNT, INHERIT},
    {IPPROTO_TCP, TCP_SYNCNT, KEEP},
    {IPPROTO_TCP, TCP_LINGER2, INHERIT},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, KEEP},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP, INHERIT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, INHERIT},
    {IPPROTO_TCP, TCP_FASTOPEN, KEEP},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, INHERIT},
    {IPPROTO_TCP, TCP_CONGESTION, INHERIT},
    {IPPROTO_IP, IP_TOS, INHERIT},
    {IPPROTO_IP, IP_TTL, INHERIT},
    {IPPROTO_IP, IP_FREEBIND, KEEP},
    {IPPROTO_IP, IP_TRANSPARENT, KEEP},
    {IPPROTO_IPV6, IPV6_V6ONLY, KEEP},
    {IPPROTO_IPV6, IPV6_TCLASS, INHERIT},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, INHERIT},
    {IPPROTO_IPV6, IPV6_FREEBIND, KEEP},
    {IPPROTO_IPV6, IPV6_TRANSPARENT, KEEP},
};
enum { TABLE_SIZE = sizeof table / sizeof table[0] };

static bool get(int fd, int index, struct option *option) {
    socklen_t length = OPTION_SIZE;
    memset(option, 0, sizeof *option);
    option->index = (uint8_t)index;
    if (real.getsockopt(fd, table[index].level, table[index].name, option->value, &length) < 0)
        return false;
    option->length = (uint8_t)length;
    return true;
}

/* One that is not permitted here (IP_TRANSPARENT for another user) is left out. */
static void set(int fd, const struct option *option) {
    if (option->index >= TABLE_SIZE || option->length > OPTION_SIZE)
        return;
    uint8_t value[OPTION_SIZE];
    memcpy(value, option->value, OPTION_SIZE);
    if (table[option->index].how & HALF) {
        int doubled;
        memcpy(&doubled, value, sizeof doubled);
        doubled /= 2;
        memcpy(value, &doubled, sizeof doubled);
    }
    real.setsockopt(fd, table[option->index].level, table[option->index].name, value, option->length);
}

static int fresh_socket(int family, int protocol) {
    return outcome_of(socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol));
}

int options_capture(int fd, int family, int protocol, struct options *options) {
    OWNED int fresh = fresh_socket(family, protocol);
    if (fresh < 0)
        return fresh;
    memset(options, 0, sizeof *options);
    for (int i = 0; i < TABLE_SIZE && options->count < MAX_OPTIONS; i++) {
        struct option told, initial;
        if (get(fd, i, &told) && get(fresh, i, &initial) && memcmp(&told, &initial, sizeof told) != 0)
            options->list[options->count++] = told;
    }
    return 0;
}

int options_scratch(const struct options *options, int family, int protocol) {
    int fd = fresh_socket(family, protocol);
    for (int i = 0; fd >= 0 && i < options->count && i < MAX_OPTIONS; i++)
        set(fd, &options->list[i]);
    return fd;
}

void options_inherit(const struct options *options, int connection) {
    for (int i = 0; i < options->count && i < MAX_OPTIONS; i++) {
        const struct option *option = &options->list[i];
        if (option->index < TABLE_SIZE && table[option->index].how & INHERIT)
            set(connection, option);
    }
}
