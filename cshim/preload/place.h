/* place.h - Unix sockets with a name: taking one, finding out whether somebody lives there, leaving it. */
#ifndef SOCKETBOX_PRELOAD_PLACE_H
#define SOCKETBOX_PRELOAD_PLACE_H

#include "decide.h"

#include <stdint.h>
#include <sys/un.h>

/* Which file a name led to, so that nobody else's is removed. Both 0: nothing is to be removed. */
struct place_file {
    uint64_t device, inode;
};

/* The address of a path, or of @name in the abstract namespace (unix(7)). 0 or -errno. */
int place_address(const char *path, struct sockaddr_un *address, socklen_t *length);
/* A close-on-exec, blocking socket of that type, bound at path with mode 0660, which the caller owns. A stale
 * socket is replaced, a living one never (-EADDRINUSE); another kind of file stays (-ENOTSOCK). mine: the
 * file that may be replaced although somebody lives there, for it is the caller's own; NULL: none. */
int place_bind(const char *path, int type, const struct place_file *mine, struct place_file *file);
/* Removes path if it is still that file and nobody in any process holds its socket open any more. */
void place_leave(const char *path, const struct place_file *file);

#endif
