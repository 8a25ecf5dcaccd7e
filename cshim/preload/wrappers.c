/* wrappers.c - the functions that the program calls instead of libc's. They decide nothing: a descriptor that
 * is none of ours goes straight through, the rest is in calls.c, accept.c, watch.c and follow.c.
 *
 * exports.map lists the same names. */
#define _GNU_SOURCE
#include "accept.h"
#include "calls.h"
#include "follow.h"
#include "guest.h"
#include "hints.h"
#include "keep.h"
#include "prepare.h"
#include "receive.h"
#include "watch.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The exported name is given to the assembler only: the headers of libc declare these functions with
 * attributes and transparent unions that differ between libcs. */
#define WRAPPER(type, name, parameters)                                                                      \
    __attribute__((visibility("default"))) type wrapped_##name parameters __asm__(#name);                    \
    type wrapped_##name parameters

extern char **environ;

/* ---- making listeners ---- */

WRAPPER(int, bind, (int fd, const struct sockaddr *address, socklen_t length)) {
    ready();
    return ANSWER(call_bind(fd, address, length));
}

WRAPPER(int, listen, (int fd, int backlog)) {
    ready();
    return ANSWER(call_listen(fd, backlog));
}

WRAPPER(int, connect, (int fd, const struct sockaddr *address, socklen_t length)) {
    ready();
    if (!environment.connect && !hint_is(fd, HINT_LISTENER))
        return real.connect(fd, address, length);
    return ANSWER(call_connect(fd, address, length));
}

/* ---- accepting ---- */

WRAPPER(int, accept, (int fd, struct sockaddr *address, socklen_t *length)) {
    ready();
    int saved = errno;
    call_protect(address, length);
    if (hint_is(fd, HINT_LISTENER))
        return answer(saved, accept_virtual(fd, address, length, 0));
    int result = real.accept(fd, address, length);
    return result >= 0 ? result : answer(saved, accept_foreign(fd, errno, address, length, 0));
}

WRAPPER(int, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags)) {
    ready();
    int saved = errno;
    call_protect(address, length);
    if (hint_is(fd, HINT_LISTENER))
        return answer(saved, accept_virtual(fd, address, length, flags));
    int result = real.accept4(fd, address, length, flags);
    return result >= 0 ? result : answer(saved, accept_foreign(fd, errno, address, length, flags));
}

/* ---- asking and telling ---- */

WRAPPER(int, getsockname, (int fd, struct sockaddr *address, socklen_t *length)) {
    ready();
    call_protect(address, length);
    return hint_of(fd) ? ANSWER(call_name(fd, LOCAL, address, length))
                       : real.getsockname(fd, address, length);
}

WRAPPER(int, getpeername, (int fd, struct sockaddr *address, socklen_t *length)) {
    ready();
    call_protect(address, length);
    return hint_of(fd) ? ANSWER(call_name(fd, REMOTE, address, length))
                       : real.getpeername(fd, address, length);
}

WRAPPER(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length)) {
    ready();
    if (!hint_is(fd, HINT_LISTENER))
        return real.getsockopt(fd, level, name, value, length);
    return ANSWER(call_get_option(fd, level, name, value, length));
}

WRAPPER(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t length)) {
    ready();
    if (!hint_is(fd, HINT_LISTENER))
        return real.setsockopt(fd, level, name, value, length);
    return ANSWER(call_set_option(fd, level, name, value, length));
}

WRAPPER(int, shutdown, (int fd, int how)) {
    ready();
    return hint_is(fd, HINT_LISTENER) ? ANSWER(call_shutdown(fd, how)) : real.shutdown(fd, how);
}

WRAPPER(int, ioctl, (int fd, unsigned long request, ...)) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    ready();
    return hint_is(fd, HINT_LISTENER) ? ANSWER(call_ioctl(fd, request, argument))
                                      : real.ioctl(fd, request, argument);
}

/* ---- descriptors ---- */

WRAPPER(int, close, (int fd)) {
    ready();
    if (is_kept(fd))
        return ANSWER(-EBADF);
    if (hint_is(fd, HINT_LISTENER))
        return ANSWER(listener_close(fd));
    if (hint_of(fd))
        hint_drop(fd);
    return real.close(fd);
}

