/* turn.c - a word and futex(2). */
#define _GNU_SOURCE
#include "turn.h"

#include "hints.h"
#include "real.h"

#include <linux/futex.h>
#include <sys/syscall.h>

void turn_take(struct turn *turn, int patience) {
    int self = hints_home();
    for (; patience > 0; patience--) {
        int holder = 0;
        if (atomic_compare_exchange_strong(&turn->holder, &holder, self))
            return;
        if (holder != self && atomic_compare_exchange_strong(&turn->holder, &holder, self))
            return;
        struct timespec pause = {.tv_nsec = 1000000};
        atomic_fetch_add(&turn->waiting, 1);
        real.syscall(SYS_futex, &turn->holder, FUTEX_WAIT_PRIVATE, holder, &pause, NULL, 0);
        atomic_fetch_sub(&turn->waiting, 1);
    }
}

void turn_leave(struct turn *turn) {
    atomic_store(&turn->holder, 0);
    if (atomic_load(&turn->waiting))
        real.syscall(SYS_futex, &turn->holder, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
