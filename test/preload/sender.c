/* sender - accepts TCP connections on every local address and hands each to a Unix datagram socket, as the
 * server does: sender PATH [PATH...]. Prints the port it listens on. Several paths are served in turn. A
 * receiver that is not there yet, or busy, is waited for. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int send_connection(int out, const char *path, int connection) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    socklen_t length = (socklen_t)(sizeof to.sun_family + strlen(path) + 1);
    if (*path == '@') {
        to.sun_path[0] = 0;
        length--;
    }
    char payload = 0;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {
        .align = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    memcpy(CMSG_DATA(&control.align), &connection, sizeof connection);
    struct iovec iov = {.iov_base = &payload, .iov_len = 1};
    struct msghdr message = {.msg_name = &to,
                             .msg_namelen = length,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    return (int)sendmsg(out, &message, MSG_NOSIGNAL);
}

int main(int argc, char **argv) {
    int off = 0, next = 1;
    int in = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0),
        out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    socklen_t length = sizeof any;
    setsockopt(in, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (argc < 2 || bind(in, (void *)&any, sizeof any) < 0 || listen(in, 4096) < 0)
        return 1;
    getsockname(in, (void *)&any, &length);
    printf("%d\n", ntohs(any.sin6_port));
    fflush(stdout);
    for (;;) {
        int connection = accept4(in, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0)
            continue;
        while (send_connection(out, argv[next], connection) < 0)
            usleep(2000);
        close(connection);
        next = next + 1 < argc ? next + 1 : 1;
    }
}
