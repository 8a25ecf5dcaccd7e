/* hints.h - which descriptor numbers deserve a closer look.
 *
 * What a listener is, it carries itself (carry.h). This table only says for which numbers it is worth asking,
 * so that calls on all others cost one load from memory.
 *
 * Memory model: each entry is one atomic byte, read and written relaxed. An entry may be set wrongly (a
 * number that was reused behind our back, a vfork child that wrote to its parent's memory): then the look at
 * the descriptor finds nothing and the entry is dropped. It must never be missing for a listener that this
 * process can name, so it is set before the descriptor is handed to the program and dropped before the number
 * becomes free; and a process that shares its parent's memory (getpid() is not the process this table belongs
 * to) never drops any. There is nothing to lock, and fork copies a table that is right. */
#ifndef SOCKETBOX_PRELOAD_HINTS_H
#define SOCKETBOX_PRELOAD_HINTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* fs.nr_open is 1048576 unless raised; numbers beyond are always looked at. Pages never touched cost nothing.
 */
enum { HINT_LIMIT = 1 << 20 };
enum hint {
    HINT_NONE = 0,
    HINT_LISTENER = 1,
    HINT_AS_IPV4 = 2, /* a connection whose addresses are told in this family (connection.h) */
    HINT_AS_IPV6 = 4,
    HINT_INHERITED = 8, /* with HINT_LISTENER: was there when the program started */
    HINT_KEPT = 16,     /* not the program's (keep.h) */
    HINT_CONNECTION = HINT_AS_IPV4 | HINT_AS_IPV6
};

extern _Atomic uint8_t hint_table[HINT_LIMIT];
extern _Atomic uint32_t hint_inode[HINT_LIMIT]; /* which socket the hint for a connection speaks of */
extern atomic_int hint_highest;                 /* no entry above it was ever set */

static inline unsigned hint_of(int fd) {
    if ((unsigned)fd < HINT_LIMIT)
        return atomic_load_explicit(&hint_table[fd], memory_order_relaxed);
    return fd < 0 ? HINT_NONE : HINT_LISTENER;
}
static inline bool hint_is(int fd, enum hint kind) {
    return __builtin_expect(hint_of(fd) & kind, 0);
}
static inline bool hints_exist(void) {
    return atomic_load_explicit(&hint_highest, memory_order_relaxed) >= 0;
}

void hint_set(int fd, unsigned kind);
void hint_drop(int fd);
void hint_copy(int from, int to); /* after dup: what from deserves, to deserves */
void hints_own(void);             /* this process has memory of its own: start, and after fork */
int hints_home(void);             /* its process id, without a system call */
bool hints_owned(void);

#endif
