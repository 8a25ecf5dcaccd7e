/* hints.c - the table described in hints.h. */
#define _GNU_SOURCE
#include "hints.h"

#include <unistd.h>

_Atomic uint8_t hint_table[HINT_LIMIT];
_Atomic uint32_t hint_inode[HINT_LIMIT];
atomic_int hint_highest = -1;
static atomic_int home;

void hints_own(void) {
    atomic_store_explicit(&home, getpid(), memory_order_relaxed);
}

int hints_home(void) {
    return atomic_load_explicit(&home, memory_order_relaxed);
}

bool hints_owned(void) {
    return hints_home() == getpid();
}

void hint_set(int fd, unsigned kind) {
    if ((unsigned)fd >= HINT_LIMIT)
        return;
    int highest = atomic_load_explicit(&hint_highest, memory_order_relaxed);
    while (highest < fd && !atomic_compare_exchange_weak(&hint_highest, &highest, fd))
        ;
    if (hints_owned())
        atomic_store_explicit(&hint_table[fd], (uint8_t)kind, memory_order_relaxed);
    else /* after vfork, what the parent has under this number must not be forgotten */
        atomic_fetch_or_explicit(&hint_table[fd], (uint8_t)kind, memory_order_relaxed);
}

void hint_drop(int fd) {
    if ((unsigned)fd < HINT_LIMIT && hint_of(fd) && hints_owned())
        atomic_store_explicit(&hint_table[fd], HINT_NONE, memory_order_relaxed);
}

void hint_copy(int from, int to) {
    unsigned kind = hint_of(from);
    if (kind & HINT_CONNECTION && (unsigned)to < HINT_LIMIT)
        atomic_store_explicit(&hint_inode[to], hint_inode[from], memory_order_relaxed);
    if (kind)
        hint_set(to, kind);
    else
        hint_drop(to);
}
