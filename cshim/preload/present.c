/* present.c - families of addresses. */
#include "present.h"

#include <string.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

bool present_canonical(const union name *name, uint8_t bytes[16], uint16_t *port) {
    switch (name->any.sa_family) {
    case AF_INET:
        memcpy(bytes, mapped_prefix, 12);
        memcpy(bytes + 12, &name->in.sin_addr, 4);
        *port = ntohs(name->in.sin_port);
        return true;
    case AF_INET6:
        memcpy(bytes, &name->in6.sin6_addr, 16);
        *port = ntohs(name->in6.sin6_port);
        return true;
    default:
        return false;
    }
}

/* FNV-1a. Not secret: who controls an IPv6 prefix can choose addresses that share a stand-in, as everybody
 * behind one NAT shares an address. Neither all zeros nor all ones come out as host part. */
static uint32_t stand_in(const struct environment *environment, const uint8_t bytes[16]) {
    uint64_t hash = 0xcbf29ce484222325;
    for (int i = 0; i < 16; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    uint32_t hosts = UINT32_MAX >> environment->stand_in_prefix;
    uint32_t host = 1 + (uint32_t)((hash ^ hash >> 32) % (hosts - 1));
    return (environment->stand_in & ~hosts) | host;
}

static struct sockaddr_in to_ipv4(const struct environment *environment, const struct sockaddr_in6 *in6,
                                  bool *stands_in) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = in6->sin6_port};
    const uint8_t *bytes = in6->sin6_addr.s6_addr;
    *stands_in = memcmp(bytes, mapped_prefix, 12) != 0;
    if (*stands_in)
        in.sin_addr.s_addr = htonl(stand_in(environment, bytes));
    else
        memcpy(&in.sin_addr, bytes + 12, 4);
    return in;
}

static struct sockaddr_in6 to_ipv6(const struct sockaddr_in *in) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = in->sin_port};
    memcpy(in6.sin6_addr.s6_addr, mapped_prefix, 12);
    memcpy(in6.sin6_addr.s6_addr + 12, &in->sin_addr, 4);
    return in6;
}

socklen_t present_as(const struct environment *environment, sa_family_t family, union name *name,
                     socklen_t length, bool *stands_in) {
    *stands_in = false;
    if (family == AF_INET && name->any.sa_family == AF_INET6) {
        name->in = to_ipv4(environment, &name->in6, stands_in);
        return sizeof name->in;
    }
    if (family == AF_INET6 && name->any.sa_family == AF_INET) {
        name->in6 = to_ipv6(&name->in);
        return sizeof name->in6;
    }
    return length;
}
