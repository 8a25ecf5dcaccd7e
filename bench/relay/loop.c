/* loop.c - the least that a relay with splice(2) can be: what others are measured against.
 *
 *   loop PORT TARGET_PORT    (both on 127.0.0.1)
 *
 * One thread, edge-triggered epoll, a pipe of 1 MiB each way for each connection, half-close, no time-outs,
 * no log.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 1 << 20 };

struct way {
    int from, to, pipe[2];
    size_t held;
    int ended, done;
};
struct pair {
    struct way up, down;
};

static void make_pipe(struct way *way) {
    if (pipe2(way->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
        abort();
    fcntl(way->pipe[1], F_SETPIPE_SZ, CHUNK);
}

static void move(struct way *way) {
    while (!way->done) {
        while (way->held) {
            ssize_t n =
                splice(way->pipe[0], NULL, way->to, NULL, way->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            if (n < 0 && errno == EAGAIN)
                return;
            if (n <= 0) {
                way->done = 1;
                return;
            }
            way->held -= (size_t)n;
        }
        if (way->ended) {
            shutdown(way->to, SHUT_WR);
            way->done = 1;
            return;
        }
        ssize_t n = splice(way->from, NULL, way->pipe[1], NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            way->ended = 1;
        else
            way->held = (size_t)n;
    }
}

static struct sockaddr_in address(const char *port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    struct sockaddr_in here = address(argv[1]), there = address(argv[2]);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&here, sizeof here) < 0 || listen(listener, 4096) < 0)
        return 1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN});
    fprintf(stderr, "loop: ready: \n");
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct pair *pair = events[i].data.ptr;
            if (!pair) {
                int client;
                while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    int target = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
                    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    setsockopt(target, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    connect(target, (void *)&there, sizeof there);
                    pair = calloc(1, sizeof *pair);
                    pair->up.from = pair->down.to = client;
                    pair->up.to = pair->down.from = target;
                    make_pipe(&pair->up);
                    make_pipe(&pair->down);
                    struct epoll_event both = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                               .data.ptr = pair};
                    epoll_ctl(epoll, EPOLL_CTL_ADD, client, &both);
                    epoll_ctl(epoll, EPOLL_CTL_ADD, target, &both);
                }
                continue;
            }
            if (pair->up.from < 0)
                continue;
            move(&pair->up);
            move(&pair->down);
            if (pair->up.done && pair->down.done) {
                for (int j = 0; j < 2; j++) {
                    close(pair->up.pipe[j]);
                    close(pair->down.pipe[j]);
                }
                close(pair->up.from);
                close(pair->up.to);
                /* Not freed: another event of this batch may still name it. */
                pair->up.from = -1;
            }
        }
    }
}
