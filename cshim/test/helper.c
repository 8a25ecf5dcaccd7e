/* The helper library from C, where the sanitizers see every array that it fills: each is on the heap and just
 * as large as the header promises. */
#define _GNU_SOURCE
#include "../internal.h"

#include "check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[] = "/tmp/socketbox-helper-XXXXXX";
static const uint8_t loopback[16] = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1};

/* A path in the folder, as long as sun_path can hold when name is NULL. */
static const char *path_of(const char *name) {
    static char path[SB_PATH_SIZE];
    if (name)
        snprintf(path, sizeof path, "%s/%s", folder, name);
    else
        snprintf(path, sizeof path, "%s/%0*d", folder, (int)(sizeof path - sizeof folder - 1), 0);
    return path;
}

static int open_count(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int listening(uint16_t *port) {
    struct sockaddr_in6 name;
    socklen_t length = sizeof name;
    int fd = sb_bind_inet(loopback, 0, 0, SB_REUSE_ADDRESS, NULL, NULL);
    if (fd < 0 || sb_listen(fd, 128) < 0 || getsockname(fd, (void *)&name, &length) < 0)
        return -1;
    *port = ntohs(name.sin6_port);
    return fd;
}

static int client_of(uint16_t port) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (void *)&to, sizeof to) < 0 ? -1 : fd;
}

static struct sb_flow *flows_for(int count) {
    return calloc((size_t)count, sizeof(struct sb_flow));
}

/* ---- a connection from accept to the receiver ---- */

static void passes_connections(void) {
    enum { CLIENTS = 20, ROOM = 7 };
    uint16_t port;
    int listener = listening(&port), clients[CLIENTS], pair[2], got = 0, sent = 0;
    struct sb_flow *flows = flows_for(ROOM), *received = flows_for(CLIENTS);
    int32_t *fds = calloc(ROOM, sizeof *fds);
    CHECK("a listener is bound to an IPv4 address", listener >= 0);
    CHECK("and accepts nothing while nobody comes", sb_accept(listener, flows, ROOM, 0) == 0);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = client_of(port);
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    CHECK("nothing is received while nothing was sent",
          sb_receive_fds(pair[1], received, CLIENTS, 2, SB_ANYBODY, NULL) == 0);
    while (got < CLIENTS) {
        int count = sb_accept(listener, flows, ROOM, 0);
        for (int i = 0; i < count; i++) {
            fds[i] = flows[i].fd;
            sent += flows[i].local_port == port && memcmp(flows[i].local, loopback, 16) == 0;
        }
        if (count <= 0 || sb_send_fds(pair[0], fds, count, "\3\0\0\0", 4) != count)
            break;
        got += count;
    }
    CHECK("batches of connections are accepted and passed on", got == CLIENTS && sent == CLIENTS);
    CHECK("and received with the addresses they came with",
          sb_receive_fds(pair[1], received, CLIENTS, 2, SB_ANYBODY, NULL) == CLIENTS &&
              received[0].local_port == port && memcmp(received[CLIENTS - 1].remote, loopback, 16) == 0);
    for (int i = 0; i < CLIENTS; i++) {
        close(clients[i]);
        sb_close(received[i].fd);
    }
    close(pair[0]);
    CHECK("the end of a connected sender is told",
          sb_receive_fds(pair[1], received, 1, 2, SB_ANYBODY, NULL) == -ENODATA);
    close(pair[1]);
    close(listener);
    free(flows);
    free(received);
    free(fds);
}

/* IP_TRANSPARENT wants CAP_NET_ADMIN; without it the bit was never set, and clearing it must still work. */
static void clears_transparency(void) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof name;
    struct sb_flow *flow = flows_for(1);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, value = -1;
    (void)setsockopt(listener, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on);
    CHECK("an inherited listener may be of AF_INET", bind(listener, (void *)&name, length) == 0 &&
                                                         sb_listen(listener, 1) == 0 &&
                                                         getsockname(listener, (void *)&name, &length) == 0);
    int client = client_of(ntohs(name.sin_port));
    CHECK("and gives connections", sb_accept(listener, flow, 1, 1) == 1 && flow->fd >= 0);
    length = sizeof value;
    CHECK("that are no longer transparent",
          getsockopt(flow->fd, IPPROTO_IP, IP_TRANSPARENT, &value, &length) == 0 && value == 0);
    sb_close(flow->fd);
    close(client);
    close(listener);
    free(flow);
}

