/* about.c - questions about a descriptor, answered without changing it. */
#define _GNU_SOURCE
#include "internal.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(struct sb_flow) == 40, "src/native/structs.ts reads flows as ten 32-bit words");
_Static_assert(offsetof(struct sb_flow, local_port) == 32 && offsetof(struct sb_flow, fd) == 36,
               "flow layout");
_Static_assert(sizeof(struct sb_event) == 12, "event layout");
_Static_assert(sizeof(struct sb_identity) == 276 && offsetof(struct sb_identity, step) == 272,
               "identity layout");
_Static_assert(sizeof(struct sb_child) == 32 && offsetof(struct sb_child, no_new_privs) == 28,
               "child layout");
_Static_assert(sizeof(struct sb_decision) == 268, "decision layout");

int sb_sizeof(int which) {
    switch (which) {
    case SB_FLOW:
        return sizeof(struct sb_flow);
    case SB_EVENT:
        return sizeof(struct sb_event);
    case SB_IDENTITY:
        return sizeof(struct sb_identity);
    case SB_CHILD:
        return sizeof(struct sb_child);
    case SB_DECISION:
        return sizeof(struct sb_decision);
    case SB_RELAY:
        return sizeof(struct sb_relay);
    case SB_PIPES:
        return sizeof(struct sb_pipes);
    case SB_ANSWER:
        return sizeof(struct sb_answer);
    default:
        return -EINVAL;
    }
}

/* An IPv4 address becomes its mapped form (RFC 4291, 2.5.5.2), any other family than INET stays all zero. */
static uint16_t copy_address(uint8_t to[16], const struct sockaddr_storage *from) {
    memset(to, 0, 16);
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const void *)from;
        memcpy(to, &six->sin6_addr, 16);
        return ntohs(six->sin6_port);
    }
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const void *)from;
        memset(to + 10, 0xff, 2);
        memcpy(to + 12, &four->sin_addr, 4);
        return ntohs(four->sin_port);
    }
    return 0;
}

void sb_flow_remote(struct sb_flow *flow, const struct sockaddr_storage *remote) {
    flow->remote_port = copy_address(flow->remote, remote);
}

int sb_flow_local(int fd, struct sb_flow *flow) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (void *)&address, &length) < 0)
        return -errno;
    flow->local_port = copy_address(flow->local, &address);
    return 0;
}

int sb_flow_of(int fd, struct sb_flow *flow) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    /* A connection that was reset has no peer any more: its remote half stays zero, and it is still passed
     * on. */
    if (getpeername(fd, (void *)&address, &length) < 0 && errno != ENOTCONN && errno != EINVAL)
        return -errno;
    sb_flow_remote(flow, &address);
    flow->fd = fd;
    return sb_flow_local(fd, flow);
}

int sb_socket_kind(int fd, int32_t kind[4]) {
    static const int options[4] = {SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ACCEPTCONN};
    for (int i = 0; i < 4; i++) {
        socklen_t length = sizeof kind[i];
        if (getsockopt(fd, SOL_SOCKET, options[i], &kind[i], &length) < 0)
            return -errno;
    }
    return 0;
}

/* Where a Unix socket is bound, as sb_unix_address takes it; returns the length, 0 for one without a name. */
int sb_unix_name(int fd, char name[108]) {
    struct sockaddr_un address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (void *)&address, &length) < 0)
        return -errno;
    if (address.sun_family != AF_UNIX)
        return -EAFNOSUPPORT;
    size_t size =
        length > offsetof(struct sockaddr_un, sun_path) ? length - offsetof(struct sockaddr_un, sun_path) : 0;
    if (size > sizeof address.sun_path)
        size = sizeof address.sun_path;
    /* A path may or may not end in a NUL, which counts in the length where it does (unix(7)). */
    if (size > 0 && address.sun_path[0] != 0)
        size = strnlen(address.sun_path, size);
    memcpy(name, address.sun_path, size);
    if (size > 0 && name[0] == 0)
        name[0] = '@';
    return (int)size;
}

int sb_peer(int fd, int32_t pid_uid_gid[3]) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return -errno;
    pid_uid_gid[0] = peer.pid;
    pid_uid_gid[1] = (int32_t)peer.uid;
    pid_uid_gid[2] = (int32_t)peer.gid;
    return 0;
}

int sb_unix_address(const char *path, struct sockaddr_un *address, socklen_t *length) {
    size_t size = strlen(path);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (size == 0)
        return -EINVAL;
    if (size >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    memcpy(address->sun_path, path, size);
    if (path[0] == '@') {
        address->sun_path[0] = 0;
        *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    } else {
        *length = sizeof *address;
    }
    return 0;
}
