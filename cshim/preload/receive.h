/* receive.h - descriptors out of Unix sockets; all control messages of the library. */
#ifndef SOCKETBOX_PRELOAD_RECEIVE_H
#define SOCKETBOX_PRELOAD_RECEIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Takes one hand-off without waiting; of flags, SOCK_CLOEXEC counts. Returns the descriptor, which the caller
 * owns; or -EAGAIN none is queued; -EMFILE, -ENFILE no descriptor is free, and what is queued stays queued;
 * -ECONNABORTED a message without a descriptor, which is gone; -ENODATA an empty one, which is also what a
 * socket reports that was shut down or whose stream has ended. */
int receive_take(int socket, int flags);
/* Waits until there is something to take, for as long and in the way that accept(2) would: O_NONBLOCK,
 * SO_RCVTIMEO and SA_RESTART mean what they mean there. 0 or -errno. */
int receive_wait(int socket);
/* Is the first message in the queue one of no bytes? No hand-off is. */
bool receive_first_is_empty(int socket);
/* Sends one descriptor from socket to a Unix address without waiting, as any hand-off. 0 or -errno. */
int receive_forward(int socket, int fd, const struct sockaddr *to, socklen_t length);
/* Calls visit(context, fd) for every descriptor that came with a message, in order. */
void receive_each(struct msghdr *message, void (*visit)(void *context, int fd), void *context);

#endif