/* A message with count descriptors in one control message. */
static void send_message(int to, int fd, int count) {
    union {
        char bytes[CMSG_SPACE(253 * sizeof(int))];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                         .cmsg_type = SCM_RIGHTS,
                                         .cmsg_len = CMSG_LEN((size_t)count * sizeof(int))};
        for (int i = 0; i < count; i++)
            memcpy(CMSG_DATA(&control.align) + (size_t)i * sizeof fd, &fd, sizeof fd);
    }
    sendmsg(to, &message, 0);
}

static void refuses_what_is_no_connection(void) {
    int pair[2], stream[2];
    struct sb_flow *flow = flows_for(1);
    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream);
    int before = open_count();
    send_message(pair[0], -1, 0);
    CHECK("a message without a socket says so",
          sb_receive_fds(pair[1], flow, 1, 2, SB_ANYBODY, NULL) == 1 && flow->fd == -EBADMSG);
    send_message(pair[0], pair[0], 1);
    CHECK("a datagram socket is no connection",
          sb_receive_fds(pair[1], flow, 1, 2, SB_ANYBODY, NULL) == 1 && flow->fd == -EPROTOTYPE);
    send(pair[0], "", 0, 0);
    CHECK("an empty datagram is not the end",
          sb_receive_fds(pair[1], flow, 1, 2, SB_ANYBODY, NULL) == 1 && flow->fd == -EBADMSG);
    send_message(pair[0], stream[0], 253);
    CHECK("of many descriptors the first is taken",
          sb_receive_fds(pair[1], flow, 1, 2, SB_ANYBODY, NULL) == 1 && flow->fd >= 0);
    sb_close(flow->fd);
    CHECK("and the others are closed", open_count() == before);
    close(pair[0]);
    close(pair[1]);
    close(stream[0]);
    close(stream[1]);
    free(flow);
}

/* ---- paths ---- */

static mode_t mode_of(const char *path) {
    struct stat info;
    return lstat(path, &info) < 0 ? 0 : info.st_mode & 07777;
}

static void takes_paths(void) {
    const char *names[] = {"r", NULL};
    for (int i = 0; i < 2; i++) {
        const char *path = path_of(names[i]);
        struct stat info;
        int fd = sb_bind_unix(path, SOCK_DGRAM, 0660);
        CHECK("a receiver is bound with its mode", fd >= 0 && mode_of(path) == 0660);
        CHECK("a living one is never replaced", sb_bind_unix(path, SOCK_DGRAM, 0660) == -EADDRINUSE);
        int sender = sb_connect_unix(path, SOCK_DGRAM);
        CHECK("it can be connected to", sender >= 0);
        close(sender);
        close(fd);
        fd = sb_bind_unix(path, SOCK_SEQPACKET, 0600);
        CHECK("a stale one is replaced", fd >= 0 && lstat(path, &info) == 0 && mode_of(path) == 0600);
        CHECK("another's file is not removed",
              sb_unbind_unix(path, info.st_dev, info.st_ino + 1) == -ESTALE && mode_of(path) == 0600);
        CHECK("one's own is", sb_unbind_unix(path, info.st_dev, info.st_ino) == 0 && mode_of(path) == 0);
        close(fd);
    }
    char longest[SB_PATH_SIZE + 1];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    CHECK("a path that does not fit is refused", sb_bind_unix(longest, SOCK_DGRAM, 0660) == -ENAMETOOLONG);
    CHECK("an empty one too", sb_connect_unix("", SOCK_DGRAM) == -EINVAL);
}

/* ---- waiting ---- */

static void waits(void) {
    enum { MANY = 40 };
    struct sb_event *events = calloc(3, sizeof *events);
    int epoll = sb_epoll_create(), fds[MANY], seen = 0;
    for (int i = 0; i < MANY; i++) {
        fds[i] = sb_eventfd();
        sb_epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], EPOLLIN, (uint32_t)i + 1);
    }
    CHECK("nothing happens by itself", sb_epoll_wait(epoll, events, 3, 0) == 0);
    for (int i = 0; i < MANY; i++)
        sb_eventfd_add(fds[i]);
    for (int count; (count = sb_epoll_wait(epoll, events, 3, 0)) > 0;)
        for (int i = 0; i < count; i++) {
            seen += fds[events[i].generation - 1] == events[i].fd;
            sb_eventfd_take(events[i].fd);
        }
    CHECK("more events than there is room for come in several batches", seen == MANY);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    close(epoll);
    free(events);
}

/* ---- programs ---- */

