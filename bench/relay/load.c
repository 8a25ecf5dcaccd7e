/* load.c - the two ends between which relays are measured, all on 127.0.0.1.
 *
 *   serve PORT                a server: takes as many bytes as the first eight after a 'b' say, and
 *                             answers their number; whatever begins otherwise it sends back
 *   bulk PORT BYTES           sends BYTES; prints seconds
 *   turns COUNT ROUNDS {PORT PID}...
 *                             over one connection to each relay, in turns, COUNT times 64 bytes there
 *                             and back; ROUNDS times, in a line for each: p50 and p99 of each relay, us
 *   connect PORT COUNT WIDTH  COUNT connections, each 64 bytes there and back, WIDTH at a time; prints
 *                             seconds
 *   idle PORT COUNT           COUNT connections, 64 bytes there and back on each; prints "open" and stays
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, BUFFER = 1 << 18 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void need(int good, const char *what) {
    if (good)
        return;
    perror(what);
    exit(1);
}

static struct sockaddr_in address(const char *port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int dial(const char *port, int flags) {
    struct sockaddr_in to = address(port);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    need(fd >= 0, "socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    need(connect(fd, (void *)&to, sizeof to) == 0 || errno == EINPROGRESS, "connect");
    return fd;
}

static void exchange(int fd, char *message) {
    need(send(fd, message, SIZE, MSG_NOSIGNAL) == SIZE, "send");
    for (ssize_t got = 0; got < SIZE;) {
        ssize_t n = recv(fd, message + got, (size_t)(SIZE - got), 0);
        need(n > 0, "recv");
        got += n;
    }
}

static void *count_bytes(void *argument) {
    int fd = (int)(intptr_t)argument;
    char *buffer = malloc(BUFFER);
    uint64_t total = 0, expected = 0;
    if (recv(fd, &expected, sizeof expected, MSG_WAITALL) != sizeof expected)
        expected = 0;
    for (ssize_t n; total < expected && (n = recv(fd, buffer, BUFFER, MSG_TRUNC)) > 0;)
        total += (uint64_t)n;
    send(fd, &total, sizeof total, MSG_NOSIGNAL);
    close(fd);
    free(buffer);
    return NULL;
}

static void serve(const char *port) {
    struct sockaddr_in here = address(port);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    need(bind(listener, (void *)&here, sizeof here) == 0 && listen(listener, 4096) == 0, "listen");
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    fprintf(stderr, "load: ready: \n");
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, 0)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
                              &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
                }
                continue;
            }
            char message[SIZE];
            ssize_t n = recv(fd, message, 1, MSG_PEEK | MSG_DONTWAIT);
            if (n == 1 && message[0] == 'b') {
                pthread_t thread;
                epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
                recv(fd, message, 1, 0);
                pthread_create(&thread, NULL, count_bytes, (void *)(intptr_t)fd);
                pthread_detach(thread);
                continue;
            }
            n = recv(fd, message, sizeof message, MSG_DONTWAIT);
            if (n > 0)
                send(fd, message, (size_t)n, MSG_NOSIGNAL);
            else if (n == 0 || errno != EAGAIN)
                close(fd);
        }
    }
}

static void bulk(const char *port, uint64_t bytes) {
    char *buffer = malloc(BUFFER);
    memset(buffer, 'b', BUFFER);
    int fd = dial(port, 0);
    double start = now();
    need(send(fd, "b", 1, MSG_NOSIGNAL) == 1 && send(fd, &bytes, sizeof bytes, MSG_NOSIGNAL) == sizeof bytes,
         "send");
    for (uint64_t left = bytes; left;) {
        ssize_t n = send(fd, buffer, left < BUFFER ? left : BUFFER, MSG_NOSIGNAL);
        need(n > 0, "send");
        left -= (uint64_t)n;
    }
    uint64_t total = 0;
    need(recv(fd, &total, sizeof total, MSG_WAITALL) == sizeof total, "recv");
    need(total == bytes, "count");
    printf("%.6f\n", now() - start);
}

static int compare(const void *a, const void *b) {
    return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b;
}

/* The order is drawn anew for each round. Each relay but the one whose turn it is is stopped, so that none
 * takes time from another. */
static void take_turns(char **relays, int n, int count, int rounds) {
    char message[SIZE];
    int fds[n], pids[n], order[n];
    memset(message, 'e', sizeof message);
    double *times = calloc((size_t)count, sizeof *times);
    for (int relay = 0; relay < n; relay++) {
        fds[relay] = dial(relays[2 * relay], 0);
        order[relay] = relay;
        pids[relay] = atoi(relays[2 * relay + 1]);
        exchange(fds[relay], message);
        kill(pids[relay], SIGSTOP);
    }
    for (int round = 0; round < rounds; round++) {
        double p50[n], p99[n];
        for (int i = 0; i < n; i++) {
            int with = i + rand() % (n - i), relay = order[with];
            order[with] = order[i];
            order[i] = relay;
            kill(pids[relay], SIGCONT);
            for (int j = -200; j < count; j++) {
                double start = now();
                exchange(fds[relay], message);
                if (j >= 0)
                    times[j] = (now() - start) * 1e6;
            }
            kill(pids[relay], SIGSTOP);
            qsort(times, (size_t)count, sizeof *times, compare);
            p50[relay] = times[count / 2];
            p99[relay] = times[count * 99 / 100];
        }
        for (int relay = 0; relay < n; relay++)
            printf("%.2f %.2f%c", p50[relay], p99[relay], relay + 1 < n ? ' ' : '\n');
    }
    for (int relay = 0; relay < n; relay++)
        kill(pids[relay], SIGCONT);
}

static void connect_many(const char *port, int count, int width) {
    char message[SIZE];
    memset(message, 'e', sizeof message);
    int epoll = epoll_create1(0), begun = 0, done = 0;
    double start = now();
    while (done < count) {
        for (; begun < count && begun - done < width; begun++) {
            int fd = dial(port, SOCK_NONBLOCK);
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLOUT, .data.fd = fd});
        }
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, 10000);
        need(ready > 0, "wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (events[i].events & EPOLLOUT) {
                need(send(fd, message, SIZE, MSG_NOSIGNAL) == SIZE, "send");
                epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
                continue;
            }
            need(recv(fd, message, SIZE, 0) == SIZE, "recv");
            close(fd);
            done++;
        }
    }
    printf("%.6f\n", now() - start);
}

static void idle(const char *port, int count) {
    char message[SIZE];
    memset(message, 'e', sizeof message);
    for (int i = 0; i < count; i++)
        exchange(dial(port, 0), message);
    printf("open\n");
    fflush(stdout);
    pause();
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(argv[2]);
    else if (argc == 4 && !strcmp(argv[1], "bulk"))
        bulk(argv[2], strtoull(argv[3], NULL, 10));
    else if (argc >= 6 && argc % 2 == 0 && !strcmp(argv[1], "turns"))
        take_turns(argv + 4, (argc - 4) / 2, atoi(argv[2]), atoi(argv[3]));
    else if (argc == 5 && !strcmp(argv[1], "connect"))
        connect_many(argv[2], atoi(argv[3]), atoi(argv[4]));
    else if (argc == 4 && !strcmp(argv[1], "idle"))
        idle(argv[2], atoi(argv[3]));
    else
        return 2;
    return 0;
}
