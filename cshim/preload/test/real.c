/* What the library can call before it has looked for libc's functions. */
#define _GNU_SOURCE
#include "../real.h"

#include "../../test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    char byte = 0;
    int ends[2];
    CHECK("system calls by number", pipe(ends) == 0 && real.syscall(SYS_getpid) == getpid());
    CHECK("with all their arguments", real.syscall(SYS_write, (long)ends[1], "x", 1L) == 1 &&
                                          real.read(ends[0], &byte, 1) == 1 && byte == 'x');
    CHECK("and their errors", real.syscall(SYS_close, -1L) == -1 && errno == EBADF);
    CHECK("descriptor flags",
          real.fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[0], F_GETFD) == FD_CLOEXEC);
    CHECK("close", real.close(ends[0]) == 0 && fcntl(ends[0], F_GETFD) < 0);
    real_resolve();
    CHECK("and afterwards libc's", (void *)real.close != NULL && real.close(ends[1]) == 0 && real.popen);
    return 0;
}
