/* guest.h - the manners of a library that lives in somebody else's program.
 *
 * Internal functions return a number >= 0, or -errno, and touch errno as they like; only the exported
 * wrappers speak the language of libc: ANSWER() turns such a number into it and leaves errno alone on
 * success. Nothing here allocates, and who takes a turn (turn.h) gives up waiting, so that a child forked at
 * a bad moment, or a signal handler, goes on. */
#ifndef SOCKETBOX_PRELOAD_GUEST_H
#define SOCKETBOX_PRELOAD_GUEST_H

#include "real.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* UNCANCELLED: the program's thread is not cancelled (pthread_cancel(3)) until the scope ends. Much of what
 * is called in here is a cancellation point, and a descriptor or a connection would be lost there. */
static inline int cancelling(int state) {
    int before = PTHREAD_CANCEL_ENABLE;
    if (real.pthread_setcancelstate)
        real.pthread_setcancelstate(state, &before);
    return before;
}
static inline void cancelling_again(const int *before) {
    cancelling(*before);
}
#define UNCANCELLED                                                                                          \
    __attribute__((cleanup(cancelling_again), unused)) int cancelled_before =                                \
        cancelling(PTHREAD_CANCEL_DISABLE)

/* OWNED int fd: closed when it goes out of scope, unless PASS_ON(fd) gave it away. 0 is a descriptor. */
static inline void close_owned(const int *fd) {
    if (*fd < 0)
        return;
    UNCANCELLED;
    real.close(*fd);
}
static inline int pass_on(int *fd) {
    int passed = *fd;
    *fd = -1;
    return passed;
}
#define OWNED __attribute__((cleanup(close_owned)))
#define PASS_ON(fd) pass_on(&(fd))

static inline int answer(int saved_errno, int result) {
    errno = result < 0 ? -result : saved_errno;
    return result < 0 ? -1 : result;
}
/* errno is read before the call is made. */
#define ANSWER(call)                                                                                         \
    __extension__({                                                                                          \
        int saved_errno = errno;                                                                             \
        answer(saved_errno, call);                                                                           \
    })

/* The kernel's answer as one number. */
static inline int outcome_of(long result) {
    return result < 0 ? -errno : (int)result;
}

#endif
