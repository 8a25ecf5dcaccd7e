/* watch.c - masks for poll and select. */
#define _GNU_SOURCE
#include "watch.h"

#include "hints.h"
#include "listener.h"

#include <string.h>

/* A hint alone may be wrong, and a connection must not lose what it waits for. */
static bool is_listener(int fd) {
    struct listener listener;
    return hint_is(fd, HINT_LISTENER) && listener_load(fd, &listener);
}

void watch_mask_set(int count, fd_set *writable, uint64_t taken[WATCH_SETS]) {
    memset(taken, 0, WATCH_SETS * sizeof *taken);
    if (!writable || !hints_exist())
        return;
    for (int fd = 0; fd < count && fd < FD_SETSIZE; fd++) {
        if (!FD_ISSET(fd, writable) || !is_listener(fd))
            continue;
        taken[fd / 64] |= UINT64_C(1) << fd % 64;
        FD_CLR(fd, writable);
    }
}

void watch_restore_set(fd_set *writable, const uint64_t taken[WATCH_SETS]) {
    for (int fd = 0; writable && fd < FD_SETSIZE; fd++)
        if (taken[fd / 64] >> fd % 64 & 1)
            FD_SET(fd, writable);
}

int watch_mask_poll(struct pollfd *fds, nfds_t count, struct watch_masked masked[WATCH_POLLED]) {
    const short writing = POLLOUT | POLLWRNORM | POLLWRBAND;
    int used = 0;
    if (!hints_exist())
        return 0;
    for (nfds_t i = 0; i < count && used < WATCH_POLLED; i++) {
        if (!(fds[i].events & writing) || !is_listener(fds[i].fd))
            continue;
        masked[used++] = (struct watch_masked){.entry = &fds[i], .events = fds[i].events};
        fds[i].events &= (short)~writing;
    }
    return used;
}

void watch_restore_poll(const struct watch_masked *masked, int count) {
    for (int i = 0; i < count; i++)
        masked[i].entry->events = masked[i].events;
}
