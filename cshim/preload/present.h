/* present.h - the addresses of a connection, in the family that the program asked for. Pure. */
#ifndef SOCKETBOX_PRELOAD_PRESENT_H
#define SOCKETBOX_PRELOAD_PRESENT_H

#include "decide.h"

/* Any address that a connection has. */
union name {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_storage storage;
};

/* Rewrites name, true length bytes of it, and returns its new length. To AF_INET6, IPv4 becomes
 * ::ffff:a.b.c.d. To AF_INET, ::ffff:a.b.c.d becomes a.b.c.d, and any other IPv6 address one that stands for
 * it out of SOCKETBOX_STAND_IN: the same for the same address always (*stands_in is set then). Others stay.
 */
socklen_t present_as(const struct environment *environment, sa_family_t family, union name *name,
                     socklen_t length, bool *stands_in);

/* IPv4 as ::ffff:a.b.c.d, and the port; false: another family. */
bool present_canonical(const union name *name, uint8_t bytes[16], uint16_t *port);

#endif
