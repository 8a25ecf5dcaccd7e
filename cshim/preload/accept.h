/* accept.h - accept4(2) on sockets that connections are sent to. Both return a descriptor or -errno. */
#ifndef SOCKETBOX_PRELOAD_ACCEPT_H
#define SOCKETBOX_PRELOAD_ACCEPT_H

#include "listener.h"

int accept_virtual(int fd, struct sockaddr *address, socklen_t *length, int flags);
/* After accept4 itself said error: receives on a Unix datagram socket that is not of our making (a receiver
 * that was inherited), and with SKBOX_ACCEPT_STREAM on a connected stream or seqpacket socket. */
int accept_foreign(int fd, int error, struct sockaddr *address, socklen_t *length, int flags);

#endif