static int run(const char *script, const struct sb_child *child, int32_t ending[2]) {
    char argv[256];
    int32_t *pidfd = calloc(1, sizeof *pidfd);
    size_t used = (size_t)snprintf(argv, sizeof argv, "sh%c-c%c%s", 0, 0, script) + 1;
    char *block = memcpy(malloc(used), argv, used); /* not a byte more than there are strings */
    int pid = sb_spawn("/bin/sh", block, 3, "A=1", 1, child, pidfd);
    free(block);
    if (pid > 0) {
        siginfo_t info;
        waitid((idtype_t)P_PIDFD, (id_t)*pidfd, &info, WEXITED | WNOWAIT);
        pid = sb_wait(*pidfd, ending) == 1 ? pid : -ECHILD;
        close(*pidfd);
    }
    free(pidfd);
    return pid;
}

static void starts_programs(void) {
    int32_t *ending = calloc(2, sizeof *ending), *none = calloc(1, sizeof *none);
    int ends[2], status;
    char text[64] = {0};
    struct sb_child child = {.stdin_fd = -1, .stdout_fd = -1, .nofile = 77, .new_session = 1};
    pipe2(ends, O_CLOEXEC);
    child.stdout_fd = ends[1];
    CHECK("a child runs with its arguments, environment and limits",
          run("echo $A $(ulimit -Sn); exit 3", &child, ending) > 0 && ending[0] == CLD_EXITED &&
              ending[1] == 3);
    CHECK("and writes where it was told to",
          read(ends[0], text, sizeof text - 1) > 0 && !strcmp(text, "1 77\n"));
    CHECK("a signal that ended it is told",
          run("kill -9 $$", &child, ending) > 0 && ending[0] == CLD_KILLED && ending[1] == SIGKILL);
    CHECK("a program that is not there is an error",
          sb_spawn("/none", "a", 1, "", 0, &child, none) == -ENOENT);
    pid_t pid = fork(); /* what it changes before it fails is not put back */
    if (pid == 0)
        _exit(-sb_exec("/none", "a", 1, "", 0, &child));
    CHECK("also in our place", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == ENOENT);
    close(ends[0]);
    close(ends[1]);
    free(ending);
    free(none);
}

/* ---- users ---- */

static void knows_users(void) {
    uint32_t *ids = calloc(2, sizeof *ids), *gid = calloc(1, sizeof *gid);
    CHECK("a user is found by name", sb_lookup_user("root", ids) == 1 && ids[0] == 0 && ids[1] == 0);
    CHECK("and by number, known or not",
          sb_lookup_user("0", ids) == 1 && sb_lookup_user("4000000000", ids) == 0);
    CHECK("a group too", sb_lookup_group("root", gid) == 1 && *gid == 0);
    CHECK("what is neither is an error", sb_lookup_user("no such user", ids) == -ENOENT &&
                                             sb_lookup_group("", gid) == -ENOENT &&
                                             sb_lookup_user("4294967295", ids) == -ENOENT);
    free(ids);
    free(gid);
}

static void *wait_for_end(void *end) {
    char byte;
    return (void *)read(*(int *)end, &byte, 1);
}

/* In a child, which it changes for good. */
static int gives_up(const char *root) {
    int ends[2];
    pthread_t thread;
    struct sb_identity *identity = calloc(1, sizeof *identity);
    pipe2(ends, O_CLOEXEC);
    pthread_create(&thread, NULL, wait_for_end, &ends[0]);
    *identity = (struct sb_identity){.uid = 65534, .gid = 65534, .group_count = 1, .groups = {65534}};
    identity->flags = SB_SET_UID | SB_SET_GID | SB_SET_GROUPS | SB_DROP_CAPS | SB_CONFINE;
    int status = sb_assume_identity(identity, root);
    close(ends[1]);
    pthread_join(thread, NULL);
    free(identity);
    return status == 0 && getuid() == 65534 && sb_has_capabilities() == 0 && setuid(0) < 0 ? 0 : 1;
}

