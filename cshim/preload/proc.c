/* proc.c - /proc/self/fd and /proc/self/fdinfo (proc(5)), read without allocating. */
#define _GNU_SOURCE
#include "proc.h"

#include "guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LIKELY = 1024 };

/* What getdents64(2) fills in; libc has no such type. */
struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Where there is no /proc (a bare chroot): those that are likely. */
static int each_low_descriptor(int (*visit)(void *context, int fd), void *context) {
    int result = 0;
    for (int fd = 0; fd < LIKELY && result == 0; fd++)
        if (real.fcntl(fd, F_GETFD) >= 0)
            result = visit(context, fd);
    return result;
}

int proc_each_descriptor(int (*visit)(void *context, int fd), void *context) {
    _Alignas(struct entry) char block[2048];
    OWNED int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long size;
    if (folder < 0)
        return each_low_descriptor(visit, context);
    while ((size = real.syscall(SYS_getdents64, folder, block, sizeof block)) > 0) {
        for (long at = 0; at < size;) {
            const struct entry *entry = (const void *)(block + at);
            at += entry->size;
            int fd = entry->name[0] == '.' ? folder : atoi(entry->name);
            int result = fd == folder ? 0 : visit(context, fd);
            if (result)
                return result;
        }
    }
    return 0;
}

struct search {
    int fd, count, max;
    struct registration *found;
};

static void found(struct search *search, int epoll, struct epoll_event event) {
    /* The number may belong to a registration of a file that fd no longer is: then it cannot be removed. */
    if (search->count < search->max && real.epoll_ctl(epoll, EPOLL_CTL_DEL, search->fd, NULL) == 0)
        search->found[search->count++] = (struct registration){.epoll = epoll, .event = event};
}

/* `tfd:        5 events:       19 data:                5 ...` */
static void read_line(struct search *search, int epoll, const char *line) {
    int fd;
    unsigned events;
    unsigned long long data;
    if (sscanf(line, "tfd: %d events: %x data: %llx", &fd, &events, &data) == 3 && fd == search->fd)
        found(search, epoll, (struct epoll_event){.events = events, .data.u64 = data});
}

static int search_epoll(void *context, int epoll) {
    char name[64], target[32], block[512];
    size_t used = 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", epoll);
    ssize_t size = readlink(name, target, sizeof target);
    if (size != sizeof "anon_inode:[eventpoll]" - 1 ||
        memcmp(target, "anon_inode:[eventpoll]", (size_t)size) != 0)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", epoll);
    OWNED int info = open(name, O_RDONLY | O_CLOEXEC);
    while (info >= 0 && (size = real.read(info, block + used, sizeof block - 1 - used)) > 0) {
        used += (size_t)size;
        block[used] = 0;
        char *line = block;
        for (char *end; (end = strchr(line, '\n')); line = end + 1) {
            *end = 0;
            read_line(context, epoll, line);
        }
        used -= (size_t)(line - block);
        memmove(block, line, used);
    }
    return 0;
}

int proc_unregister(int fd, struct registration *registrations, int max) {
    struct search search = {.fd = fd, .max = max, .found = registrations};
    proc_each_descriptor(search_epoll, &search);
    return search.count;
}
