/* messages.h - hand-offs, good and bad, as a fuzzer's input spells them: each one how many descriptors of
 * which kinds, how much payload, and what it holds. */
#ifndef SOCKETBOX_FUZZ_MESSAGES_H
#define SOCKETBOX_FUZZ_MESSAGES_H

#include "fuzz.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* What may be passed. The first two are connections; the listeners are of SOCK_STREAM, too. */
enum kind {
    UNIX_STREAM,
    TCP,
    UNIX_LISTENER,
    TCP_LISTENER,
    UNIX_DATAGRAM,
    UNIX_SEQPACKET,
    UDP,
    PIPE,
    FOLDER,
    EVENT,
    KINDS
};

enum { MOST_MESSAGES = 9, MOST_DESCRIPTORS = 253, MOST_BYTES = 200 };

struct message {
    int count, length;
    uint8_t kinds[MOST_DESCRIPTORS];
    uint8_t payload[MOST_BYTES];
};

static int samples[KINDS];

static int one_of_pair(int type) {
    int pair[2];
    PROMISE(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) == 0);
    return pair[0]; /* the other end stays open, too */
}

static int bound(int family, int type) {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
    } name = {.in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = family == AF_INET ? sizeof name.in : sizeof(sa_family_t); /* autobind, unix(7) */
    name.any.sa_family = (sa_family_t)family;
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    PROMISE(fd >= 0 && bind(fd, &name.any, length) == 0);
    if (type == SOCK_STREAM)
        PROMISE(listen(fd, 8) == 0);
    return fd;
}

static int tcp_connection(void) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PROMISE(getsockname(samples[TCP_LISTENER], (void *)&name, &length) == 0);
    PROMISE(connect(fd, (void *)&name, length) == 0); /* stays in the backlog, established */
    return fd;
}

static void make_samples(void) {
    int pipe[2];
    if (samples[FOLDER])
        return;
    samples[UNIX_STREAM] = one_of_pair(SOCK_STREAM);
    samples[UNIX_DATAGRAM] = one_of_pair(SOCK_DGRAM);
    samples[UNIX_SEQPACKET] = one_of_pair(SOCK_SEQPACKET);
    samples[UNIX_LISTENER] = bound(AF_UNIX, SOCK_STREAM);
    samples[TCP_LISTENER] = bound(AF_INET, SOCK_STREAM);
    samples[TCP] = tcp_connection();
    samples[UDP] = bound(AF_INET, SOCK_DGRAM);
    samples[EVENT] = eventfd(0, EFD_CLOEXEC);
    PROMISE(pipe2(pipe, O_CLOEXEC) == 0);
    samples[PIPE] = pipe[0];
    samples[FOLDER] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    PROMISE(samples[FOLDER] > 0);
}

/* A few descriptors mostly; now and then as many of one kind as a message can hold. */
static struct message next_message(struct input *input) {
    struct message message = {0};
    uint8_t count = next_byte(input);
    message.count = count < 0xf0 ? count % 5 : MOST_DESCRIPTORS - (0xff - count);
    for (int i = 0; i < message.count; i++)
        message.kinds[i] = i < 5 ? next_byte(input) % KINDS : message.kinds[i - 5];
    message.length = next_byte(input) % (MOST_BYTES + 1);
    uint8_t first = next_byte(input);
    for (int i = 0; i < message.length; i++)
        message.payload[i] = (uint8_t)(first + i);
    return message;
}

/* False: it did not go. */
static bool send_message(int socket, const struct message *message) {
    union {
        char bytes[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = (void *)message->payload, .iov_len = (size_t)message->length};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    size_t size = (size_t)message->count * sizeof(int);
    if (message->count) {
        memset(&control, 0, sizeof control);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(size);
        control.align =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(size)};
        for (int i = 0; i < message->count; i++)
            memcpy(CMSG_DATA(&control.align) + (size_t)i * sizeof(int), &samples[message->kinds[i]],
                   sizeof(int));
    }
    return sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* Lets this process have only so many descriptors more; all it may have: SIZE_MAX. */
static void leave_room(size_t more) {
    static struct rlimit before;
    if (!before.rlim_max)
        PROMISE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit limit = before;
    if (more != SIZE_MAX) {
        int lowest = dup(samples[FOLDER]);
        close(lowest);
        limit.rlim_cur = (rlim_t)lowest + more;
    }
    PROMISE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

#endif
