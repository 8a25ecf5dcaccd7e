/* receive.c - whatever is sent to a listener that is not there: accept returns connections and nothing else,
 * and no descriptor is left over. */
#define _GNU_SOURCE
#include "../accept.h"

#include "../../fuzz/messages.h"
#include "../carry.h"
#include "../guest.h"

/* What accept may return when it is strict. */
static bool is_connection(int fd) {
    int type = 0, listening = 0;
    socklen_t length = sizeof type;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length);
    return type == SOCK_STREAM && (environment.strict == 1 || !listening);
}

static void make_listener(int fd, uint8_t flags) {
    struct listener listener = {.type = SOCK_DGRAM, .listening = 1, .protocol = IPPROTO_TCP};
    listener.name.sin6_family = flags & 64 ? AF_INET : AF_INET6;
    PROMISE(carry_write(fd, &listener, sizeof listener) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {.at = data, .left = size};
    uint8_t flags = next_byte(&input), room = next_byte(&input) % 8;
    int pair[2], sent = 0, taken = 0;
    if (!real.close)
        real_resolve();
    environment.strict = flags % 3;
    environment.stealth = flags & 8;
    environment.stand_in = 0xf0000000;
    environment.stand_in_prefix = 4;
    make_samples();
    int before = open_descriptors();
    PROMISE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    bool is_virtual = flags & 128;
    if (is_virtual)
        make_listener(pair[0], flags);
    while (input.left && sent < MOST_MESSAGES) {
        struct message message = next_message(&input);
        sent += send_message(pair[1], &message);
    }
    if (room)
        leave_room(room - 1);
    while (taken < sent) {
        struct sockaddr_storage name;
        socklen_t length = flags & 16 ? sizeof name : 7;
        struct sockaddr *address = flags & 32 ? (void *)&name : NULL;
        int fd = is_virtual ? accept_virtual(pair[0], address, &length, SOCK_CLOEXEC)
                            : accept_foreign(pair[0], EINVAL, address, &length, SOCK_CLOEXEC);
        if (fd >= 0) {
            PROMISE(environment.strict == 0 || is_connection(fd));
            PROMISE(fcntl(fd, F_GETFD) == FD_CLOEXEC);
            close(fd);
        } else if (fd == -EMFILE) {
            PROMISE(room);
            leave_room(SIZE_MAX); /* it is still there */
            room = 0;
            continue;
        } else {
            PROMISE(fd == -ECONNABORTED || (fd == -ENOTSOCK && environment.strict == 0 && address));
        }
        taken++;
    }
    leave_room(SIZE_MAX);
    PROMISE((is_virtual ? accept_virtual(pair[0], NULL, NULL, 0)
                        : accept_foreign(pair[0], EINVAL, NULL, NULL, 0)) == -EAGAIN);
    close(pair[0]);
    close(pair[1]);
    PROMISE(open_descriptors() == before);
    return 0;
}
