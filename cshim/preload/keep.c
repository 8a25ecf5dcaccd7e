/* keep.c - copies of inherited receivers. */
#define _GNU_SOURCE
#include "keep.h"

#include "guest.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_KEPT = 16, HIGH = 1024 };

static atomic_int kept[MAX_KEPT]; /* descriptors, in the order they came; the rest is 0 */
static atomic_int count;
static int keeper;

static bool is_receiver(int fd) {
    struct sockaddr_un name;
    socklen_t length = sizeof name, size = sizeof(int);
    int type = 0;
    return real.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM &&
           real.getsockname(fd, (void *)&name, &length) == 0 && name.sun_family == AF_UNIX &&
           length > offsetof(struct sockaddr_un, sun_path);
}

/* High enough to be in nobody's way, and small, because the kernel's table is as long as its highest number.
 */
static int copy_high(int fd) {
    struct rlimit limit = {.rlim_cur = HIGH};
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t end = limit.rlim_cur < HIGH ? limit.rlim_cur : HIGH;
    return real.fcntl(fd, F_DUPFD_CLOEXEC, end > 2 * MAX_KEPT ? (int)end - MAX_KEPT : 3);
}

void keep(int fd) {
    int used = atomic_load(&count);
    if (used == MAX_KEPT || !is_receiver(fd))
        return;
    int copy = copy_high(fd);
    if (copy < 0)
        return;
    keeper = getpid();
    atomic_store(&kept[used], copy);
    atomic_store(&count, used + 1);
    hint_set(copy, HINT_KEPT);
}

int keep_around(unsigned first, unsigned last, int (*close_part)(unsigned first, unsigned last)) {
    int status = 0;
    while (first <= last) {
        unsigned next = UINT32_MAX; /* the lowest that is kept from first on */
        for (int i = 0; i < atomic_load(&count); i++) {
            unsigned fd = (unsigned)atomic_load(&kept[i]);
            if (fd >= first && fd < next && is_kept((int)fd))
                next = fd;
        }
        if (next > last || next == UINT32_MAX)
            return close_part(first, last);
        if (next > first)
            status = close_part(first, next - 1);
        first = next + 1;
    }
    return status;
}

void keep_away_from(int fd) {
    for (int i = 0; i < atomic_load(&count); i++) {
        if (atomic_load(&kept[i]) != fd)
            continue;
        int copy = copy_high(fd);
        hint_drop(fd);
        if (copy < 0)
            return;
        atomic_store(&kept[i], copy);
        hint_set(copy, HINT_KEPT);
    }
}

void keep_across_exec(bool across) {
    if (atomic_load(&count) == 0 || getpid() != keeper)
        return;
    for (int i = 0; i < atomic_load(&count); i++)
        real.fcntl(atomic_load(&kept[i]), F_SETFD, across ? 0 : FD_CLOEXEC);
}
