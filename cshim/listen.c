/* listen.c - sockets that others come to: TCP listeners, and receivers and registries in the file system. */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <libgen.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

struct inet_request {
    const uint8_t *address;
    uint32_t scope;
    uint16_t port;
    uint32_t flags;
    const char *device, *netns;
    int result;
};

static int set_option(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

static int bind_inet(const struct inet_request *want) {
    SB_CLOSE int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* The wildcard takes IPv4 as well, whatever net.ipv6.bindv6only says. */
    int status = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (!status && want->flags & SB_REUSE_ADDRESS)
        status = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (!status && want->flags & SB_REUSE_PORT)
        status = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!status && want->flags & SB_TRANSPARENT)
        status = set_option(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
    if (!status && want->flags & SB_FREEBIND)
        status = set_option(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
    if (!status && want->device &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, want->device, (socklen_t)strlen(want->device)) < 0)
        status = -errno;
    if (status)
        return status;
    struct sockaddr_in6 address = {
        .sin6_family = AF_INET6, .sin6_port = htons(want->port), .sin6_scope_id = want->scope};
    memcpy(&address.sin6_addr, want->address, 16);
    if (bind(fd, (void *)&address, sizeof address) < 0)
        return -errno;
    return SB_TAKE(fd);
}

static void *bind_in_netns(void *argument) {
    struct inet_request *want = argument;
    SB_CLOSE int ns = open(want->netns, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
        want->result = -errno;
    else
        want->result = bind_inet(want);
    return NULL;
}

/* A bound, not yet listening TCP socket. netns is a path such as /run/netns/NAME, or NULL: a socket belongs
 * for ever to the namespace it was made in, so a thread of its own goes there, makes it, and ends; nobody has
 * to find the way back. */
int sb_bind_inet(const uint8_t address[16], uint32_t scope, uint16_t port, uint32_t flags, const char *device,
                 const char *netns) {
    struct inet_request want = {.address = address,
                                .scope = scope,
                                .port = port,
                                .flags = flags,
                                .device = device,
                                .netns = netns,
                                .result = -EAGAIN};
    if (!netns)
        return bind_inet(&want);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, bind_in_netns, &want);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return want.result;
}

int sb_listen(int fd, int backlog) {
    return listen(fd, backlog) < 0 ? -errno : 0;
}

/* Lets nobody new in: from now on the listener does not see a SYN, so that its backlog only gets shorter and
 * can be emptied. Who sent one tries again a second later, and finds nobody, or who listens there then. A
 * filter of a TCP listener is given the segment from its header on; RFC 9293, 3.1: the flags are its byte 13,
 * SYN 0x02, ACK 0x10. */
int sb_refuse_new(int listener) {
    struct sock_filter program[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
                                    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
                                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1),
                                    BPF_STMT(BPF_RET | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, UINT32_MAX)};
    struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
    if (setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0)
        return -errno;
    return 0;
}

