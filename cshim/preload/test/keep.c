/* Receivers that the program was started with: copies that it cannot close, nor pass on by accident. */
#define _GNU_SOURCE
#include "../keep.h"
#include "../real.h"

#include "../../test/check.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HIGHEST = 1100, MOST = 16 };

static struct { unsigned first, last; } parts[20];
static int part_count;

static int note_part(unsigned first, unsigned last) {
    parts[part_count].first = first;
    parts[part_count++].last = last;
    return 7;
}

static int around(unsigned first, unsigned last) {
    part_count = 0;
    return keep_around(first, last, note_part);
}

/* The lowest copy from a number on; -1: none. */
static int copy_from(int fd) {
    while (fd < HIGHEST && !is_kept(fd))
        fd++;
    return fd < HIGHEST ? fd : -1;
}

static int copies(void) {
    int count = 0;
    for (int fd = 0; fd < HIGHEST; fd++)
        count += is_kept(fd);
    return count;
}

/* A Unix socket with a name that the kernel chooses. */
static int named(int type) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0);
    return bind(fd, (void *)&name, sizeof name.sun_family) < 0 ? -1 : fd;
}

static ino_t inode_of(int fd) {
    struct stat info;
    return fstat(fd, &info) < 0 ? 0 : info.st_ino;
}

static bool closes_at_exec(int fd) {
    return fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

static void what_is_kept(void) {
    keep(named(SOCK_STREAM));
    keep(socket(AF_UNIX, SOCK_DGRAM, 0));
    keep(socket(AF_INET, SOCK_DGRAM, 0));
    keep(0);
    keep(-1);
    CHECK("streams, sockets without a name, of other families, and what is none are not kept", copies() == 0);
    CHECK("then a range is one part",
          around(3, 2000) == 7 && part_count == 1 && parts[0].first == 3 && parts[0].last == 2000);
    int fd = named(SOCK_DGRAM);
    keep(fd);
    int copy = copy_from(0);
    CHECK("a receiver is kept under a high number", copies() == 1 && copy >= 1000 && copy < 1024);
    CHECK("as the same socket, which ends at exec", inode_of(copy) == inode_of(fd) && closes_at_exec(copy));
    CHECK("the program's own stays the program's", !is_kept(fd));
}

static void ranges(void) {
    unsigned copy = (unsigned)copy_from(0);
    around(3, 2000);
    CHECK("a range goes around a copy", part_count == 2 && parts[0].first == 3 && parts[0].last == copy - 1 &&
                                            parts[1].first == copy + 1 && parts[1].last == 2000);
    CHECK("one that ends with it has one part",
          around(3, copy) == 7 && part_count == 1 && parts[0].last == copy - 1);
    CHECK("and so has one that begins with it",
          around(copy, 2000) == 7 && part_count == 1 && parts[0].first == copy + 1);
    CHECK("one of the copy alone has none, and is no error", around(copy, copy) == 0 && part_count == 0);
    around(copy, UINT32_MAX);
    CHECK("a range without end has its end", part_count == 1 && parts[0].last == UINT32_MAX);
    around(copy + 1, UINT32_MAX);
    CHECK("behind it all is one part", part_count == 1 && parts[0].first == copy + 1);
}

static void moves(void) {
    int copy = copy_from(0);
    ino_t inode = inode_of(copy);
    keep_away_from(copy);
    int moved = copy_from(0);
    CHECK("a copy makes way for the program", moved >= 0 && moved != copy && inode_of(moved) == inode);
    CHECK("and there is one still, which ends at exec", copies() == 1 && closes_at_exec(moved));
    keep_away_from(copy);
    CHECK("a number that is no copy moves nothing", copy_from(0) == moved && copies() == 1);
    close(copy);
}

static void executions(void) {
    int copy = copy_from(0), status;
    keep_across_exec(true);
    CHECK("before an exec the copy is made to stay", !closes_at_exec(copy));
    keep_across_exec(false);
    CHECK("after one that failed it is not any more", closes_at_exec(copy));
    pid_t child = fork();
    if (child == 0) {
        keep_across_exec(true);
        _exit(closes_at_exec(copy) ? 0 : 1);
    }
    CHECK("a child's programs do not get it", waitpid(child, &status, 0) == child && status == 0);
}

static void many(void) {
    int fd = named(SOCK_DGRAM);
    for (int i = 0; i < 2 * MOST; i++)
        keep(fd);
    CHECK("sixteen are kept, and no more", copies() == MOST);
    around(3, 2000);
    unsigned lowest = (unsigned)copy_from(0);
    CHECK("a range goes around all of them, neighbours too",
          part_count >= 2 && parts[0].last == lowest - 1 && parts[part_count - 1].last == 2000);
    for (int i = 0; i < part_count; i++)
        for (unsigned at = parts[i].first; at <= parts[i].last; at++)
            if (is_kept((int)at))
                CHECK("and never through one", false);
}

int main(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &limit);
    real_resolve();
    hints_own();
    what_is_kept();
    ranges();
    moves();
    executions();
    many();
}
