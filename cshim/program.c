/* program.c - what socketbox-preload asks and does before it becomes the program. */
#define _GNU_SOURCE
#include "internal.h"
#include "preload/decide.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

_Static_assert((int)SB_DIRECT == (int)OUTCOME_DIRECT && (int)SB_RECEIVER == (int)OUTCOME_RECEIVER &&
                   (int)SB_STREAM == (int)OUTCOME_STREAM && (int)SB_LINK_LOCAL == (int)OUTCOME_LINK_LOCAL &&
                   (int)SB_REFUSED == (int)OUTCOME_REFUSE,
               "outcomes are told as the preload library knows them");

/* The directory file that path names holds the true path, as record number decision->record. */
static int read_record(const struct decision *decision, uint16_t port, char path[SOCKET_PATH_ROOM]) {
    char record[RECORD_SIZE];
    SB_CLOSE int fd = open(decision->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t length = pread(fd, record, sizeof record, (off_t)decision->record * RECORD_STRIDE);
    return length < 0 ? -errno : decide_record(record, (size_t)length, port, path);
}

static void tell(const struct decision *decision, uint16_t port, struct sb_decision *told) {
    char path[SOCKET_PATH_ROOM];
    told->outcome = decision->outcome;
    told->error = decision->outcome == OUTCOME_REFUSE ? (uint32_t)decision->error : 0;
    if (decision->outcome == OUTCOME_LINK_LOCAL)
        told->scope = decision->link_local.sin6_scope_id;
    if (decision->outcome != OUTCOME_RECEIVER && decision->outcome != OUTCOME_STREAM)
        return;
    int status = 0;
    if (decision->record < 0)
        memcpy(path, decision->path, sizeof path); /* a socket's path is no longer than that */
    else
        status = read_record(decision, port, path);
    if (status) {
        told->outcome = SB_REFUSED;
        told->error = (uint32_t)-status;
    } else {
        snprintf(told->text, sizeof told->text, "%s", path);
    }
}

/* What a bind would do under the preload library in that environment (a block of NUL-terminated strings): the
 * library's own code decides. inet6: the family of the program's socket. -EINVAL: a variable cannot be read;
 * text is then `NAME=VALUE: expected ...`. */
int sb_decide_bind(const char *envp, int envc, const uint8_t address[16], int inet6, uint32_t scope,
                   uint16_t port, struct sb_decision *told) {
    struct environment *environment = malloc(sizeof *environment);
    char **texts = malloc(((size_t)envc + 1) * sizeof *texts);
    struct decision decision;
    int status = environment && texts ? 0 : -ENOMEM;
    memset(told, 0, sizeof *told);
    for (int i = 0; !status && i < envc; i++) {
        texts[i] = (char *)envp;
        envp += strlen(envp) + 1;
    }
    if (!status) {
        const char *expected;
        texts[envc] = NULL;
        const char *unreadable = environment_read(environment, texts, &expected);
        if (unreadable) {
            snprintf(told->text, sizeof told->text, "%.160s: expected %s", unreadable, expected);
            status = -EINVAL;
        }
    }
    if (!status && inet6) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope};
        memcpy(&in6.sin6_addr, address, 16);
        decide_bind(environment, (void *)&in6, sizeof in6, port, &decision);
        tell(&decision, port, told);
    } else if (!status) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in.sin_addr, address + 12, 4);
        decide_bind(environment, (void *)&in, sizeof in, port, &decision);
        tell(&decision, port, told);
    }
    free(texts);
    free(environment);
    return status;
}

/* 1: the file gives capabilities to who executes it (capabilities(7)), 0: it does not. */
int sb_has_file_capabilities(const char *path) {
    if (getxattr(path, "security.capability", NULL, 0) >= 0)
        return 1;
    return errno == ENODATA || errno == ENOTSUP ? 0 : -errno;
}

/* 0: code in this file can be run. -EPERM: it lies on a file system mounted noexec. */
int sb_can_map(const char *path) {
    SB_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    void *page = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    munmap(page, 1);
    return 0;
}

/* From now on io_uring_setup(2) is ENOSYS for this thread and whatever it becomes or starts. Its number is
 * the same on every architecture that we run on; x32 calls have a bit more. Without CAP_SYS_ADMIN the kernel
 * wants no_new_privs (seccomp(2)), which then stays. */
int sb_refuse_io_uring(void) {
    enum { IO_URING_SETUP = 425, X32 = 0x40000000 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)X32),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IO_URING_SETUP, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof code / sizeof *code, .filter = code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0)
        return 0;
    if (errno != EACCES || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0 ? -errno : 0;
}
