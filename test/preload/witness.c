/* witness - a library that writes down the client's port of each connection that the program was given, a
 * line each, into the file that WITNESS names. Loaded before ours it sees what accept and accept4 return;
 * loaded after ours, what ours takes from the queue with recvmsg. No signal ends the program between taking
 * and writing down. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char file[512];

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("WITNESS");
    if (name && strlen(name) < sizeof file)
        strcpy(file, name);
}

static int note(int connection) {
    struct sockaddr_in6 peer;
    socklen_t length = sizeof peer;
    char line[16];
    int saved = errno;
    int output = -1;
    if (connection >= 0 && getpeername(connection, (void *)&peer, &length) == 0)
        output = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (output >= 0) {
        int size = sprintf(line, "%d\n", ntohs(peer.sin6_port)); /* at the same offset in both families */
        if (write(output, line, (size_t)size) != size)
            abort();
        close(output);
    }
    errno = saved;
    return connection;
}

static void *next(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

__attribute__((visibility("default"))) int witnessed_accept(int, void *, socklen_t *) __asm__("accept");
__attribute__((visibility("default"))) int witnessed_accept4(int, void *, socklen_t *,
                                                             int) __asm__("accept4");

int witnessed_accept(int fd, void *address, socklen_t *length) {
    int (*call)(int, void *, socklen_t *);
    *(void **)&call = next("accept");
    return note(call(fd, address, length));
}

int witnessed_accept4(int fd, void *address, socklen_t *length, int flags) {
    int (*call)(int, void *, socklen_t *, int);
    *(void **)&call = next("accept4");
    return note(call(fd, address, length, flags));
}

__attribute__((visibility("default"))) ssize_t witnessed_recvmsg(int, struct msghdr *,
                                                                 int) __asm__("recvmsg");

ssize_t witnessed_recvmsg(int fd, struct msghdr *message, int flags) {
    ssize_t (*call)(int, struct msghdr *, int);
    *(void **)&call = next("recvmsg");
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    ssize_t result = call(fd, message, flags); /* ours never waits in it: signals are not held off for long */
    for (struct cmsghdr *c = result >= 0 ? CMSG_FIRSTHDR(message) : NULL; c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            note(*(int *)CMSG_DATA(c));
    int saved = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return result;
}
