/* quiet - the system calls that a program makes which has no listener of ours: quiet PORT. It runs itself, as
 * `quiet traced PORT`, under ptrace(2) and prints the number of each call from the marker on; PORT is one
 * that may be listened on for real. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every wrapped call that a program makes on sockets of its own. */
static void work(int port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, other;
    socklen_t length = sizeof other, size = sizeof(int);
    int on = 1;
    char text[8];
    name.sin_port = htons((uint16_t)port);
    int listening = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (void *)&name, sizeof name) < 0 || listen(listening, 5) < 0)
        exit(1);
    syscall(SYS_sched_yield); /* the marker: bind and listen, once each, may look at what they are given */
    connect(client, (void *)&name, sizeof name);
    int server = accept4(listening, (void *)&other, &length, SOCK_CLOEXEC);
    getsockname(server, (void *)&other, &length);
    getpeername(server, (void *)&other, &length);
    getsockopt(server, SOL_SOCKET, SO_ERROR, &on, &size);
    if (send(client, "abcdefgh", 8, 0) != 8)
        exit(1);
    struct iovec part = {.iov_base = text, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t got = read(server, text, 1) + recv(server, text, 1, 0) + readv(server, &part, 1);
    got += recvfrom(server, text, 1, 0, NULL, NULL) + recvmsg(server, &message, 0);
    struct pollfd polled = {.fd = server, .events = POLLIN | POLLOUT};
    got += poll(&polled, 1, 0) + ppoll(&polled, 1, &(struct timespec){0}, NULL);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(server, &set);
    got += select(server + 1, NULL, &set, NULL, &(struct timeval){0});
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
    epoll_ctl(epoll, EPOLL_CTL_ADD, server, &event);
    got += ioctl(server, FIONREAD, &on);
    int copy = dup(server);
    dup2(server, copy);
    dup3(server, copy, O_CLOEXEC);
    close(fcntl(server, F_DUPFD_CLOEXEC, 0));
    shutdown(server, SHUT_RDWR);
    close(copy);
    close(epoll);
    close(client);
    close(server);
    close(listening);
    exit(got == 8 ? 0 : 1);
}

static void traced(int port) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    work(port);
}

int main(int argc, char **argv) {
    int status = 0, started = 0, entering = 1;
    if (argc == 3)
        traced(atoi(argv[2]));
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "quiet", "traced", argv[1], (char *)NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD);
    for (;;) {
        ptrace(PTRACE_SYSCALL, child, 0, 0);
        if (waitpid(child, &status, 0) < 0 || WIFEXITED(status) || WIFSIGNALED(status))
            break;
        struct __ptrace_syscall_info info;
        if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) < 0 || !entering) {
            entering = 1;
            continue;
        }
        entering = 0;
        started = started || info.entry.nr == SYS_sched_yield;
        if (started)
            printf("%d\n", (int)info.entry.nr);
    }
    return status != 0;
}
