/* turn.h - one thread of a process at a time, for a moment. Not a lock that anybody could wait for without
 * end: what a thread of the parent held at fork counts for nothing in the child, and whoever was cancelled,
 * jumped out of a signal handler or died inside is passed by after a while. So it may only narrow a race that
 * would do no great harm. */
#ifndef SOCKETBOX_PRELOAD_TURN_H
#define SOCKETBOX_PRELOAD_TURN_H

#include <stdatomic.h>

struct turn {
    atomic_int holder; /* 0, or the process whose thread is inside */
    atomic_int waiting;
};

/* Waits for at most that many milliseconds, and goes in. */
void turn_take(struct turn *turn, int patience);
void turn_leave(struct turn *turn);

#endif
