/* connection.h - the few received connections that are not what the program expects: an IPv6 client of a
 * program that listens on IPv4, and the other way round. All others are left alone. */
#ifndef SOCKETBOX_PRELOAD_CONNECTION_H
#define SOCKETBOX_PRELOAD_CONNECTION_H

#include "present.h"

enum side { LOCAL, REMOTE };

/* Makes a connection of family domain one of family wanted: truly where the kernel can (IPV6_ADDRFORM), or by
 * a hint, after which connection_name answers in that family, in this process and its children, not in a
 * program that one of them executes. */
void connection_conform(int fd, int domain, sa_family_t wanted);
/* The address that the socket has. 0 or -errno as getsockname(2), getpeername(2). */
int connection_true_name(int fd, enum side side, union name *name, socklen_t *length);
/* The address in the family the program expects. 0 or -errno as getsockname(2), getpeername(2). */
int connection_name(int fd, enum side side, union name *name, socklen_t *length);
/* Writes to the log which client an IPv4 address stands for, if it does for this one. */
void connection_log(int fd);

#endif
