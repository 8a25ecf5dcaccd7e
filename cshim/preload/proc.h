/* proc.h - what /proc knows of this process's descriptors. Without /proc (a bare chroot) only descriptors
 * below 1024 are looked at. */
#ifndef SOCKETBOX_PRELOAD_PROC_H
#define SOCKETBOX_PRELOAD_PROC_H

#include <sys/epoll.h>

/* Calls visit(context, fd) for every open descriptor until it answers other than 0, and returns that. */
int proc_each_descriptor(int (*visit)(void *context, int fd), void *context);

/* A registration of a descriptor in an epoll instance. */
struct registration {
    int epoll;
    struct epoll_event event;
};
/* Takes up to max registrations of fd off their epoll instances. Returns their number. */
int proc_unregister(int fd, struct registration *registrations, int max);

#endif
