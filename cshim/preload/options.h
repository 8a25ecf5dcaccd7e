/* options.h - the socket options of a TCP listener that is not there.
 *
 * What an option means is the kernel's business: every question about a virtual listener is put to a scratch
 * TCP socket that was given the listener's options, and its answer, or its error, is the program's. Kept are
 * those options whose value differs from a fresh socket's. */
#ifndef SOCKETBOX_PRELOAD_OPTIONS_H
#define SOCKETBOX_PRELOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { MAX_OPTIONS = 32, OPTION_SIZE = 16 };

struct option {
    uint8_t index; /* in the table of options.c */
    uint8_t length;
    uint8_t value[OPTION_SIZE];
};

struct options {
    uint16_t count;
    struct option list[MAX_OPTIONS];
};

/* What fd, a TCP socket, was told. -errno when no fresh socket can be had to compare it with. */
int options_capture(int fd, int family, int protocol, struct options *options);
/* A new close-on-exec TCP socket with these options, which the caller owns, or -errno. */
int options_scratch(const struct options *options, int family, int protocol);
/* Gives a received connection what an accepted one would have inherited. */
void options_inherit(const struct options *options, int connection);

#endif
