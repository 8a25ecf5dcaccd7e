/* load.c - clients, many at a time, that count what becomes of them.
 *
 *   load [-a ADDRESS] [-d DESTINATIONS] [-h] [-l LEFT] [-t SECONDS] PORT COUNT AT_A_TIME
 *
 * Each client connects and waits for one byte. It prints a line of JSON: how many were
 *   served   got the byte (by which byte: "by")
 *   closed   got an end of file without one
 *   reset    got a reset, or another error, after the connection was made
 *   refused  could not connect
 *   stuck    had none of these after SECONDS (100), was one of the last LEFT, or waited when SIGTERM came
 * -d: connect to 127.16.0.0 and the DESTINATIONS-1 addresses after it, at random, instead of ADDRESS.
 * -h: finish sending (half-close) as soon as connected. -t 0: give up as soon as connected. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in6 target;
static long destinations, left, seconds = 100;
static volatile sig_atomic_t told;
static int half_close, epoll;
static long started, served, closed, reset, refused, stuck, by[256];

struct client {
    int fd;
    double since;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void end(struct client *client) {
    /* A reset keeps 60,000 connections from filling the table of closed ones (TIME_WAIT). */
    struct linger at_once = {1, 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(client->fd);
    client->fd = -1;
}

static void start(struct client *client) {
    struct sockaddr_in6 to = target;
    if (destinations) {
        uint32_t address = htonl(0x7f100000 + (uint32_t)(random() % destinations));
        memcpy(&to.sin6_addr.s6_addr[12], &address, sizeof address);
    }
    client->fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    int off = 0;
    setsockopt(client->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    client->since = now();
    started++;
    if (connect(client->fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        refused++;
        end(client);
        return;
    }
    if (half_close)
        shutdown(client->fd, SHUT_WR); /* works while connecting, too: the FIN follows the handshake */
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event);
}

static void on_terminate(int signal) {
    (void)signal;
    told = 1;
}

/* One that is not connected yet could go without the server's ever hearing of it. */
static bool gives_up(const struct client *client, double time) {
    struct sockaddr_in6 peer;
    socklen_t length = sizeof peer;
    double waited = time - client->since;
    return waited > (double)seconds && (waited > 100 || getpeername(client->fd, (void *)&peer, &length) == 0);
}

static void hear(struct client *client) {
    unsigned char byte;
    ssize_t got = recv(client->fd, &byte, 1, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got == 1)
        served++, by[byte]++;
    else if (got == 0)
        closed++;
    else if (errno == ECONNREFUSED || errno == ETIMEDOUT)
        refused++;
    else
        reset++;
    end(client);
}

int main(int argc, char **argv) {
    const char *address = "::ffff:127.0.0.1";
    for (int option; (option = getopt(argc, argv, "a:d:hl:t:")) != -1;) {
        if (option == 'a')
            address = optarg;
        else if (option == 'd')
            destinations = atol(optarg);
        else if (option == 'h')
            half_close = 1;
        else if (option == 'l')
            left = atol(optarg);
        else if (option == 't')
            seconds = atol(optarg);
        else
            return 2;
    }
    if (argc - optind != 3)
        return 2;
    target.sin6_family = AF_INET6;
    target.sin6_port = htons((uint16_t)atoi(argv[optind]));
    if (inet_pton(AF_INET6, address, &target.sin6_addr) != 1)
        return 2;
    long count = atol(argv[optind + 1]), width = atol(argv[optind + 2]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGTERM, on_terminate);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct client *clients = calloc((size_t)width, sizeof *clients);
    for (long i = 0; i < width; i++)
        clients[i].fd = -1;
    double begin = now(), swept = begin;
    long idle = 1; /* clients that have ended, and were not started again */
    for (;;) {
        long busy = 0;
        double time = now();
        if (time - swept > 0.2 || idle || told) {
            swept = time;
            idle = 0;
            for (long i = 0; i < width; i++) {
                if (clients[i].fd >= 0 && gives_up(&clients[i], time))
                    stuck++, end(&clients[i]);
                if (clients[i].fd < 0 && started < count)
                    start(&clients[i]);
                busy += clients[i].fd >= 0;
            }
            if (told || (busy <= left && started == count))
                break;
        }
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, 200);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            hear(client);
            if (client->fd < 0 && started < count)
                start(client);
            idle += client->fd < 0;
        }
    }
    for (long i = 0; i < width; i++) {
        if (clients[i].fd >= 0)
            stuck++, end(&clients[i]);
    }
    printf("{\"served\":%ld,\"closed\":%ld,\"reset\":%ld,\"refused\":%ld,\"stuck\":%ld,\"seconds\":%.3f,"
           "\"by\":{",
           served, closed, reset, refused, stuck, now() - begin);
    for (int i = 0, first = 1; i < 256; i++) {
        if (by[i])
            printf("%s\"%c\":%ld", first ? "" : ",", i, by[i]), first = 0;
    }
    printf("}}\n");
    return 0;
}
