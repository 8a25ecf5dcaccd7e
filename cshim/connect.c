/* connect.c - connections to others: TCP from a given address or namespace, and looking names up. */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

_Static_assert(sizeof(struct sb_answer) == 12 + 16 * 20, "answer layout");

static int set_on(int fd, int level, int option) {
    int on = 1;
    return setsockopt(fd, level, option, &on, sizeof on) < 0 ? -errno : 0;
}

static bool is_mapped(const uint8_t address[16]) {
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(address, prefix, sizeof prefix) == 0;
}

/* IPv4 goes by a socket of its own, so that it works where IPv6 is switched off. */
static socklen_t make_address(struct sockaddr_storage *to, int family, const uint8_t address[16],
                              uint32_t scope, uint16_t port) {
    memset(to, 0, sizeof *to);
    if (family == AF_INET) {
        struct sockaddr_in *four = (void *)to;
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        memcpy(&four->sin_addr, address + 12, 4);
        return sizeof *four;
    }
    struct sockaddr_in6 *six = (void *)to;
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    six->sin6_scope_id = scope;
    memcpy(&six->sin6_addr, address, 16);
    return sizeof *six;
}

enum { KIND = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK };

/* Asks the thread of sb_netns_sockets. It answers at once; the second is for a machine that is very busy. */
static int socket_from(int sockets, int family) {
    uint8_t request = (uint8_t)family;
    if (send(sockets, &request, 1, MSG_NOSIGNAL) < 0)
        return -errno;
    struct pollfd ready = {.fd = sockets, .events = POLLIN};
    for (;;) {
        struct sb_flow flow = {.fd = -1};
        int32_t kind[4];
        int count = poll(&ready, 1, 1000);
        if (count == 0)
            return -ETIMEDOUT;
        if (count < 0 && errno != EINTR)
            return -errno;
        int received = count < 0 ? 0 : sb_receive_fds(sockets, &flow, 1, 0, SB_ANYBODY, NULL);
        if (received < 0)
            return received;
        if (received == 0)
            continue;
        if (flow.fd < 0)
            return flow.fd == -EBADMSG ? -EMFILE : flow.fd; /* a message without one: it could not make any */
        if (sb_socket_kind(flow.fd, kind) == 0 && kind[0] == family)
            return flow.fd;
        close(flow.fd); /* the answer to an earlier request, for which no descriptor was free */
    }
}

