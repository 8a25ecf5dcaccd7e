/* differential - asks a listening TCP socket about everything, and prints each answer on a line of its own:
 * differential FAMILY PORT CLIENT_PORT. FAMILY is 4 or 6; PORT is bound; clients connect to CLIENT_PORT,
 * which is the same for a real listener and the sender's for a virtual one. Started twice, the output should
 * agree. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef BY_NUMBER
#include "by_number.h"
#endif

static int family, client_port;
static uint16_t port;
static const char *subject = ""; /* whose options the lines are about */

union name {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_storage storage;
};

static void say(const char *what, long result) {
    if (result < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: %ld\n", what, result);
}

static socklen_t address(union name *name, uint16_t at) {
    memset(name, 0, sizeof *name);
    name->any.sa_family = family == 4 ? AF_INET : AF_INET6;
    if (family == 4) {
        name->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        name->in.sin_port = htons(at);
        return sizeof name->in;
    }
    name->in6.sin6_addr = in6addr_loopback;
    name->in6.sin6_port = htons(at);
    return sizeof name->in6;
}

static int new_socket(void) {
    return socket(family == 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
}

static int client(void) {
    union name name;
    int fd = new_socket();
    socklen_t length = address(&name, (uint16_t)client_port);
    return connect(fd, &name.any, length) < 0 ? -1 : fd;
}

/* A client whose connection waits at the listener. */
static int waiting_client(int listener) {
    int fd = client();
    struct pollfd readable = {.fd = listener, .events = POLLIN};
    poll(&readable, 1, 5000);
    return fd;
}

static void say_name(const char *what, int result, const union name *name, socklen_t length) {
    if (result < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: family %d, length %u, port %s, address %s\n", what, name->any.sa_family, length,
               ntohs(name->in.sin_port) == port ? "as bound" : "other",
               (family == 4 ? name->in.sin_addr.s_addr == htonl(INADDR_LOOPBACK)
                            : IN6_IS_ADDR_LOOPBACK(&name->in6.sin6_addr))
                   ? "loopback"
                   : "other");
}

static void say_option(int fd, const char *what, int level, int option) {
    unsigned char value[64] = {0};
    socklen_t length = sizeof value;
    int result = getsockopt(fd, level, option, value, &length);
    if (result < 0) {
        printf("get %s%s: %s\n", subject, what, strerrorname_np(errno));
        return;
    }
    printf("get %s%s: length %u:", subject, what, length);
    for (socklen_t i = 0; i < length && i < sizeof value; i++)
        printf(" %02x", value[i]);
    printf("\n");
}

static void set_option(int fd, const char *what, int level, int option, int value) {
    char line[80];
    snprintf(line, sizeof line, "set %s", what);
    say(line, setsockopt(fd, level, option, &value, sizeof value));
    say_option(fd, what, level, option);
}

#define GET(fd, level, option) say_option(fd, #option, level, option)
#define SET(fd, level, option, value) set_option(fd, #option, level, option, value)

static void ask_options(int fd) {
    GET(fd, SOL_SOCKET, SO_TYPE);
    GET(fd, SOL_SOCKET, SO_DOMAIN);
    GET(fd, SOL_SOCKET, SO_PROTOCOL);
    GET(fd, SOL_SOCKET, SO_ACCEPTCONN);
    GET(fd, SOL_SOCKET, SO_ERROR);
    GET(fd, SOL_SOCKET, SO_REUSEADDR);
    GET(fd, SOL_SOCKET, SO_REUSEPORT);
    GET(fd, SOL_SOCKET, SO_PEERCRED);
    GET(fd, SOL_SOCKET, SO_RCVBUF);
    GET(fd, SOL_SOCKET, SO_SNDBUF);
    GET(fd, SOL_SOCKET, SO_GET_FILTER);
    GET(fd, IPPROTO_TCP, TCP_MAXSEG);
    GET(fd, IPPROTO_TCP, TCP_CONGESTION);
    GET(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    GET(fd, SOL_SOCKET, 9999);
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
        printf("TCP_INFO state: %d\n", info.tcpi_state);
    int value = 0;
    length = 2;
    printf("get SO_TYPE into two bytes: %d, length %u\n",
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length), length);
}

static void change_options(int fd) {
    SET(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    SET(fd, SOL_SOCKET, SO_RCVBUF, 65536);
    SET(fd, SOL_SOCKET, SO_SNDBUF, 32768);
    SET(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    SET(fd, SOL_SOCKET, SO_PRIORITY, 3);
    SET(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    SET(fd, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    SET(fd, IPPROTO_TCP, TCP_KEEPINTVL, 11);
    SET(fd, IPPROTO_TCP, TCP_KEEPCNT, 5);
    SET(fd, IPPROTO_TCP, TCP_KEEPCNT, 1000);
    SET(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
    SET(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
    SET(fd, IPPROTO_TCP, TCP_FASTOPEN, 16);
    SET(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
    SET(fd, IPPROTO_TCP, TCP_MAXSEG, 900);
    SET(fd, IPPROTO_IP, IP_TOS, 16);
    SET(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    SET(fd, SOL_SOCKET, 9999, 1);
    struct linger linger = {.l_onoff = 1, .l_linger = 7};
    say("set SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    GET(fd, SOL_SOCKET, SO_LINGER);
    struct timeval timeout = {.tv_sec = 9};
    say("set SO_SNDTIMEO", setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
    GET(fd, SOL_SOCKET, SO_SNDTIMEO);
    say("set SO_KEEPALIVE from one byte", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, "", 1));
    say("set TCP_CONGESTION to nothing known", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "none such", 9));
    struct sock_filter accept_all = {.code = BPF_RET | BPF_K, .k = UINT32_MAX};
    struct sock_fprog program = {.len = 1, .filter = &accept_all};
    say("attach a filter", setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
    say("detach it", setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &program, sizeof program));
}

static void ask_inherited(int fd) {
    subject = "accepted ";
    GET(fd, SOL_SOCKET, SO_TYPE);
    GET(fd, SOL_SOCKET, SO_DOMAIN);
    GET(fd, SOL_SOCKET, SO_ACCEPTCONN);
    GET(fd, SOL_SOCKET, SO_KEEPALIVE);
    GET(fd, SOL_SOCKET, SO_RCVBUF);
    GET(fd, SOL_SOCKET, SO_SNDBUF);
    GET(fd, SOL_SOCKET, SO_LINGER);
    GET(fd, SOL_SOCKET, SO_SNDTIMEO);
    GET(fd, SOL_SOCKET, SO_PRIORITY);
    GET(fd, SOL_SOCKET, SO_REUSEADDR);
    GET(fd, IPPROTO_TCP, TCP_NODELAY);
    GET(fd, IPPROTO_TCP, TCP_KEEPIDLE);
    GET(fd, IPPROTO_TCP, TCP_KEEPINTVL);
    GET(fd, IPPROTO_TCP, TCP_KEEPCNT);
    GET(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
    GET(fd, IPPROTO_IP, IP_TOS);
    subject = "";
}

static void control(int fd) {
    struct ifreq interface = {.ifr_name = "lo"};
    int value = 0;
    puts("-- ioctl");
    say("SIOCGIFADDR", ioctl(fd, SIOCGIFADDR, &interface));
    printf("address %x\n", ntohl(((struct sockaddr_in *)&interface.ifr_addr)->sin_addr.s_addr));
    say("SIOCOUTQ", ioctl(fd, SIOCOUTQ, &value));
    say("SIOCOUTQNSD", ioctl(fd, SIOCOUTQNSD, &value));
    say("SIOCATMARK", ioctl(fd, SIOCATMARK, &value));
    say("TIOCGWINSZ", ioctl(fd, TIOCGWINSZ, &value));
    value = getpid();
    say("SIOCSPGRP", ioctl(fd, SIOCSPGRP, &value));
    printf("owner is us %d\n", fcntl(fd, F_GETOWN) == getpid());
    value = 0;
    say("SIOCSPGRP of nobody", ioctl(fd, SIOCSPGRP, &value));
    value = 1;
    say("FIONBIO", ioctl(fd, FIONBIO, &value));
    printf("blocking %d\n", !(fcntl(fd, F_GETFL) & O_NONBLOCK));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    say("FIOCLEX", ioctl(fd, FIOCLEX));
    printf("descriptor flags %d\n", fcntl(fd, F_GETFD));
    say("FIONCLEX", ioctl(fd, FIONCLEX));
}

static void read_listener(int fd) {
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    union name name;
    socklen_t length = sizeof name;
    int waiting = waiting_client(fd), pending = -1;
    puts("-- reading from a listener while a client waits");
    say("read", read(fd, &byte, 1));
    say("readv", readv(fd, &iov, 1));
    say("preadv2", preadv2(fd, &iov, 1, -1, 0));
    int pipes[2];
    if (pipe(pipes) == 0)
        say("splice", splice(fd, NULL, pipes[1], NULL, 1, 0));
    close(pipes[0]);
    close(pipes[1]);
    say("recv", recv(fd, &byte, 1, 0));
    say("recv MSG_PEEK", recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT));
    say("recvfrom", recvfrom(fd, &byte, 1, 0, &name.any, &length));
    say("recvmsg", recvmsg(fd, &message, 0));
    say("getpeername", getpeername(fd, &name.any, &length));
    say("FIONREAD", ioctl(fd, FIONREAD, &pending));
    say("connect", connect(fd, &name.any, address(&name, 1)));
    int accepted = accept(fd, NULL, NULL);
    say("the client is still there", accepted >= 0);
    close(accepted);
    close(waiting);
}

static void watch(int fd) {
    puts("-- an idle listener");
    struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT | POLLWRNORM};
    say("poll", poll(&entry, 1, 0));
    printf("events %x, asked for %x\n", entry.revents, entry.events);
    struct timespec now = {0};
    say("ppoll", ppoll(&entry, 1, &now, NULL));
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(fd, &readable);
    FD_SET(fd, &writable);
    say("select", select(fd + 1, &readable, &writable, NULL, &(struct timeval){0}));
    printf("readable %d, writable %d\n", FD_ISSET(fd, &readable) != 0, FD_ISSET(fd, &writable) != 0);
    FD_ZERO(&readable);
    FD_SET(fd, &writable);
    FD_SET(63, &readable); /* nothing is open there: select fails, and leaves its sets alone */
    say("select with a closed one", select(64, &readable, &writable, NULL, &(struct timeval){0}));
    printf("still asked for %d\n", FD_ISSET(fd, &writable) != 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u64 = 42};
    int epoll = epoll_create1(0);
    say("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    say("epoll_wait", epoll_wait(epoll, &event, 1, 0));
    int waiting = waiting_client(fd);
    puts("-- with a client");
    say("poll", poll(&entry, 1, 5000));
    printf("events %x\n", entry.revents);
    say("epoll_wait", epoll_wait(epoll, &event, 1, 5000));
    printf("events %x, data %d\n", event.events, (int)event.data.u64);
    say("epoll_ctl of one that is there", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    close(accept(fd, NULL, NULL));
    close(waiting);
    close(epoll);
}

static int saved_limit;
static void limit_descriptors(int count) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (!saved_limit)
        saved_limit = (int)limit.rlim_cur;
    limit.rlim_cur = (rlim_t)(count ? count : saved_limit);
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void accept_all_ways(int fd) {
    union name name, own;
    socklen_t length = sizeof name, own_length = sizeof own;
    puts("-- accept");
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    say("with nobody there", accept(fd, NULL, NULL));
    say("with a flag that is none", accept4(fd, NULL, NULL, 1));
    int one = waiting_client(fd);
    say("with an address but no length", accept(fd, &name.any, NULL) >= 0 ? 0 : -1);
    close(one);
    while (accept(fd, NULL, NULL) >= 0)
        ;
    one = waiting_client(fd);
    limit_descriptors(one + 1);
    say("with no descriptor free", accept(fd, NULL, NULL));
    limit_descriptors(0);
    int accepted = accept(fd, &name.any, &length);
    getsockname(one, &own.any, &own_length);
    printf("then: %d, family %d, length %u, is the client %d\n", accepted >= 0, name.any.sa_family, length,
           length == own_length && memcmp(&name, &own, length) == 0);
    printf("descriptor flags %d, blocking %d\n", fcntl(accepted, F_GETFD),
           !(fcntl(accepted, F_GETFL) & O_NONBLOCK));
    memset(&name, 0x55, sizeof name);
    length = 6;
    say("getpeername into six bytes", getpeername(accepted, &name.any, &length));
    printf("length %u, family %d, beyond %d\n", length, name.any.sa_family,
           ((unsigned char *)&name)[6] == 0x55);
    length = sizeof name;
    getsockname(accepted, &name.any, &length);
    printf("local family %d, length %u\n", name.any.sa_family, length);
    say("write to it", write(accepted, "hello", 5));
    char text[8] = "";
    say("the client reads", read(one, text, sizeof text));
    ask_inherited(accepted);
    close(accepted);
    close(one);
    one = waiting_client(fd);
    accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    printf("accept4: %d, flags %d, blocking %d\n", accepted >= 0, fcntl(accepted, F_GETFD),
           !(fcntl(accepted, F_GETFL) & O_NONBLOCK));
    close(accepted);
    close(one);
    errno = 77;
    one = waiting_client(fd);
    errno = 77;
    close(accept(fd, NULL, NULL));
    printf("errno after success: %d\n", errno);
    close(one);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

static void on_signal(int number) {
    (void)number;
}

static void *call_accept(void *argument) {
    int result = accept(*(int *)argument, NULL, NULL);
    return (void *)(intptr_t)(result < 0 ? -errno : result);
}

static atomic_bool interrupted;

/* Again and again: it may not be waiting yet. */
static void *interrupt(void *argument) {
    while (!atomic_load(&interrupted)) {
        usleep(50000);
        pthread_kill(*(pthread_t *)argument, SIGUSR1);
    }
    return NULL;
}

static void blocking(int fd) {
    pthread_t thread, self = pthread_self(), second;
    void *result;
    puts("-- blocking");
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal}, NULL);
    pthread_create(&thread, NULL, interrupt, &self);
    say("accept interrupted", accept(fd, NULL, NULL));
    atomic_store(&interrupted, true);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, NULL);
    pthread_create(&thread, NULL, call_accept, &fd);
    usleep(50000);
    pthread_kill(thread, SIGUSR1);
    usleep(50000);
    int one = client();
    pthread_join(thread, &result);
    printf("accept restarted: %d\n", (intptr_t)result >= 0);
    close((int)(intptr_t)result);
    close(one);
    struct timeval timeout = {.tv_usec = 50000};
    say("set SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
    say("accept that times out", accept(fd, NULL, NULL));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0}, sizeof timeout);
    pthread_create(&thread, NULL, call_accept, &fd);
    pthread_create(&second, NULL, call_accept, &fd);
    usleep(100000);
    say("shutdown for writing", shutdown(fd, SHUT_WR));
    say("shutdown with a way that is none", shutdown(fd, 9));
    say("shutdown", shutdown(fd, SHUT_RD));
    pthread_join(thread, &result);
    printf("accept in a thread: %s\n", strerrorname_np((int)-(intptr_t)result));
    pthread_join(second, &result);
    printf("accept in another: %s\n", strerrorname_np((int)-(intptr_t)result));
    say("accept after shutdown", accept(fd, NULL, NULL));
    say("shutdown again", shutdown(fd, SHUT_RD));
    GET(fd, SOL_SOCKET, SO_ACCEPTCONN);
    say("listen again", listen(fd, 5));
    one = waiting_client(fd);
    int accepted = accept(fd, NULL, NULL);
    say("accept again", accepted >= 0);
    close(accepted);
    close(one);
}

/* Asks a copy of the listener for name and one connection; the process may be another. */
static void serve_one(const char *what, int fd) {
    union name name;
    socklen_t length = sizeof name;
    say_name(what, getsockname(fd, &name.any, &length), &name, length);
    GET(fd, SOL_SOCKET, SO_ACCEPTCONN);
    int one = waiting_client(fd), accepted = accept(fd, NULL, NULL);
    say("serves", accepted >= 0);
    close(accepted);
    close(one);
    fflush(stdout);
}

static int pass(int fd) {
    int pair[2], received = -1;
    char byte = 0;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {
        .align = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    sendmsg(pair[0], &message, 0);
    recvmsg(pair[1], &message, 0);
    memcpy(&received, CMSG_DATA(&control.align), sizeof received);
    close(pair[0]);
    close(pair[1]);
    return received;
}

static void copies(int fd, char **argv) {
    puts("-- copies");
    int copy = dup(fd);
    serve_one("dup", copy);
    say("close", close(copy));
    serve_one("dup2", dup2(fd, 60));
    serve_one("dup3", dup3(fd, 61, O_CLOEXEC));
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 70);
    serve_one("F_DUPFD_CLOEXEC", copy);
    close(copy);
    copy = pass(fd);
    serve_one("SCM_RIGHTS", copy);
    close(copy);
    say("close_range", close_range(60, 61, 0));
    fflush(stdout);
    if (fork() == 0) {
        serve_one("fork", fd);
        close(fd);
        _exit(0);
    }
    wait(NULL);
    if (fork() == 0) {
        char number[16], *environment[] = {NULL},
                         *arguments[] = {argv[0], argv[1], argv[2], argv[3], number, NULL};
        snprintf(number, sizeof number, "%d", fd);
        execve("/proc/self/exe", arguments, environment);
        _exit(1);
    }
    wait(NULL);
    serve_one("after they have closed", fd);
}

int main(int argc, char **argv) {
    union name name;
    struct stat info;
    if (argc < 4)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    family = atoi(argv[1]);
    port = (uint16_t)atoi(argv[2]);
    client_port = atoi(argv[3]);
    if (argc > 4) {
        serve_one("exec with an empty environment", atoi(argv[4]));
        return 0;
    }
    int fd = new_socket(), one = 1, epoll = epoll_create1(0);
    socklen_t length = address(&name, port);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u64 = 7};
    puts("-- before bind");
    SET(fd, SOL_SOCKET, SO_REUSEADDR, one);
    SET(fd, IPPROTO_TCP, TCP_LINGER2, 20);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, F_SETSIG, SIGUSR2);
    say("bind with a short address", bind(fd, &name.any, 4));
    say("bind", bind(fd, &name.any, length));
    say("bind again", bind(fd, &name.any, length));
    int other = new_socket();
    say("bind of another socket", bind(other, &name.any, length));
    close(other);
    puts("-- bound");
    length = sizeof name;
    say_name("getsockname", getsockname(fd, &name.any, &length), &name, length);
    length = sizeof name;
    say_name("getpeername", getpeername(fd, &name.any, &length), &name, length);
    printf("owner is us %d, signal %d\n", fcntl(fd, F_GETOWN) == getpid(), fcntl(fd, F_GETSIG));
    say("accept before listen", accept(fd, NULL, NULL));
    GET(fd, SOL_SOCKET, SO_ACCEPTCONN);
    say("shutdown before listen", shutdown(fd, SHUT_RD));
    say("listen", listen(fd, 10));
    say("listen again", listen(fd, 20));
    say("epoll_wait, watched since before bind", epoll_wait(epoll, &event, 1, 0));
    int first = waiting_client(fd);
    say("then", epoll_wait(epoll, &event, 1, 5000));
    printf("events %x, data %d\n", event.events, (int)event.data.u64);
    int accepted = accept(fd, NULL, NULL);
    GET(accepted, IPPROTO_TCP, TCP_LINGER2);
    close(accepted);
    close(first);
    say("fstat says a socket", fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode));
    ask_options(fd);
    change_options(fd);
    control(fd);
    read_listener(fd);
    watch(fd);
    accept_all_ways(fd);
    copies(fd, argv);
    blocking(fd);
    say("close", close(fd));
    say("accept on a closed one", accept(fd, NULL, NULL));
    fd = new_socket();
    int yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    say("bind a new socket there", bind(fd, &name.any, address(&name, port)));
    return 0;
}
