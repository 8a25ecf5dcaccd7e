/* real.h - the functions of libc behind our wrappers of the same name. Inside the library a plain close(fd)
 * would reach our own wrapper: everything that is wrapped is called as real.close(fd). Two are here because
 * the library itself must not import what belongs to threads. */
#ifndef SOCKETBOX_PRELOAD_REAL_H
#define SOCKETBOX_PRELOAD_REAL_H

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define REAL_CALLS(CALL)                                                                                     \
    CALL(long, syscall, (long, ...))                                                                         \
    CALL(int, bind, (int, const struct sockaddr *, socklen_t))                                               \
    CALL(int, listen, (int, int))                                                                            \
    CALL(int, accept, (int, struct sockaddr *, socklen_t *))                                                 \
    CALL(int, accept4, (int, struct sockaddr *, socklen_t *, int))                                           \
    CALL(int, connect, (int, const struct sockaddr *, socklen_t))                                            \
    CALL(int, getsockname, (int, struct sockaddr *, socklen_t *))                                            \
    CALL(int, getpeername, (int, struct sockaddr *, socklen_t *))                                            \
    CALL(int, getsockopt, (int, int, int, void *, socklen_t *))                                              \
    CALL(int, setsockopt, (int, int, int, const void *, socklen_t))                                          \
    CALL(int, shutdown, (int, int))                                                                          \
    CALL(int, close, (int))                                                                                  \
    CALL(int, dup, (int))                                                                                    \
    CALL(int, dup2, (int, int))                                                                              \
    CALL(int, dup3, (int, int, int))                                                                         \
    CALL(int, fcntl, (int, int, ...))                                                                        \
    CALL(int, ioctl, (int, unsigned long, ...))                                                              \
    CALL(ssize_t, read, (int, void *, size_t))                                                               \
    CALL(ssize_t, readv, (int, const struct iovec *, int))                                                   \
    CALL(ssize_t, recv, (int, void *, size_t, int))                                                          \
    CALL(ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *))                      \
    CALL(ssize_t, recvmsg, (int, struct msghdr *, int))                                                      \
    CALL(int, recvmmsg, (int, struct mmsghdr *, unsigned, int, struct timespec *))                           \
    CALL(int, poll, (struct pollfd *, nfds_t, int))                                                          \
    CALL(int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))                   \
    CALL(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                                 \
    CALL(int, pselect, (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))       \
    CALL(int, epoll_ctl, (int, int, int, struct epoll_event *))                                              \
    CALL(int, execve, (const char *, char *const[], char *const[]))                                          \
    CALL(int, execvpe, (const char *, char *const[], char *const[]))                                         \
    CALL(int, fexecve, (int, char *const[], char *const[]))                                                  \
    CALL(int, posix_spawn,                                                                                   \
         (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,              \
          char *const[], char *const[]))                                                                     \
    CALL(int, posix_spawnp,                                                                                  \
         (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,              \
          char *const[], char *const[]))                                                                     \
    CALL(int, system, (const char *))                                                                        \
    CALL(FILE *, popen, (const char *, const char *))                                                        \
    CALL(ssize_t, splice, (int, off_t *, int, off_t *, size_t, unsigned))                                    \
    CALL(void *, dlopen, (const char *, int))                                                                \
    CALL(int, pthread_setcancelstate, (int, int *))                                                          \
    CALL(int, pthread_setcanceltype, (int, int *))                                                           \
    CALL(ssize_t, __read_chk, (int, void *, size_t, size_t))                                                 \
    CALL(ssize_t, __recv_chk, (int, void *, size_t, size_t, int))                                            \
    CALL(ssize_t, __recvfrom_chk, (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))        \
    CALL(int, __poll_chk, (struct pollfd *, nfds_t, int, size_t))                                            \
    CALL(int, __ppoll_chk, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))

struct real_calls {
#define CALL(type, name, arguments) type(*name) arguments;
    REAL_CALLS(CALL)
#undef CALL
};
extern struct real_calls real;

extern atomic_bool prepared;
void prepare(void); /* prepare.c */

/* First in every wrapper: constructors of other libraries run before ours and may call us. */
static inline void ready(void) {
    if (!__builtin_expect(atomic_load_explicit(&prepared, memory_order_acquire), 1))
        prepare();
}

void real_resolve(void);

#endif
