/* sweep - sets every option that a TCP listener may have, one listener each, and tells what the listener and
 * a connection that it accepts say of it then: sweep FAMILY PORT CLIENT_PORT, which are those of
 * differential. Started on a real listener and on a virtual one, the output should agree. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int family;
static const struct {
    const char *name;
    int level, last;
} levels[] = {{"SOL_SOCKET", SOL_SOCKET, 84},
              {"TCP", IPPROTO_TCP, 46},
              {"IP", IPPROTO_IP, 52},
              {"IPV6", IPPROTO_IPV6, 80}};

static int at_port(int (*call)(int, const struct sockaddr *, socklen_t), int fd, int port) {
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return family == AF_INET ? call(fd, (void *)&in, sizeof in) : call(fd, (void *)&in6, sizeof in6);
}

static void say(const char *who, const char *level, int option, int fd, int number) {
    unsigned char value[64] = {0};
    socklen_t length = sizeof value;
    printf("%s %s %d:", who, level, option);
    if (getsockopt(fd, number, option, value, &length) < 0) {
        printf(" %s\n", strerrorname_np(errno));
        return;
    }
    for (socklen_t i = 0; i < length && i < sizeof value; i++)
        printf(" %02x", value[i]);
    puts("");
}

/* before: is the option set before bind? */
static void try_option(int row, int option, bool before, int port, int client_port) {
    const char *level = levels[row].name, *when = before ? "before bind" : "after listen";
    int fd = socket(family, SOCK_STREAM, 0), on = 1, set = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (before)
        set = setsockopt(fd, levels[row].level, option, &on, sizeof on);
    if (at_port(bind, fd, port) < 0 || listen(fd, 5) < 0) {
        printf("%s %s %d: no listener, %s\n", when, level, option, strerrorname_np(errno));
        close(fd);
        return;
    }
    if (!before)
        set = setsockopt(fd, levels[row].level, option, &on, sizeof on);
    printf("set %s %s %d: %s\n", when, level, option, set < 0 ? strerrorname_np(errno) : "ok");
    say(before ? "listener, before bind" : "listener", level, option, fd, levels[row].level);
    if (set == 0) {
        int client = socket(family, SOCK_STREAM, 0);
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        at_port(connect, client, client_port);
        if (poll(&readable, 1, 5000) == 1) {
            int accepted = accept(fd, NULL, NULL);
            say("accepted", level, option, accepted, levels[row].level);
            close(accepted);
        }
        close(client);
    }
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    family = atoi(argv[1]) == 4 ? AF_INET : AF_INET6;
    for (int row = 0; row < 4; row++)
        for (int option = 1; option <= levels[row].last; option++)
            for (int before = 0; before < 2; before++)
                try_option(row, option, before, atoi(argv[2]), atoi(argv[3]));
    return 0;
}