static int close_range_of_kernel(unsigned first, unsigned last, int flags) {
    return (int)real.syscall(SYS_close_range, (long)first, (long)last, (long)flags);
}

static int close_part(unsigned first, unsigned last) {
    return close_range_of_kernel(first, last, 0);
}

WRAPPER(int, close_range, (unsigned first, unsigned last, int flags)) {
    ready();
    /* Flags change whose descriptors are meant, or close nothing: then the kernel alone acts, and hints that
     * are left over do no harm. */
    if (flags == 0 && first <= last) {
        call_close_range(first, last);
        return keep_around(first, last, close_part);
    }
    return close_range_of_kernel(first, last, flags);
}

/* The kernel's close_range(2) and libc's closefrom(3) do the same; glibc has the latter since 2.34, and a
 * program that looks it up finds ours everywhere. Without either, one by one. */
WRAPPER(void, closefrom, (int first)) {
    ready();
    unsigned from = first < 0 ? 0 : (unsigned)first;
    call_close_range(from, UINT32_MAX);
    if (keep_around(from, UINT32_MAX, close_part) < 0)
        for (int fd = (int)from; fd < HINT_LIMIT; fd++)
            if (!is_kept(fd))
                real.close(fd);
}

WRAPPER(int, dup, (int fd)) {
    ready();
    int result = real.dup(fd);
    if (result >= 0 && (hint_of(fd) || hint_of(result)))
        hint_copy(fd, result);
    return result;
}

WRAPPER(int, dup2, (int from, int to)) {
    ready();
    if (is_kept(to))
        keep_away_from(to);
    return hint_of(from) || hint_of(to) ? ANSWER(call_dup_over(from, to, -1)) : real.dup2(from, to);
}

WRAPPER(int, dup3, (int from, int to, int flags)) {
    ready();
    if (is_kept(to))
        keep_away_from(to);
    if (!(hint_of(from) || hint_of(to)) || flags & ~O_CLOEXEC)
        return real.dup3(from, to, flags);
    return ANSWER(call_dup_over(from, to, flags));
}

static bool duplicates(int command) {
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC;
}

static int control(int fd, int command, void *argument) {
    int result = real.fcntl(fd, command, argument);
    if (duplicates(command) && result >= 0 && (hint_of(fd) || hint_of(result)))
        hint_copy(fd, result);
    return result;
}

WRAPPER(int, fcntl, (int fd, int command, ...)) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    ready();
    return control(fd, command, argument);
}

WRAPPER(int, fcntl64, (int fd, int command, ...)) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    ready();
    return control(fd, command, argument);
}

/* ---- reading: a listener has nothing to read, and what is queued stays queued ---- */

static inline bool nothing_to_read(int fd) {
    return hint_is(fd, HINT_LISTENER) && call_nothing_to_read(fd);
}

WRAPPER(ssize_t, read, (int fd, void *buffer, size_t size)) {
    ready();
    return nothing_to_read(fd) ? -1 : real.read(fd, buffer, size);
}

WRAPPER(ssize_t, readv, (int fd, const struct iovec *parts, int count)) {
    ready();
    return nothing_to_read(fd) ? -1 : real.readv(fd, parts, count);
}

/* At offset -1 it reads like readv does. */
WRAPPER(ssize_t, preadv2, (int fd, const struct iovec *parts, int count, off_t offset, int flags)) {
    ready();
    if (nothing_to_read(fd))
        return -1;
    return real.syscall(SYS_preadv2, (long)fd, parts, (long)count, (long)offset, 0L, (long)flags);
}

WRAPPER(ssize_t, preadv64v2, (int fd, const struct iovec *parts, int count, off_t offset, int flags)) {
    ready();
    if (nothing_to_read(fd))
        return -1;
    return real.syscall(SYS_preadv2, (long)fd, parts, (long)count, (long)offset, 0L, (long)flags);
}

WRAPPER(ssize_t, splice, (int from, off_t *at, int to, off_t *there, size_t size, unsigned flags)) {
    ready();
    return nothing_to_read(from) ? -1 : real.splice(from, at, to, there, size, flags);
}

WRAPPER(ssize_t, recv, (int fd, void *buffer, size_t size, int flags)) {
    ready();
    return nothing_to_read(fd) ? -1 : real.recv(fd, buffer, size, flags);
}