static void gives_up_privileges(void) {
    struct sb_identity *identity = calloc(1, sizeof *identity);
    int status;
    identity->group_count = 65;
    CHECK("more groups than there is room for are refused", sb_assume_identity(identity, NULL) == -EINVAL);
    free(identity);
    if (getuid() != 0) {
        printf("ok - giving up privileges (skipped: not root)\n");
        return;
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(gives_up(folder));
    CHECK("all threads give up user, groups, capabilities and forbidden calls",
          waitpid(child, &status, 0) == child && status == 0);
}

/* ---- before a program is started under the preload library ---- */

/* The outcome of binding [::]:port, or -errno. */
static int decided(const char *variables, size_t size, int count, uint16_t port, struct sb_decision *told) {
    uint8_t *address = calloc(16, 1);
    char *block = memcpy(malloc(size), variables, size);
    int status = sb_decide_bind(block, count, address, 1, 0, port, told);
    free(block);
    free(address);
    return status ? status : (int)told->outcome;
}
#define DECIDED(variables, count, port, told) decided(variables, sizeof variables, count, port, told)

static void decides_binds(void) {
    struct sb_decision *told = calloc(1, sizeof *told);
    const char *folder_variable = "SOCKETBOX_MAP=* 80 80 r /x{port}\n";
    CHECK("a map says where a bind leads",
          decided(folder_variable, strlen(folder_variable) + 1, 1, 80, told) == SB_RECEIVER &&
              !strcmp(told->text, "/x80"));
    CHECK("and what it does not name is refused",
          decided(folder_variable, strlen(folder_variable) + 1, 1, 81, told) == SB_REFUSED &&
              told->error == EACCES);
    CHECK("several variables are read",
          DECIDED("A=1\0SKBOX_DIRECTORY_ROOT2=/r\0SKBOX_PORT_FILTER_IPV6_WILDCARD=90", 3, 80, told) ==
                  SB_RECEIVER &&
              !strcmp(told->text, "/r/X0000/00000_00080"));
    CHECK("without any, a bind is real", DECIDED("", 0, 80, told) == SB_DIRECT);
    CHECK("one that cannot be read is told", DECIDED("SKBOX_ENABLE_CONNECT=x", 1, 80, told) == -EINVAL &&
                                                 strstr(told->text, "SKBOX_ENABLE_CONNECT=x: expected 0, 1"));
    CHECK("files have no capabilities as a rule",
          sb_has_file_capabilities("/bin/sh") == 0 && sb_has_file_capabilities("/none") == -ENOENT);
    CHECK("a program can be mapped", sb_can_map("/bin/sh") == 0 && sb_can_map("/none") == -ENOENT);
    free(told);
}

/* In a child, which it changes for good. */
static void refuses_io_uring(void) {
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(sb_refuse_io_uring() == 0 && syscall(425, 1, NULL) < 0 && errno == ENOSYS ? 0 : 1);
    CHECK("io_uring can be refused", waitpid(child, &status, 0) == child && status == 0);
}

/* ---- the rest ---- */

static void tells_what_a_socket_is(void) {
    int32_t *kind = calloc(4, sizeof *kind), *peer = calloc(3, sizeof *peer);
    int pair[2];
    struct sb_flow *flow = flows_for(1);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    CHECK("a socket's kind",
          sb_socket_kind(pair[0], kind) == 0 && kind[0] == AF_UNIX && kind[1] == SOCK_STREAM);
    CHECK("its peer", sb_peer(pair[0], peer) == 0 && peer[0] == getpid() && peer[1] == (int32_t)getuid());
    CHECK("its flow, which has no addresses", sb_flow_of(pair[0], flow) == 0 && flow->local_port == 0);
    CHECK("what is no socket is an error",
          sb_socket_kind(open("/dev/null", O_RDONLY), kind) == -ENOTSOCK && sb_peer(-1, peer) == -EBADF);
    close(pair[0]);
    close(pair[1]);
    free(kind);
    free(peer);
    free(flow);
}

static void takes_signals(void) {
    unsigned char *byte = malloc(1);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    int fd = sb_signal_fd(1u << (SIGUSR1 - 1));
    CHECK("a signal becomes a byte, though it was blocked",
          fd >= 0 && kill(getpid(), SIGUSR1) == 0 && sb_read(fd, byte, 1) == 1 && *byte == SIGUSR1);
    CHECK("once for a process", sb_signal_fd(0) == -EBUSY);
    free(byte);
}

/* `helper emulated` leaves out what qemu-user does not know. */
int main(int argc, char **argv) {
    bool emulated = argc > 1 && strcmp(argv[1], "emulated") == 0;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a test that dies has said how far it came */
    if (!mkdtemp(folder))
        return 1;
    passes_connections();
    if (!emulated)
        clears_transparency(); /* IP_TRANSPARENT */
    refuses_what_is_no_connection();
    takes_paths();
    waits();
    if (!emulated)
        starts_programs(); /* clone(2) with CLONE_PIDFD */
    knows_users();
    if (!emulated)
        gives_up_privileges(); /* seccomp(2) */
    decides_binds();
    if (!emulated)
        refuses_io_uring(); /* the same */
    tells_what_a_socket_is();
    takes_signals();
    CHECK("nothing is left in the folder", rmdir(folder) == 0);
    return 0;
}
