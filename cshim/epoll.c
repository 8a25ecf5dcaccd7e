/* epoll.c - waiting (epoll(7)), and being woken (eventfd(2), timerfd_create(2), sched(7)). */
#define _GNU_SOURCE
#include "internal.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

enum { MAX_EVENTS = 256 };

int sb_epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int sb_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint32_t generation) {
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)generation << 32 | (uint32_t)fd};
    return epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
}

/* timeout_ms -1 waits for ever. A signal ends the wait with 0 events. */
int sb_epoll_wait(int epoll, struct sb_event *events, int max, int timeout_ms) {
    struct epoll_event ready[MAX_EVENTS];
    int count = epoll_wait(epoll, ready, max < MAX_EVENTS ? max : MAX_EVENTS, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++)
        events[i] = (struct sb_event){.events = ready[i].events,
                                      .fd = (int32_t)(uint32_t)ready[i].data.u64,
                                      .generation = (uint32_t)(ready[i].data.u64 >> 32)};
    return count;
}

/* CLOCK_MONOTONIC in microseconds: the clock that service managers count by. */
int sb_monotonic(uint64_t microseconds[1]) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
        return -errno;
    microseconds[0] = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return 0;
}

int sb_eventfd(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int sb_eventfd_add(int fd) {
    return eventfd_write(fd, 1) < 0 ? -errno : 0;
}

/* What was added since the last time; 0 when nothing was. */
int sb_eventfd_take(int fd) {
    eventfd_t value = 0;
    if (eventfd_read(fd, &value) < 0)
        return errno == EAGAIN ? 0 : -errno;
    return value > INT32_MAX ? INT32_MAX : (int)value;
}

int sb_timer(void) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* Goes off, that is, becomes readable, once, ms milliseconds from now; 0: never. Takes back that it has gone
 * off before. */
int sb_timer_set(int fd, int ms) {
    struct itimerspec at = {.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}};
    return timerfd_settime(fd, 0, &at, NULL) < 0 ? -errno : 0;
}

/* Patient: the calling thread, when it is woken, waits for a processor until one is free, or whoever runs
 * there has had enough, and takes it from nobody (SCHED_BATCH, sched(7)). Otherwise it is as any thread is.
 * Returns 1, or 0 when somebody has chosen another policy than these two, or this one before us: theirs
 * stays. By system call, because musl's functions refuse to speak of a single thread. */
int sb_wake_patiently(int patient) {
    struct sched_param none = {0};
    long policy = syscall(SYS_sched_getscheduler, 0);
    if (policy != (patient ? SCHED_OTHER : SCHED_BATCH))
        return policy < 0 ? -errno : 0;
    return syscall(SYS_sched_setscheduler, 0, patient ? SCHED_BATCH : SCHED_OTHER, &none) < 0 ? -errno : 1;
}