/* Takes sb_refuse_new back; harmless where nobody has refused anything. */
int sb_admit_new(int listener) {
    int unused = 0;
    if (setsockopt(listener, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

/* Locks the folder of path against the other programs that bind, replace or remove sockets in it, so that
 * looking and acting are one step. The lock goes with the descriptor, nothing stays behind. Nobody holds it
 * for longer than a few system calls; -ETIMEDOUT when somebody does so for two seconds. */
static int lock_folder(const char *path) {
    char copy[SB_PATH_SIZE];
    snprintf(copy, sizeof copy, "%s", path);
    SB_CLOSE int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    for (int tries = 0; flock(folder, LOCK_EX | LOCK_NB) < 0; tries++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (tries == 200)
            return -ETIMEDOUT;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return SB_TAKE(folder);
}

/* 0: nothing lives at path (it may be stale). -EADDRINUSE: somebody does. -ENOTSOCK: it is another kind of
 * file. */
static int nobody_at(const char *path, int type) {
    struct stat info;
    if (lstat(path, &info) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(info.st_mode))
        return -ENOTSOCK;
    SB_CLOSE int probe = sb_connect_unix(path, type);
    if (probe >= 0 || probe == -EAGAIN)
        return -EADDRINUSE;
    /* A socket of another type is somebody's too: only a refusal proves that nobody is there. */
    return probe == -ECONNREFUSED || probe == -ENOENT ? 0 : probe == -EPROTOTYPE ? -EADDRINUSE : probe;
}

/* Gives the socket file at path this mode and, unless they are (uint32_t)-1, this owner and group. Whoever
 * may write to the folder may have put something else there meanwhile: a link is not followed (-ELOOP,
 * -ENOTSOCK), and nothing but a socket of our own is touched (-EPERM). */
int sb_own_unix(const char *path, uint32_t mode, uint32_t uid, uint32_t gid) {
    struct stat info;
    char name[32];
    SB_CLOSE int file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0 || fstat(file, &info) < 0)
        return -errno;
    if (!S_ISSOCK(info.st_mode))
        return -ENOTSOCK;
    if (info.st_uid != geteuid())
        return -EPERM;
    if ((uid != UINT32_MAX || gid != UINT32_MAX) && fchownat(file, "", uid, gid, AT_EMPTY_PATH) < 0)
        return -errno;
    /* There is no fchmod for O_PATH; by this name it reaches the very file that is open. In a chroot without
     * /proc it has to go by the path. */
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    if (chmod(name, mode) < 0 && (errno != ENOENT || chmod(path, mode) < 0))
        return -errno;
    return 0;
}

/* A name beside path for a moment. Where the folder's own path leaves no room for it, through the locked
 * folder. */
static void temporary_name(char temporary[SB_PATH_SIZE], const char *path, int folder) {
    char copy[SB_PATH_SIZE];
    snprintf(copy, sizeof copy, "%s", path);
    int length = snprintf(temporary, SB_PATH_SIZE, "%s/.socketbox-%d", dirname(copy), (int)getpid());
    if (length >= (int)SB_PATH_SIZE)
        snprintf(temporary, SB_PATH_SIZE, "/proc/self/fd/%d/.socketbox-%d", folder, (int)getpid());
}

/* Binds a Unix socket at path (or @name) with exactly that mode. The file is made under a temporary name and
 * renamed into place, so that it is never seen with another mode; a stale one is replaced, a living one never
 * (-EADDRINUSE). */
int sb_bind_unix(const char *path, int type, uint32_t mode) {
    struct sockaddr_un address;
    socklen_t length;
    int status = sb_unix_address(path, &address, &length);
    if (status)
        return status;
    SB_CLOSE int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* Each message says who sent it, from the first one on: a receiver may want to know. */
    int on = 1;
    if (type == SOCK_DGRAM && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return -errno;
    if (path[0] == '@')
        return bind(fd, (void *)&address, length) < 0 ? -errno : SB_TAKE(fd);

    SB_CLOSE int lock = lock_folder(path);
    if (lock < 0)
        return lock;
    status = nobody_at(path, type);
    if (status)
        return status;
    char temporary[SB_PATH_SIZE];
    temporary_name(temporary, path, lock);
    status = sb_unix_address(temporary, &address, &length);
    if (status)
        return status;
    unlink(temporary);
    /* bind(2) creates the file with the mode of the socket's own inode and the umask: too little, never too
     * much. */
    if (fchmod(fd, mode) < 0 || bind(fd, (void *)&address, length) < 0)
        return -errno;
    status = sb_own_unix(temporary, mode, UINT32_MAX, UINT32_MAX);
    if (!status && rename(temporary, path) < 0)
        status = -errno;
    if (status) {
        unlink(temporary);
        return status;
    }
    return SB_TAKE(fd);
}

/* Removes path if it still is the socket we bound there; a successor's is left alone. */
int sb_unbind_unix(const char *path, uint64_t device, uint64_t inode) {
    SB_CLOSE int lock = lock_folder(path);
    if (lock < 0)
        return lock;
    struct stat info;
    if (lstat(path, &info) < 0)
        return -errno;
    if (info.st_dev != device || info.st_ino != inode)
        return -ESTALE;
    return unlink(path) < 0 ? -errno : 0;
}

int sb_connect_unix(const char *path, int type) {
    struct sockaddr_un address;
    socklen_t length;
    int status = sb_unix_address(path, &address, &length);
    if (status)
        return status;
    SB_CLOSE int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (void *)&address, length) < 0)
        return -errno;
    return SB_TAKE(fd);
}

/* What file is there, by device and inode: a successor's socket has others. */
int sb_inode(const char *path, uint64_t device_inode[2]) {
    struct stat info;
    if (stat(path, &info) < 0)
        return -errno;
    device_inode[0] = info.st_dev;
    device_inode[1] = info.st_ino;
    return 0;
}
