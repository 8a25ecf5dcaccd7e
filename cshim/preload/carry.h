/* carry.h - data that lives in a socket itself, so that it goes wherever the descriptor goes: over fork,
 * exec, SCM_RIGHTS, a change of user and an emptied environment. */
#ifndef SOCKETBOX_PRELOAD_CARRY_H
#define SOCKETBOX_PRELOAD_CARRY_H

#include <stddef.h>
#include <stdint.h>

enum { CARRY_MAX = 1024 }; /* bytes */

/* Where the kernel does not read it back (qemu-user), the data is known to this process and its forked
 * children alone: an executed program finds a Unix socket, on which accept receives all the same.
 *
 * fd: a Unix socket; on others a process without privileges may not (EPERM, seen on Linux 6.18). 0 or -errno.
 */
int carry_write(int fd, const void *data, size_t size);
/* Fills data up to size with what fd carries, the rest with zeros. Returns the length it had, or -ENODATA
 * when fd carries nothing (or is no socket at all). */
int carry_read(int fd, void *data, size_t size);

#endif