WRAPPER(ssize_t, recvfrom,
        (int fd, void *buffer, size_t size, int flags, struct sockaddr *address, socklen_t *length)) {
    ready();
    return nothing_to_read(fd) ? -1 : real.recvfrom(fd, buffer, size, flags, address, length);
}

WRAPPER(ssize_t, __read_chk, (int fd, void *buffer, size_t size, size_t room)) {
    ready();
    return nothing_to_read(fd) ? -1 : real.__read_chk(fd, buffer, size, room);
}

WRAPPER(ssize_t, __recv_chk, (int fd, void *buffer, size_t size, size_t room, int flags)) {
    ready();
    return nothing_to_read(fd) ? -1 : real.__recv_chk(fd, buffer, size, room, flags);
}

WRAPPER(ssize_t, __recvfrom_chk,
        (int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *address,
         socklen_t *length)) {
    ready();
    return nothing_to_read(fd) ? -1 : real.__recvfrom_chk(fd, buffer, size, room, flags, address, length);
}

/* A listener may arrive in a message (SCM_RIGHTS), from a process that has the library too. */
WRAPPER(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags)) {
    ready();
    if (nothing_to_read(fd))
        return -1;
    ssize_t result = real.recvmsg(fd, message, flags);
    int saved = errno;
    if (result >= 0 && message->msg_controllen)
        receive_each(message, prepare_look_at, NULL);
    errno = saved;
    return result;
}

WRAPPER(int, recvmmsg,
        (int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)) {
    ready();
    if (nothing_to_read(fd))
        return -1;
    int result = real.recvmmsg(fd, messages, count, flags, timeout);
    int saved = errno;
    for (int i = 0; i < result; i++)
        if (messages[i].msg_hdr.msg_controllen)
            receive_each(&messages[i].msg_hdr, prepare_look_at, NULL);
    errno = saved;
    return result;
}

/* ---- watching ---- */

#define WATCH_POLL(fds, count, call)                                                                         \
    struct watch_masked masked[WATCH_POLLED];                                                                \
    ready();                                                                                                 \
    int used = watch_mask_poll(fds, count, masked);                                                          \
    int result = call;                                                                                       \
    watch_restore_poll(masked, used);                                                                        \
    return result

WRAPPER(int, poll, (struct pollfd * fds, nfds_t count, int timeout)) {
    WATCH_POLL(fds, count, real.poll(fds, count, timeout));
}

WRAPPER(int, __poll_chk, (struct pollfd * fds, nfds_t count, int timeout, size_t room)) {
    WATCH_POLL(fds, count, real.__poll_chk(fds, count, timeout, room));
}

WRAPPER(int, ppoll,
        (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)) {
    WATCH_POLL(fds, count, real.ppoll(fds, count, timeout, mask));
}

WRAPPER(int, __ppoll_chk,
        (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
         size_t room)) {
    WATCH_POLL(fds, count, real.__ppoll_chk(fds, count, timeout, mask, room));
}

#define WATCH_SELECT(count, writable, call)                                                                  \
    uint64_t taken[WATCH_SETS];                                                                              \
    ready();                                                                                                 \
    watch_mask_set(count, writable, taken);                                                                  \
    int result = call;                                                                                       \
    if (result < 0)                                                                                          \
        watch_restore_set(writable, taken);                                                                  \
    return result

WRAPPER(int, select,
        (int count, fd_set *readable, fd_set *writable, fd_set *failed, struct timeval *timeout)) {
    WATCH_SELECT(count, writable, real.select(count, readable, writable, failed, timeout));
}

WRAPPER(int, pselect,
        (int count, fd_set *readable, fd_set *writable, fd_set *failed, const struct timespec *timeout,
         const sigset_t *mask)) {
    WATCH_SELECT(count, writable, real.pselect(count, readable, writable, failed, timeout, mask));
}

WRAPPER(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event)) {
    ready();
    if (!hint_is(fd, HINT_LISTENER))
        return real.epoll_ctl(epoll, operation, fd, event);
    return ANSWER(call_epoll_ctl(epoll, operation, fd, event));
}

/* ---- executing: the stack only, because a child of vfork may be here ---- */

/* Only a failed call comes back. */
#define BECOME(program, call)                                                                                \
    if (follow_check(program) < 0)                                                                           \
        return ANSWER(-ELIBACC);                                                                             \
    keep_across_exec(true);                                                                                  \
    int result = call;                                                                                       \
    int saved = errno;                                                                                       \
    keep_across_exec(false);                                                                                 \
    errno = saved;                                                                                           \
    return result

