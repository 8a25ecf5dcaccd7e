/* swap.h - another socket under the number of the program's. */
#ifndef SOCKETBOX_PRELOAD_SWAP_H
#define SOCKETBOX_PRELOAD_SWAP_H

/* Puts a copy of socket under the number fd, with the flags, signal owner and receive timeout that fd had,
 * and with hint (enum hint); epoll instances that watched fd go on watching it. 0 or -errno. */
int swap_in(int fd, int socket, unsigned hint);

#endif
