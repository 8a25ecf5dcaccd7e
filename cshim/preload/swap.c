/* swap.c - dup3, and what does not come with it. */
#define _GNU_SOURCE
#include "swap.h"

#include "guest.h"
#include "hints.h"
#include "proc.h"

#include <fcntl.h>

enum { MAX_REGISTRATIONS = 16 };

static void copy_manners(int from, int to) {
    struct f_owner_ex owner;
    struct timeval timeout;
    socklen_t length = sizeof timeout;
    int flags = real.fcntl(from, F_GETFL);
    if (flags >= 0)
        real.fcntl(to, F_SETFL, flags & (O_NONBLOCK | O_ASYNC));
    if (real.fcntl(from, F_GETOWN_EX, &owner) == 0 && owner.pid)
        real.fcntl(to, F_SETOWN_EX, &owner);
    int number = real.fcntl(from, F_GETSIG);
    if (number > 0)
        real.fcntl(to, F_SETSIG, number);
    if (real.getsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &timeout, &length) == 0)
        real.setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &timeout, length);
}

int swap_in(int fd, int socket, unsigned hint) {
    struct registration registrations[MAX_REGISTRATIONS];
    int descriptor_flags = real.fcntl(fd, F_GETFD);
    if (descriptor_flags < 0)
        return -errno;
    copy_manners(fd, socket);
    /* A registration belongs to the file that goes away here. */
    int count = proc_unregister(fd, registrations, MAX_REGISTRATIONS);
    if (hint)
        hint_set(fd, hint);
    int status = outcome_of(real.dup3(socket, fd, descriptor_flags & FD_CLOEXEC ? O_CLOEXEC : 0));
    if (status < 0)
        hint_drop(fd);
    for (int i = 0; i < count; i++) {
        if (hint & HINT_LISTENER)
            registrations[i].event.events &= ~(uint32_t)(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
        real.epoll_ctl(registrations[i].epoll, EPOLL_CTL_ADD, fd, &registrations[i].event);
    }
    return status < 0 ? status : 0;
}