#define SPAWN(call, child, program)                                                                          \
    if (follow_check(program) < 0)                                                                           \
        return ELIBACC;                                                                                      \
    return (call)(child, program, actions, attributes, argv, extended)

#define FOLLOW(variables)                                                                                    \
    ready();                                                                                                 \
    struct follow_room room = follow_measure(variables);                                                     \
    char *entries[room.entries], bytes[room.bytes];                                                          \
    char *const *extended = follow_extend(variables, entries, bytes)

WRAPPER(int, execve, (const char *path, char *const argv[], char *const envp[])) {
    FOLLOW(envp);
    BECOME(path, real.execve(path, argv, extended));
}

WRAPPER(int, execv, (const char *path, char *const argv[])) {
    FOLLOW(environ);
    BECOME(path, real.execve(path, argv, extended));
}

WRAPPER(int, execvp, (const char *file, char *const argv[])) {
    FOLLOW(environ);
    BECOME(file, real.execvpe(file, argv, extended));
}

WRAPPER(int, execvpe, (const char *file, char *const argv[], char *const envp[])) {
    FOLLOW(envp);
    BECOME(file, real.execvpe(file, argv, extended));
}

WRAPPER(int, execveat, (int folder, const char *path, char *const argv[], char *const envp[], int flags)) {
    FOLLOW(envp);
    BECOME(path, (int)real.syscall(SYS_execveat, (long)folder, path, argv, extended, (long)flags));
}

WRAPPER(int, fexecve, (int fd, char *const argv[], char *const envp[])) {
    FOLLOW(envp);
    BECOME(NULL, real.fexecve(fd, argv, extended));
}

/* Arguments from first to NULL, in a new array on the stack; list stands behind the NULL afterwards. */
#define COLLECT(first)                                                                                       \
    va_list list;                                                                                            \
    size_t argc = 1;                                                                                         \
    va_start(list, first);                                                                                   \
    while (va_arg(list, char *))                                                                             \
        argc++;                                                                                              \
    va_end(list);                                                                                            \
    char *argv[argc + 1];                                                                                    \
    argv[0] = (char *)first;                                                                                 \
    va_start(list, first);                                                                                   \
    for (size_t i = 1; i <= argc; i++)                                                                       \
    argv[i] = va_arg(list, char *)

WRAPPER(int, execl, (const char *path, const char *first, ...)) {
    COLLECT(first);
    va_end(list);
    FOLLOW(environ);
    BECOME(path, real.execve(path, argv, extended));
}

WRAPPER(int, execlp, (const char *file, const char *first, ...)) {
    COLLECT(first);
    va_end(list);
    FOLLOW(environ);
    BECOME(file, real.execvpe(file, argv, extended));
}

WRAPPER(int, execle, (const char *path, const char *first, ...)) {
    COLLECT(first);
    char *const *envp = va_arg(list, char *const *);
    va_end(list);
    FOLLOW(envp);
    BECOME(path, real.execve(path, argv, extended));
}

