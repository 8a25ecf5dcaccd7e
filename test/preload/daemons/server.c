/* server select|poll|epoll - a server of one thread: takes a line from each client on port 80, answers
 * `from ADDRESS.` and closes. At SIGTERM it stops accepting and finishes what it has. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 512 };

static volatile sig_atomic_t stopping;
static struct pollfd watched[MOST]; /* events 0: nothing here */
static int epoll = -1;

static void stop(int signal) {
    (void)signal;
    stopping = 1;
}

static void watch(int fd) {
    watched[fd] = (struct pollfd){.fd = fd, .events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll >= 0)
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void forget(int fd) {
    watched[fd].events = 0;
    watched[fd].fd = -1;
    close(fd);
}

/* Sets revents of what is ready. */
static void wait_by_select(void) {
    fd_set readable;
    FD_ZERO(&readable);
    for (int fd = 0; fd < MOST; fd++)
        if (watched[fd].events)
            FD_SET(fd, &readable);
    int ready = select(MOST, &readable, NULL, NULL, &(struct timeval){.tv_usec = 100000});
    for (int fd = 0; fd < MOST; fd++)
        watched[fd].revents = ready > 0 && watched[fd].events && FD_ISSET(fd, &readable) ? POLLIN : 0;
}

static void wait_by_epoll(void) {
    struct epoll_event events[32];
    int ready = epoll_wait(epoll, events, 32, 100);
    for (int fd = 0; fd < MOST; fd++)
        watched[fd].revents = 0;
    for (int i = 0; i < ready; i++)
        watched[events[i].data.fd].revents = POLLIN;
}

static void serve(int fd) {
    char line[256], host[64], answer[80];
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    if (read(fd, line, sizeof line) > 0 && getpeername(fd, (void *)&peer, &length) == 0 &&
        getnameinfo((void *)&peer, length, host, sizeof host, NULL, 0, NI_NUMERICHOST) == 0) {
        int size = snprintf(answer, sizeof answer, "from %s.", host);
        if (write(fd, answer, (size_t)size) < 0)
            perror("write");
    }
    forget(fd);
}

static bool busy(void) {
    for (int fd = 0; fd < MOST; fd++)
        if (watched[fd].events)
            return true;
    return false;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    for (int fd = 0; fd < MOST; fd++)
        watched[fd].fd = -1;
    if (!strcmp(how, "epoll"))
        epoll = epoll_create1(0);
    if (bind(listener, (void *)&any, sizeof any) < 0 || listen(listener, 128) < 0) {
        perror("listen");
        return 1;
    }
    watch(listener);
    while (busy()) {
        if (stopping && watched[listener].events)
            forget(listener);
        if (!strcmp(how, "select"))
            wait_by_select();
        else if (!strcmp(how, "epoll"))
            wait_by_epoll();
        else
            poll(watched, MOST, 100);
        for (int fd = 0; fd < MOST; fd++) {
            if (!watched[fd].events || !watched[fd].revents)
                continue;
            if (fd != listener) {
                serve(fd);
                continue;
            }
            for (int client; (client = accept(listener, NULL, NULL)) >= 0;) {
                if (client < MOST)
                    watch(client);
                else
                    close(client);
            }
        }
    }
    return 0;
}
