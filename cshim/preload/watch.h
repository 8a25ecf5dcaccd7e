/* watch.h - poll, select and epoll on virtual listeners. A listening TCP socket is never writable, a Unix
 * datagram socket nearly always: nobody may ask a listener for that, or would spin. */
#ifndef SOCKETBOX_PRELOAD_WATCH_H
#define SOCKETBOX_PRELOAD_WATCH_H

#include <poll.h>
#include <stdint.h>
#include <sys/select.h>

enum { WATCH_SETS = FD_SETSIZE / 64 };

/* Takes the listeners out of a select(2) set for writing; what was taken out is kept for watch_restore_set,
 * after a select that failed and so left its sets alone. */
void watch_mask_set(int count, fd_set *writable, uint64_t taken[WATCH_SETS]);
void watch_restore_set(fd_set *writable, const uint64_t taken[WATCH_SETS]);

/* Takes POLLOUT and its kin off the listeners among fds, at most WATCH_POLLED of them. Returns their number.
 */
enum { WATCH_POLLED = 64 };
struct watch_masked {
    struct pollfd *entry;
    short events;
};
int watch_mask_poll(struct pollfd *fds, nfds_t count, struct watch_masked masked[WATCH_POLLED]);
void watch_restore_poll(const struct watch_masked *masked, int count);

#endif
