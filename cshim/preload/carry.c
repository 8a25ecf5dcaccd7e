/* carry.c - a classic BPF filter (SO_ATTACH_FILTER, socket(7)) that accepts everything in its first
 * instruction. The instructions behind it are never run; each holds 32 bits of data as its constant. Any
 * process that has the socket reads them back with SO_GET_FILTER. */
#define _GNU_SOURCE
#include "carry.h"

#include "guest.h"

#include <linux/filter.h>
#include <string.h>

#ifndef SO_GET_FILTER
#define SO_GET_FILTER SO_ATTACH_FILTER
#endif

/* What the data is, and the version of its layout: a library of another version leaves it alone. */
static const uint32_t magic = 0x534b4c02;

/* Accept, magic, length, data, and a last return, which the kernel insists on. */
enum { HEAD = 3, WORDS = CARRY_MAX / 4, INSTRUCTIONS = HEAD + WORDS + 1 };

static const struct sock_filter accept_all = {.code = BPF_RET | BPF_K, .k = UINT32_MAX};

static struct sock_filter holding(uint32_t word) {
    return (struct sock_filter){.code = BPF_LD | BPF_IMM, .k = word};
}

int carry_write(int fd, const void *data, size_t size) {
    if (size > CARRY_MAX)
        return -EMSGSIZE;
    struct sock_filter code[INSTRUCTIONS];
    unsigned short count = 0;
    code[count++] = accept_all;
    code[count++] = holding(magic);
    code[count++] = holding((uint32_t)size);
    for (size_t at = 0; at < size; at += 4) {
        uint32_t word = 0;
        memcpy(&word, (const char *)data + at, size - at < 4 ? size - at : 4);
        code[count++] = holding(word);
    }
    code[count++] = accept_all;
    struct sock_fprog program = {.len = count, .filter = code};
    return outcome_of(real.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

int carry_read(int fd, void *data, size_t size) {
    struct sock_filter code[INSTRUCTIONS];
    socklen_t count = INSTRUCTIONS; /* SO_GET_FILTER counts instructions, not bytes */
    if (real.getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, code, &count) < 0)
        return -ENODATA;
    if (count < HEAD + 1 || count > INSTRUCTIONS || code[0].code != accept_all.code || code[1].k != magic)
        return -ENODATA;
    size_t length = code[2].k;
    if (count != HEAD + (length + 3) / 4 + 1)
        return -ENODATA;
    memset(data, 0, size);
    for (size_t at = 0; at < length && at < size; at += 4) {
        size_t room = size - at < length - at ? size - at : length - at;
        memcpy((char *)data + at, &code[HEAD + at / 4].k, room < 4 ? room : 4);
    }
    return (int)length;
}