WRAPPER(int, posix_spawn,
        (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,
         const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) {
    FOLLOW(envp);
    SPAWN(real.posix_spawn, pid, path);
}

WRAPPER(int, posix_spawnp,
        (pid_t * pid, const char *file, const posix_spawn_file_actions_t *actions,
         const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) {
    FOLLOW(envp);
    SPAWN(real.posix_spawnp, pid, file);
}

/* In glibc since 2.39, and looked for when it is called. */
typedef int pidfd_spawner(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                          char *const[], char *const[]);

static pidfd_spawner *find_pidfd_spawner(const char *name) {
    pidfd_spawner *call;
    void *address = dlsym(RTLD_NEXT, name);
    memcpy(&call, &address, sizeof call);
    return call;
}

WRAPPER(int, pidfd_spawn,
        (int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
         const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) {
    FOLLOW(envp);
    pidfd_spawner *call = find_pidfd_spawner("pidfd_spawn");
    if (!call)
        return ENOSYS;
    SPAWN(call, pidfd, path);
}

WRAPPER(int, pidfd_spawnp,
        (int *pidfd, const char *file, const posix_spawn_file_actions_t *actions,
         const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) {
    FOLLOW(envp);
    pidfd_spawner *call = find_pidfd_spawner("pidfd_spawnp");
    if (!call)
        return ENOSYS;
    SPAWN(call, pidfd, file);
}

/* The shell is started inside libc, past our wrappers, so the command begins with what the environment lacks.
 * Where that is nothing, it is the program's own. */
#define FOLLOW_COMMAND(command)                                                                              \
    FOLLOW(environ);                                                                                         \
    char text[follow_command_size(environ, extended, command)];                                              \
    if (command)                                                                                             \
    command = follow_command(environ, extended, command, text)

WRAPPER(int, system, (const char *command)) {
    FOLLOW_COMMAND(command);
    return command && follow_check("/bin/sh") < 0 ? ANSWER(-ELIBACC) : real.system(command);
}

WRAPPER(FILE *, popen, (const char *command, const char *mode)) {
    FOLLOW_COMMAND(command);
    if (follow_check("/bin/sh") == 0)
        return real.popen(command, mode);
    errno = ELIBACC;
    return NULL;
}

/* ---- other ways in ---- */

#ifndef RTLD_DEEPBIND /* musl has no such thing */
#define RTLD_DEEPBIND 0
#endif
#if defined __has_attribute && __has_attribute(musttail)
#define JUMP __attribute__((musttail))
#else
#define JUMP
#endif

/* A module that is loaded with RTLD_DEEPBIND finds libc's functions before ours (PHP loads its extensions
 * so). libc looks at its return address to learn whose search path counts: it must not be ours. */
WRAPPER(void *, dlopen, (const char *file, int mode)) {
    ready();
    JUMP return real.dlopen(file, mode & ~RTLD_DEEPBIND);
}

/* Programs that go past libc's functions (libuv closes so) come to ours all the same. An allocator may begin
 * in here, so only what may be ours is prepared for. */
WRAPPER(long, syscall, (long number, ...)) {
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    switch (number) {
    case SYS_bind:
        return wrapped_bind((int)a[0], (const void *)a[1], (socklen_t)a[2]);
    case SYS_listen:
        return wrapped_listen((int)a[0], (int)a[1]);
    case SYS_accept:
        return wrapped_accept((int)a[0], (void *)a[1], (void *)a[2]);
    case SYS_accept4:
        return wrapped_accept4((int)a[0], (void *)a[1], (void *)a[2], (int)a[3]);
    case SYS_connect:
        return wrapped_connect((int)a[0], (const void *)a[1], (socklen_t)a[2]);
    case SYS_getsockname:
        return wrapped_getsockname((int)a[0], (void *)a[1], (void *)a[2]);
    case SYS_getpeername:
        return wrapped_getpeername((int)a[0], (void *)a[1], (void *)a[2]);
    case SYS_getsockopt:
        return wrapped_getsockopt((int)a[0], (int)a[1], (int)a[2], (void *)a[3], (void *)a[4]);
    case SYS_setsockopt:
        return wrapped_setsockopt((int)a[0], (int)a[1], (int)a[2], (const void *)a[3], (socklen_t)a[4]);
    case SYS_shutdown:
        return wrapped_shutdown((int)a[0], (int)a[1]);
    case SYS_close: /* close(2) of libc is a cancellation point, and this is chosen because it is none */
        if (hint_of((int)a[0]))
            return wrapped_close((int)a[0]);
        break;
    case SYS_close_range:
        return wrapped_close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
    case SYS_dup:
        return wrapped_dup((int)a[0]);
#ifdef SYS_dup2 /* not on arm64 */
    case SYS_dup2:
        return wrapped_dup2((int)a[0], (int)a[1]);
#endif
    case SYS_dup3:
        return wrapped_dup3((int)a[0], (int)a[1], (int)a[2]);
    case SYS_fcntl: /* other commands are the kernel's; waiting for a lock is a cancellation point in libc */
        if (duplicates((int)a[1]))
            return wrapped_fcntl((int)a[0], (int)a[1], (void *)a[2]);
        break;
    case SYS_execve:
        return wrapped_execve((const char *)a[0], (void *)a[1], (void *)a[2]);
    case SYS_execveat:
        return wrapped_execveat((int)a[0], (const char *)a[1], (void *)a[2], (void *)a[3], (int)a[4]);
    }
    return real.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
