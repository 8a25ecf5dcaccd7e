/* keep.h - receivers that the program was started with, which it may not know of: many daemons close every
 * descriptor that they did not open, and only then bind. A copy of each is kept under a high number, where no
 * call of the program reaches it, until it binds there. */
#ifndef SOCKETBOX_PRELOAD_KEEP_H
#define SOCKETBOX_PRELOAD_KEEP_H

#include "hints.h"

/* Keeps a copy of fd if it is a Unix datagram socket with a name. At the start of the program only. */
void keep(int fd);
/* Is fd one of the copies, which the program cannot close? */
static inline bool is_kept(int fd) {
    return hint_is(fd, HINT_KEPT);
}
/* Calls close_part(first, last) for what of a range is not kept. The answer of the last call; 0 without any.
 */
int keep_around(unsigned first, unsigned last, int (*close_part)(unsigned first, unsigned last));
/* fd is about to become something else: what is kept there moves. */
void keep_away_from(int fd);
/* Before an exec of the process that keeps, and after one that failed: the program that it becomes shall have
 * the receivers, other programs that it starts shall not. */
void keep_across_exec(bool across);

#endif
