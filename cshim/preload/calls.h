/* calls.h - what the wrappers do beyond calling libc. Each returns what its system call would, or -errno. */
#ifndef SOCKETBOX_PRELOAD_CALLS_H
#define SOCKETBOX_PRELOAD_CALLS_H

#include "connection.h"

#include <sys/epoll.h>

int call_bind(int fd, const struct sockaddr *address, socklen_t length);
int call_listen(int fd, int backlog);
int call_connect(int fd, const struct sockaddr *address, socklen_t length);
int call_name(int fd, enum side side, struct sockaddr *address, socklen_t *length);
int call_shutdown(int fd, int how);
int call_ioctl(int fd, unsigned long request, void *argument);
int call_get_option(int fd, int level, int name, void *value, socklen_t *length);
int call_set_option(int fd, int level, int name, const void *value, socklen_t length);
int call_dup_over(int from, int to, int flags);
int call_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
/* Closes the listeners among descriptors first to last; the rest is for close_range(2). */
void call_close_range(unsigned first, unsigned last);
/* Is fd a listener, so that reading from it is ENOTCONN? Sets errno then. */
bool call_nothing_to_read(int fd);
/* SKBOX_GETPEERNAME_PROTECTION: zeros the buffer that an address will be put in. */
void call_protect(struct sockaddr *address, const socklen_t *length);

#endif
