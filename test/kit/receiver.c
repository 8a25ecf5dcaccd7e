/* receiver.c - takes connections from a Unix datagram socket and answers each with one byte.
 *
 *   receiver [-b BYTE] [-d MICROSECONDS] [-f DESCRIPTORS] [-n COUNT] [-i] PATH
 *
 * -b: the byte (k). -d: time that each connection takes (sleeping). -f: soft limit of descriptors. -n: after
 * so many connections it goes on living and takes none (0: hostile from the start). -i: PATH is the number of
 * an inherited socket. A stale socket at PATH is replaced. It says "ready", and at SIGTERM leaves politely:
 * nobody can send any more, what is queued is served, and it says how many it served in all. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t leaving;
static int mailbox;
static bool inherited;

/* Whatever waits in recvmsg, or is about to, finds the queue's end. An inherited socket goes on for its
 * keeper. */
static void leave(int signal) {
    (void)signal;
    leaving = 1;
    if (!inherited)
        shutdown(mailbox, SHUT_RD);
}

static int bind_path(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (void *)&address, sizeof address) < 0) {
        perror("receiver: bind");
        exit(1);
    }
    return fd;
}

/* The connection of one message; -1 with errno: ENOMSG when the message brought none. */
static int receive(int mailbox, int flags) {
    char payload[128], control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec iov = {payload, sizeof payload};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(mailbox, &message, flags | MSG_CMSG_CLOEXEC);
    if (length < 0)
        return -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (!c) {
        errno = length == 0 && leaving ? EAGAIN : ENOMSG;
        return -1;
    }
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

int main(int argc, char **argv) {
    char byte = 'k';
    long delay = 0, most = -1, served = 0, dropped = 0;
    for (int option; (option = getopt(argc, argv, "b:d:f:n:i")) != -1;) {
        if (option == 'b')
            byte = optarg[0];
        else if (option == 'd')
            delay = atol(optarg);
        else if (option == 'f')
            setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)atol(optarg), (rlim_t)atol(optarg)});
        else if (option == 'n')
            most = atol(optarg);
        else if (option == 'i')
            inherited = true;
        else
            return 2;
    }
    if (argc - optind != 1)
        return 2;
    mailbox = inherited ? atoi(argv[optind]) : bind_path(argv[optind]);
    sigset_t terminate, before;
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    sigprocmask(SIG_UNBLOCK, &terminate, &before);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = leave}, NULL);
    if (inherited)
        sigprocmask(SIG_BLOCK, &terminate, &before); /* comes while it polls, and at no other time */
    signal(SIGPIPE, SIG_IGN);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        if (most >= 0 && served == most && !leaving) {
            sigsuspend(&before);
            continue;
        }
        if (inherited && !leaving && ppoll(&(struct pollfd){mailbox, POLLIN, 0}, 1, NULL, &before) < 0)
            continue;
        if (inherited && leaving)
            break;
        int fd = receive(mailbox, inherited || leaving ? MSG_DONTWAIT : 0);
        if (fd < 0 && (errno == EINTR || (errno == EAGAIN && inherited)))
            continue;
        if (fd < 0 && errno == ENOMSG) {
            dropped++;
            continue;
        }
        if (fd < 0)
            break;
        if (delay)
            nanosleep(&(struct timespec){delay / 1000000, delay % 1000000 * 1000}, NULL);
        if (write(fd, &byte, 1) == 1)
            served++;
        close(fd);
    }
    if (!inherited)
        unlink(argv[optind]);
    printf("served %ld, without a connection %ld\n", served, dropped);
    return 0;
}
