/* What the library does with real sockets: carrying state, taking places, receiving. */
#define _GNU_SOURCE
#include "../carry.h"
#include "../guest.h"
#include "../options.h"
#include "../place.h"
#include "../receive.h"

#include "../../test/check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/socketbox-unit-XXXXXX";
static char path[64];

static void carries(void) {
    unsigned char data[CARRY_MAX], back[CARRY_MAX];
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), other = dup(fd);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7);
    CHECK("a new socket carries nothing", carry_read(fd, back, sizeof back) == -ENODATA);
    CHECK("nor does what is no socket",
          carry_read(0, back, sizeof back) == -ENODATA && carry_read(-1, back, 1) == -ENODATA);
    CHECK("a full load comes back from a copy of the descriptor",
          carry_write(fd, data, sizeof data) == 0 && carry_read(other, back, sizeof back) == CARRY_MAX &&
              memcmp(data, back, sizeof data) == 0);
    CHECK("lengths that are no multiple of four, too", carry_write(fd, data, 7) == 0 &&
                                                           carry_read(fd, back, sizeof back) == 7 &&
                                                           memcmp(data, back, 7) == 0 && back[7] == 0);
    memset(back, 1, sizeof back);
    CHECK("a reader with less room gets as much as fits",
          carry_read(fd, back, 3) == 7 && back[2] == data[2] && back[3] == 1);
    CHECK("one byte too many is refused", carry_write(fd, data, CARRY_MAX + 1) == -EMSGSIZE);
    close(fd);
    close(other);
}

static mode_t mode_of(const char *name) {
    struct stat info;
    return lstat(name, &info) < 0 ? 0 : info.st_mode & 07777;
}

static void places(void) {
    struct place_file file, second;
    umask(0);
    int fd = place_bind(path, SOCK_DGRAM, NULL, &file);
    CHECK("a place is taken with mode 0660", fd >= 0 && mode_of(path) == 0660);
    CHECK("a living one is never taken over", place_bind(path, SOCK_DGRAM, NULL, &second) == -EADDRINUSE);
    CHECK("not by another type either", place_bind(path, SOCK_STREAM, NULL, &second) == -EADDRINUSE);
    place_leave(path, &file);
    CHECK("nor removed while somebody holds it", mode_of(path) == 0660);
    close(fd);
    fd = place_bind(path, SOCK_STREAM, NULL, &second);
    CHECK("a stale one is replaced", fd >= 0 && second.inode != file.inode);
    close(fd);
    place_leave(path, &file);
    CHECK("a successor's file is left alone", mode_of(path) == 0660);
    place_leave(path, &second);
    CHECK("our own goes when nobody holds it", mode_of(path) == 0);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    CHECK("another kind of file stays",
          place_bind(path, SOCK_DGRAM, NULL, &file) == -ENOTSOCK && mode_of(path) == 0600);
    unlink(path);
    umask(0777);
    fd = place_bind(path, SOCK_DGRAM, NULL, &file);
    CHECK("the umask changes nothing", fd >= 0 && mode_of(path) == 0660);
    umask(022);
    close(fd);
    place_leave(path, &file);
    fd = place_bind("@socketbox-unit-test", SOCK_DGRAM, NULL, &file);
    CHECK("an abstract name leaves no file", fd >= 0 && file.inode == 0);
    CHECK("and is not shared", place_bind("@socketbox-unit-test", SOCK_DGRAM, NULL, &file) == -EADDRINUSE);
    close(fd);
    char missing[80];
    snprintf(missing, sizeof missing, "%s/none/x", folder);
    CHECK("a folder that is not there is an error", place_bind(missing, SOCK_DGRAM, NULL, &file) == -ENOENT);
}

/* A folder so long that a temporary name beside the socket has no room: 100 bytes and a name. */
static void long_places(void) {
    char place[SOCKET_PATH_ROOM];
    struct place_file file;
    memset(place, 'x', sizeof place);
    memcpy(place, folder, strlen(folder));
    place[strlen(folder)] = '/';
    place[103] = 0;
    mkdir(place, 0700);
    strcpy(place + 103, "/abc");
    int fd = place_bind(place, SOCK_DGRAM, NULL, &file);
    CHECK("a path of 107 bytes can be taken", strlen(place) == 107 && fd >= 0 && mode_of(place) == 0660);
    close(fd);
    place_leave(place, &file);
    place[103] = 0;
    CHECK("and leaves nothing behind", rmdir(place) == 0);
}

static int sender_to(struct sockaddr_un *to, socklen_t *length) {
    place_address(path, to, length);
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
}

