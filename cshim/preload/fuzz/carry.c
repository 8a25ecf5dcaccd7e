/* carry.c - a descriptor that somebody else made, with a filter on it that we have not written: what is
 * loaded from it is a listener that every other part can work with, or nothing. */
#define _GNU_SOURCE
#include "../carry.h"

#include "../../fuzz/fuzz.h"
#include "../guest.h"
#include "../listener.h"

#include <linux/filter.h>
#include <string.h>
#include <unistd.h>

static struct sock_filter program[BPF_MAXINSNS];
static socklen_t instructions;

/* SO_GET_FILTER, as the kernel answers it: in instructions, and an error where there is no room. */
static int filter_of(int fd, int level, int name, void *value, socklen_t *length) {
    (void)fd, (void)level, (void)name;
    if (*length && *length < instructions) {
        errno = EINVAL;
        return -1;
    }
    memcpy(value, program, instructions * sizeof *program);
    *length = instructions;
    return 0;
}

/* As carry_write makes it of the data that follows; then single instructions spoilt. */
static void make_program(struct input *input) {
    size_t spoilt = 2 * (size_t)next_byte(input);
    size_t length = input->left - (input->left > spoilt ? spoilt : 0);
    instructions = 0;
    program[instructions++] = (struct sock_filter){.code = BPF_RET | BPF_K, .k = UINT32_MAX};
    program[instructions++] = (struct sock_filter){.code = BPF_LD | BPF_IMM, .k = 0x534b4c02};
    program[instructions++] = (struct sock_filter){.code = BPF_LD | BPF_IMM, .k = (uint32_t)length};
    for (size_t at = 0; at < length && instructions + 1 < BPF_MAXINSNS; at += 4) {
        uint32_t word = 0;
        for (size_t i = 0; i < 4 && at + i < length; i++)
            word |= (uint32_t)next_byte(input) << 8 * i;
        program[instructions++] = (struct sock_filter){.code = BPF_LD | BPF_IMM, .k = word};
    }
    program[instructions++] = program[0];
    while (input->left) {
        uint8_t at = next_byte(input), value = next_byte(input);
        if (value & 1)
            instructions = 1 + at;
        else
            program[at].k ^= value;
    }
}

static void check(const struct listener *listener) {
    union name name;
    socklen_t length;
    PROMISE(memchr(listener->path, 0, sizeof listener->path));
    PROMISE(listener->sibling_count <= MAX_SIBLINGS && listener->options.count <= MAX_OPTIONS);
    for (int i = 0; i < listener->sibling_count; i++)
        PROMISE(listener->siblings[i].length <= offsetof(struct sockaddr_un, sun_path) + SIBLING_NAME);
    for (int i = 0; i < listener->options.count; i++)
        PROMISE(listener->options.list[i].length <= OPTION_SIZE);
    PROMISE(listener->type == SOCK_DGRAM || listener->type == SOCK_STREAM);
    listener_name(listener, &name, &length);
    PROMISE(name.any.sa_family == AF_INET || name.any.sa_family == AF_INET6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {.at = data, .left = size};
    struct listener listener;
    int before = open_descriptors(), value;
    socklen_t length = sizeof value;
    if (!real.close)
        real_resolve();
    int (*getsockopt)(int, int, int, void *, socklen_t *) = real.getsockopt;
    make_program(&input);
    real.getsockopt = filter_of;
    memset(&listener, 0xa5, sizeof listener);
    bool loaded = listener_load(0, &listener);
    real.getsockopt = getsockopt;
    if (loaded) {
        check(&listener);
        listener_get_option(0, &listener, SOL_SOCKET, SO_ACCEPTCONN, &value, &length);
        PROMISE(open_descriptors() == before);
    }
    return 0;
}
