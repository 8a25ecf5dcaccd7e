/* receive.c - whatever is sent to a receiver: every message is accounted for, only what was asked for comes
 * through, and no descriptor is left over. */
#define _GNU_SOURCE
#include "messages.h"

#include "../internal.h"

static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};

struct question {
    int type, strict, room;
    bool by_batches, want_senders;
    uint32_t from_uid;
};

static struct question next_question(struct input *input) {
    uint8_t flags = next_byte(input);
    struct question question = {
        .type = types[flags % 3], .by_batches = flags & 64, .want_senders = flags & 128};
    flags = next_byte(input);
    question.strict = flags % 3;
    question.from_uid = flags & 64 ? SB_ANYBODY : flags & 128 ? getuid() : getuid() + 1;
    question.room = next_byte(input) % 8 - 1; /* -1: for all */
    return question;
}

/* What shall come of a message that was received whole. */
static int wanted(const struct question *question, const struct message *message) {
    if (question->from_uid != SB_ANYBODY && (question->from_uid != getuid() || !question->want_senders))
        return -EACCES;
    if (message->count == 0)
        return -EBADMSG;
    switch (question->strict ? message->kinds[0] : UNIX_STREAM) {
    case UNIX_STREAM:
    case TCP:
        return 0;
    case UNIX_LISTENER:
    case TCP_LISTENER:
        return question->strict == 1 ? 0 : -EPROTOTYPE;
    default:
        return -EPROTOTYPE;
    }
}

/* What a receiver takes for the end of a connected socket. */
static bool is_end(const struct question *question, const struct message *message) {
    return question->type != SOCK_DGRAM && message->count == 0 && message->length == 0;
}

static void check_flow(const struct question *question, const struct message *message,
                       const struct sb_flow *flow, const uint8_t payload[128]) {
    if (message && question->room < 0) {
        int outcome = wanted(question, message);
        PROMISE(flow->fd >= 0 ? outcome == 0 : flow->fd == outcome);
        for (int i = 0; i < 128; i++)
            PROMISE(payload[i] == (i < message->length ? message->payload[i] : 0));
    }
    if (flow->fd < 0) {
        PROMISE(flow->fd == -EBADMSG || flow->fd == -EPROTOTYPE || flow->fd == -EACCES ||
                (flow->fd == -EMFILE && question->room >= 0));
        return;
    }
    int32_t kind[4];
    PROMISE(fcntl(flow->fd, F_GETFD) == FD_CLOEXEC);
    if (question->strict) {
        PROMISE(sb_socket_kind(flow->fd, kind) == 0 && kind[1] == SOCK_STREAM);
        PROMISE(question->strict == 1 || !kind[3]);
    }
    close(flow->fd);
}

/* All that waits, in batches. Returns how many messages there were. */
static int take_flows(int socket, const struct question *question, const struct message *messages) {
    struct sb_flow flows[4];
    uint8_t payloads[4][128];
    int taken = 0, count;
    while ((count = sb_receive_fds(socket, flows, 4, question->strict, question->from_uid, payloads)) > 0) {
        PROMISE(count <= 4 && taken + count <= 4096);
        for (int i = 0; i < count; i++, taken++)
            check_flow(question, question->type == SOCK_STREAM ? NULL : &messages[taken], &flows[i],
                       payloads[i]);
    }
    PROMISE(count == 0 || count == -ENODATA || (count == -EMFILE && question->room >= 0));
    return taken;
}

static bool has_room(int socket) {
    int probe = fcntl(socket, F_DUPFD_CLOEXEC, 0);
    return probe >= 0 && close(probe) == 0;
}

/* The same with the function that reads messages of our own processes. */
static int take_messages(int socket, const struct question *question, const struct message *messages) {
    char text[64];
    int taken = 0;
    for (;; taken++) {
        int32_t fd[1] = {-1};
        int length = sb_receive_message(socket, text, sizeof text, fd);
        if (length == -EAGAIN || (length == -EMFILE && !has_room(socket)))
            return taken;
        PROMISE(length >= 0 ? length <= (int)sizeof text : fd[0] == -1);
        PROMISE(length >= 0 || length == -EMSGSIZE || (length == -EMFILE && question->room >= 0));
        if (length == 0 && fd[0] < 0 && question->type != SOCK_DGRAM)
            return taken; /* the end */
        if (question->type != SOCK_STREAM && question->room < 0) {
            const struct message *message = &messages[taken];
            PROMISE(length == (message->length > (int)sizeof text ? -EMSGSIZE : message->length));
            PROMISE(length < 0 || (fd[0] >= 0) == (message->count > 0));
            PROMISE(length <= 0 || memcmp(text, message->payload, (size_t)length) == 0);
        }
        if (fd[0] >= 0)
            close(fd[0]);
        PROMISE(taken < 4096);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct message messages[MOST_MESSAGES];
    struct input input = {.at = data, .left = size};
    struct question question = next_question(&input);
    int pair[2], sent = 0;
    make_samples();
    int before = open_descriptors();
    PROMISE(socketpair(AF_UNIX, question.type | SOCK_CLOEXEC, 0, pair) == 0);
    if (question.want_senders)
        PROMISE(sb_want_senders(pair[0]) == 0);
    while (input.left && sent < MOST_MESSAGES) {
        messages[sent] = next_message(&input);
        if (is_end(&question, &messages[sent]))
            break;
        sent += send_message(pair[1], &messages[sent]);
    }
    shutdown(pair[1], SHUT_WR);
    if (question.room >= 0)
        leave_room((size_t)question.room);
    int (*take)(int, const struct question *, const struct message *) =
        question.by_batches ? take_flows : take_messages;
    int taken = take(pair[0], &question, messages);
    leave_room(SIZE_MAX);
    /* What was left for want of a descriptor is still there. */
    if (question.type != SOCK_STREAM) {
        question.room = -1;
        taken += take(pair[0], &question, messages + taken);
        PROMISE(taken == sent);
    }
    close(pair[0]);
    close(pair[1]);
    PROMISE(open_descriptors() == before);
    return 0;
}
