/* options.c - capture and replay of socket options. */
#define _GNU_SOURCE
#include "options.h"

#include "guest.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* What headers of some libc do not name. */
#ifndef TCP_NOTSENT_LOWAT
#define TCP_NOTSENT_LOWAT 25
#endif
#ifndef SO_MAX_PACING_RATE
#define SO_MAX_PACING_RATE 47
#endif
#ifndef SO_TIMESTAMP_NEW
#define SO_TIMESTAMP_NEW 63
#define SO_TIMESTAMPNS_NEW 64
#define SO_TIMESTAMPING_NEW 65
#endif
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#endif
#ifndef SO_RCVMARK
#define SO_RCVMARK 75
#endif
#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY 82
#endif
#ifndef IP_RECVERR_RFC4884
#define IP_RECVERR_RFC4884 26
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif
#ifndef IPV6_ROUTER_ALERT_ISOLATE
#define IPV6_ROUTER_ALERT_ISOLATE 30
#endif
#ifndef IPV6_RECVERR_RFC4884
#define IPV6_RECVERR_RFC4884 31
#endif
#ifndef IPV6_FLOWINFO_SEND
#define IPV6_FLOWINFO_SEND 33
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPV6_RECVFRAGSIZE
#define IPV6_RECVFRAGSIZE 77
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
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
    {IPPROTO_TCP, TCP_SYNCNT, INHERIT},
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
    {SOL_SOCKET, SO_BINDTODEVICE, KEEP},
    {SOL_SOCKET, SO_BROADCAST, INHERIT},
    {SOL_SOCKET, SO_DEBUG, INHERIT},
    {SOL_SOCKET, SO_TIMESTAMPNS, INHERIT},
    {SOL_SOCKET, SO_TIMESTAMPING, INHERIT},
    {SOL_SOCKET, SO_RXQ_OVFL, INHERIT},
    {SOL_SOCKET, SO_SELECT_ERR_QUEUE, INHERIT},
    {SOL_SOCKET, SO_BUSY_POLL, INHERIT},
    {SOL_SOCKET, SO_INCOMING_CPU, KEEP},
    {SOL_SOCKET, SO_ZEROCOPY, INHERIT},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, INHERIT},
    {IPPROTO_TCP, TCP_SAVE_SYN, INHERIT},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT, KEEP},
    {IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, INHERIT},
    {IPPROTO_TCP, TCP_INQ, INHERIT},
    {IPPROTO_TCP, TCP_TX_DELAY, INHERIT},
    {IPPROTO_IP, IP_RECVOPTS, INHERIT},
    {IPPROTO_IP, IP_RETOPTS, INHERIT},
    {IPPROTO_IP, IP_PKTINFO, INHERIT},
    {IPPROTO_IP, IP_MTU_DISCOVER, INHERIT},
    {IPPROTO_IP, IP_RECVERR, INHERIT},
    {IPPROTO_IP, IP_RECVTTL, INHERIT},
    {IPPROTO_IP, IP_RECVTOS, INHERIT},
    {IPPROTO_IP, IP_PASSSEC, INHERIT},
    {IPPROTO_IP, IP_RECVORIGDSTADDR, INHERIT},
    {IPPROTO_IP, IP_MINTTL, INHERIT},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, INHERIT},
    {IPPROTO_IP, IP_LOCAL_PORT_RANGE, INHERIT},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVERR, INHERIT},
    {IPPROTO_IPV6, IPV6_FLOWINFO_SEND, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVHOPOPTS, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVRTHDR, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVDSTOPTS, INHERIT},
    {IPPROTO_IPV6, IPV6_DONTFRAG, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, INHERIT},
    {IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, INHERIT},
    {IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, INHERIT},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, INHERIT},
    {SOL_SOCKET, SO_TIMESTAMP_NEW, INHERIT},
    {SOL_SOCKET, SO_TIMESTAMPNS_NEW, INHERIT},
    {SOL_SOCKET, SO_TIMESTAMPING_NEW, INHERIT},
    {SOL_SOCKET, SO_NO_CHECK, INHERIT},
    {SOL_SOCKET, SO_WIFI_STATUS, INHERIT},
    {SOL_SOCKET, SO_PEEK_OFF, INHERIT},
    {SOL_SOCKET, SO_NOFCS, INHERIT},
    {SOL_SOCKET, SO_LOCK_FILTER, INHERIT},
    {SOL_SOCKET, SO_PREFER_BUSY_POLL, INHERIT},
    {SOL_SOCKET, SO_RCVMARK, INHERIT},
    {SOL_SOCKET, SO_RCVPRIORITY, INHERIT},
    {IPPROTO_IP, IP_CHECKSUM, INHERIT},
    {IPPROTO_IP, IP_RECVERR_RFC4884, INHERIT},
    {IPPROTO_IP, IP_MULTICAST_ALL, INHERIT},
    {IPPROTO_IPV6, IPV6_2292PKTINFO, INHERIT},
    {IPPROTO_IPV6, IPV6_2292HOPOPTS, INHERIT},
    {IPPROTO_IPV6, IPV6_2292DSTOPTS, INHERIT},
    {IPPROTO_IPV6, IPV6_2292RTHDR, INHERIT},
    {IPPROTO_IPV6, IPV6_2292HOPLIMIT, INHERIT},
    {IPPROTO_IPV6, IPV6_FLOWINFO, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVPATHMTU, INHERIT},
    {IPPROTO_IPV6, IPV6_ROUTER_ALERT_ISOLATE, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVERR_RFC4884, INHERIT},
    {IPPROTO_IPV6, IPV6_RECVFRAGSIZE, INHERIT},
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