static int bind_source(int fd, int family, const uint8_t source[16], int transparent) {
    struct sockaddr_storage from;
    socklen_t length = make_address(&from, family, source, 0, 0);
    int status = transparent ? set_on(fd, IPPROTO_IPV6, IPV6_TRANSPARENT) : 0;
    if (transparent && family == AF_INET)
        status = set_on(fd, IPPROTO_IP, IP_TRANSPARENT);
    /* The port is chosen by connect(2), which needs it to be free towards this one target only. */
    if (!status)
        status = set_on(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
    if (!status && bind(fd, (void *)&from, length) < 0)
        status = -errno;
    return status;
}

/* A connection begun, not yet made: EPOLLOUT tells, and SO_ERROR what became of it. `source` is the address
 * to come from, or NULL; `transparent`: it need not be ours. `sockets` is what sb_netns_sockets gave, or -1.
 */
int sb_connect_inet(const uint8_t address[16], uint32_t scope, uint16_t port, const uint8_t *source,
                    int transparent, int sockets) {
    int family = is_mapped(address) ? AF_INET : AF_INET6;
    if (source && is_mapped(source) != (family == AF_INET))
        return -EAFNOSUPPORT;
    SB_CLOSE int fd = sockets < 0 ? socket(family, KIND, 0) : socket_from(sockets, family);
    if (fd < 0)
        return sockets < 0 ? -errno : fd;
    int status = set_on(fd, IPPROTO_TCP, TCP_NODELAY);
    if (!status && source)
        status = bind_source(fd, family, source, transparent);
    if (status)
        return status;
    struct sockaddr_storage to;
    socklen_t length = make_address(&to, family, address, scope, port);
    if (connect(fd, (void *)&to, length) < 0 && errno != EINPROGRESS)
        return -errno;
    return SB_TAKE(fd);
}

/* 0: the connection stands. -errno: it does not; -EINPROGRESS: not yet. */
int sb_connect_result(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        return -errno;
    if (error)
        return -error;
    struct sockaddr_storage peer;
    length = sizeof peer;
    return getpeername(fd, (void *)&peer, &length) < 0 ? (errno == ENOTCONN ? -EINPROGRESS : -errno) : 0;
}

int sb_interface_index(const char *name) {
    char text[64];
    snprintf(text, sizeof text, "%s", name);
    unsigned index = if_nametoindex(text);
    return index ? (int)index : -errno;
}

struct factory {
    char netns[SB_PATH_SIZE];
    int requests, result;
    pthread_mutex_t lock;
    pthread_cond_t entered;
};

static int enter_netns(const char *path) {
    SB_CLOSE int ns = open(path, O_RDONLY | O_CLOEXEC);
    return ns < 0 || setns(ns, CLONE_NEWNET) < 0 ? -errno : 0;
}

static void *make_sockets(void *argument) {
    struct factory *factory = argument;
    SB_CLOSE int requests = factory->requests;
    int status = enter_netns(factory->netns);
    pthread_mutex_lock(&factory->lock);
    factory->result = status; /* from here on the factory belongs to sb_netns_sockets again */
    pthread_cond_signal(&factory->entered);
    pthread_mutex_unlock(&factory->lock);
    uint8_t family;
    while (!status && recv(requests, &family, 1, 0) == 1) {
        int32_t made = socket(family, KIND, 0);
        if (made < 0 || sb_send_fds(requests, &made, 1, "", 1) != 1) {
            if (made >= 0)
                close(made);
            if (send(requests, "", 1, MSG_NOSIGNAL) < 0)
                break;
        }
    }
    return NULL;
}

/* A way to sockets of another network namespace after the right to enter it has been given up: a thread goes
 * there and makes one for each request. It ends when the returned descriptor is closed. */
int sb_netns_sockets(const char *netns) {
    struct factory factory = {
        .result = 1, .lock = PTHREAD_MUTEX_INITIALIZER, .entered = PTHREAD_COND_INITIALIZER};
    if (snprintf(factory.netns, sizeof factory.netns, "%s", netns) >= (int)sizeof factory.netns)
        return -ENAMETOOLONG;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    SB_CLOSE int ours = ends[0];
    factory.requests = ends[1];
    pthread_t thread;
    int error = pthread_create(&thread, NULL, make_sockets, &factory);
    if (error) {
        close(ends[1]);
        return -error;
    }
    pthread_detach(thread);
    pthread_mutex_lock(&factory.lock);
    while (factory.result > 0)
        pthread_cond_wait(&factory.entered, &factory.lock);
    pthread_mutex_unlock(&factory.lock);
    return factory.result ? factory.result : SB_TAKE(ours);
}

struct question {
    int answers, family;
    uint32_t token;
    char name[256];
};

static void collect(struct sb_answer *answer, const struct addrinfo *found) {
    for (; found && answer->count < 16; found = found->ai_next) {
        struct sb_flow flow = {0};
        struct sockaddr_storage address = {0};
        memcpy(&address, found->ai_addr, found->ai_addrlen);
        sb_flow_remote(&flow, &address);
        memcpy(answer->addresses[answer->count], flow.remote, 16);
        if (found->ai_family == AF_INET6)
            answer->scopes[answer->count] = ((struct sockaddr_in6 *)&address)->sin6_scope_id;
        answer->count++;
    }
}

static void *look_up(void *argument) {
    struct question *question = argument;
    struct sb_answer answer = {.token = question->token, .family = question->family};
    struct addrinfo hints = {.ai_family = question->family, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int status = getaddrinfo(question->name, NULL, &hints, &found);
    if (status == 0) {
        collect(&answer, found);
        freeaddrinfo(found);
    }
    /* Shorter than PIPE_BUF, so that it goes in one piece or not at all (pipe(7)). */
    SB_CLOSE int answers = question->answers;
    (void)!write(answers, &answer, sizeof answer);
    free(question);
    return NULL;
}

/* Looks the name up in a thread of its own (getaddrinfo(3) may take many seconds), which writes one struct
 * sb_answer into the pipe `answers`. No address found, for whatever reason, is a count of 0. */
int sb_resolve(const char *name, int family, uint32_t token, int answers) {
    SB_CLOSE int copy = sb_duplicate(answers);
    if (copy < 0)
        return copy;
    struct question *question = calloc(1, sizeof *question);
    if (!question)
        return -ENOMEM;
    *question = (struct question){.answers = copy, .family = family, .token = token};
    if (snprintf(question->name, sizeof question->name, "%s", name) >= (int)sizeof question->name) {
        free(question);
        return -ENAMETOOLONG;
    }
    pthread_t thread;
    /* A signal is for the thread that waits in the reactor. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, look_up, question);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        free(question);
        return -error;
    }
    pthread_detach(thread);
    (void)SB_TAKE(copy);
    return 0;
}