static void send_many(int from, const struct sockaddr_un *to, socklen_t length, int fd, int count) {
    union {
        char bytes[CMSG_SPACE(253 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = "abc", .iov_len = 3};
    struct msghdr message = {.msg_name = (void *)to, .msg_namelen = length, .msg_iov = &iov, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                         .cmsg_type = SCM_RIGHTS,
                                         .cmsg_len = CMSG_LEN((size_t)count * sizeof(int))};
        for (int i = 0; i < count; i++)
            memcpy(CMSG_DATA(&control.align) + (size_t)i * sizeof fd, &fd, sizeof fd);
    }
    CHECK("a message is sent", sendmsg(from, &message, 0) == 3);
}

static int open_count(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void receives(void) {
    struct place_file file;
    struct sockaddr_un to;
    socklen_t length;
    int receiver = place_bind(path, SOCK_DGRAM, NULL, &file), sender = sender_to(&to, &length);
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    CHECK("with nothing queued, nothing is taken", receive_take(receiver, SOCK_CLOEXEC) == -EAGAIN);
    CHECK("a descriptor goes through", receive_forward(sender, tcp, (void *)&to, length) == 0);
    CHECK("waiting for it takes nothing", receive_wait(receiver) == 0 && receive_wait(receiver) == 0);
    int before = open_count(), got = receive_take(receiver, SOCK_CLOEXEC);
    CHECK("and is close-on-exec where that is wanted",
          got >= 0 && fcntl(got, F_GETFD) == FD_CLOEXEC && open_count() == before + 1);
    close(got);
    send_many(sender, &to, length, tcp, 1);
    got = receive_take(receiver, 0);
    CHECK("or not, where that is not wanted", got >= 0 && fcntl(got, F_GETFD) == 0);
    close(got);
    send_many(sender, &to, length, tcp, 253);
    got = receive_take(receiver, SOCK_CLOEXEC);
    CHECK("of many descriptors the first is taken and the others are closed",
          got >= 0 && open_count() == before + 1);
    close(got);
    send_many(sender, &to, length, tcp, 0);
    CHECK("a message without one is gone", receive_take(receiver, SOCK_CLOEXEC) == -ECONNABORTED &&
                                               receive_take(receiver, SOCK_CLOEXEC) == -EAGAIN);
    CHECK("an empty one, too", sendto(sender, "", 0, 0, (void *)&to, length) == 0 &&
                                   receive_take(receiver, SOCK_CLOEXEC) == -ENODATA);
    send_many(sender, &to, length, tcp, 1);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t soft = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)tcp + 1;
    setrlimit(RLIMIT_NOFILE, &limit);
    int full = receive_take(receiver, SOCK_CLOEXEC);
    limit.rlim_cur = soft;
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK("with no descriptor free it says so", full == -EMFILE);
    got = receive_take(receiver, SOCK_CLOEXEC);
    CHECK("and what was queued stays queued", got >= 0);
    close(got);
    close(tcp);
    close(sender);
    close(receiver);
    place_leave(path, &file);
}

static int int_of(int fd, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(fd, level, name, &value, &length);
    return value;
}

static void replays(void) {
    struct options options;
    int fd = socket(AF_INET6, SOCK_STREAM, 0), on = 1, size = 70000, idle = 99;
    options_capture(fd, AF_INET6, IPPROTO_TCP, &options);
    CHECK("a fresh socket was told nothing", options.count == 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    options_capture(fd, AF_INET6, IPPROTO_TCP, &options);
    CHECK("what it was told is kept", options.count == 3);
    int scratch = options_scratch(&options, AF_INET6, IPPROTO_TCP);
    CHECK("and another socket has it",
          int_of(scratch, SOL_SOCKET, SO_REUSEADDR) == 1 &&
              int_of(scratch, SOL_SOCKET, SO_RCVBUF) == int_of(fd, SOL_SOCKET, SO_RCVBUF) &&
              int_of(scratch, IPPROTO_TCP, TCP_KEEPIDLE) == 99);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    options_inherit(&options, connection);
    CHECK("a connection inherits what accept would pass on, and no more",
          int_of(connection, IPPROTO_TCP, TCP_KEEPIDLE) == 99 &&
              int_of(connection, SOL_SOCKET, SO_REUSEADDR) == 0);
    close(fd);
    close(scratch);
    close(connection);
}

int main(void) {
    ready();
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/place", folder);
    carries();
    places();
    long_places();
    receives();
    replays();
    CHECK("nothing is left in the folder", rmdir(folder) == 0);
}
