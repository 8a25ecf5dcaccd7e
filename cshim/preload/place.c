/* place.c - every program of socketbox that binds, replaces or removes a socket holds a lock (flock(2)) on
 * the folder meanwhile, so that looking and acting are one step. */
#define _GNU_SOURCE
#include "place.h"

#include "guest.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int place_address(const char *path, struct sockaddr_un *address, socklen_t *length) {
    size_t size = strlen(path);
    if (size >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, size);
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
    if (*path == '@') {
        address->sun_path[0] = 0;
        --*length;
    }
    return 0;
}

static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

/* The locked folder of path, close-on-exec. Nobody holds the lock for more than a few system calls;
 * -ETIMEDOUT when somebody does so for two seconds. */
static int lock_folder(const char *path) {
    char folder[SOCKET_PATH_ROOM] = ".";
    if (strchr(path, '/'))
        snprintf(folder, sizeof folder, "%.*s/", (int)folder_length(path), path);
    OWNED int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (tries == 200)
            return -ETIMEDOUT;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return PASS_ON(fd);
}

/* Does anybody hold the socket at path open? Only a refusal proves that nobody does. A datagram socket asks
 * without a trace: it connects to its own kind unseen, and to other kinds not at all (EPROTOTYPE). */
static bool inhabited(const char *path) {
    struct sockaddr_un address;
    socklen_t length;
    if (place_address(path, &address, &length) < 0)
        return true;
    OWNED int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return true;
    if (real.connect(probe, (void *)&address, length) == 0)
        return true;
    return errno != ECONNREFUSED && errno != ENOENT;
}

static bool is_file(const struct stat *info, const struct place_file *file) {
    return file && info->st_dev == file->device && info->st_ino == file->inode;
}

/* 0: path may be taken. */
static int nobody_at(const char *path, const struct place_file *mine) {
    struct stat info;
    if (lstat(path, &info) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(info.st_mode))
        return -ENOTSOCK;
    return is_file(&info, mine) || !inhabited(path) ? 0 : -EADDRINUSE;
}

/* A name beside path for a moment. Where the folder's own path leaves no room, through the locked folder. */
static void temporary_name(char temporary[SOCKET_PATH_ROOM], const char *path, int folder) {
    int size = snprintf(temporary, SOCKET_PATH_ROOM, "%.*s%s.socketbox-%d", (int)folder_length(path), path,
                        strchr(path, '/') ? "/" : "", (int)getpid());
    if (size >= SOCKET_PATH_ROOM)
        snprintf(temporary, SOCKET_PATH_ROOM, "/proc/self/fd/%d/.socketbox-%d", folder, (int)getpid());
}

/* The file is made under a temporary name and renamed into place: it is never seen with another mode. */
static int bind_and_rename(int fd, const char *path, int folder, struct place_file *file) {
    struct sockaddr_un address;
    socklen_t length;
    struct stat info;
    char temporary[SOCKET_PATH_ROOM];
    temporary_name(temporary, path, folder);
    int status = place_address(temporary, &address, &length);
    if (status)
        return status;
    unlink(temporary);
    /* bind(2) creates the file with the mode of the socket's own inode less the umask: never too much. */
    if (fchmod(fd, 0660) < 0 || real.bind(fd, (void *)&address, length) < 0)
        return -errno;
    if (chmod(temporary, 0660) < 0 || lstat(temporary, &info) < 0 || rename(temporary, path) < 0) {
        status = -errno;
        unlink(temporary);
        return status;
    }
    *file = (struct place_file){.device = info.st_dev, .inode = info.st_ino};
    return 0;
}

int place_bind(const char *path, int type, const struct place_file *mine, struct place_file *file) {
    struct sockaddr_un address;
    socklen_t length;
    int status = place_address(path, &address, &length);
    if (status)
        return status;
    OWNED int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    *file = (struct place_file){0};
    if (*path == '@')
        return real.bind(fd, (void *)&address, length) < 0 ? -errno : PASS_ON(fd);
    OWNED int folder = lock_folder(path);
    if (folder < 0)
        return folder;
    status = nobody_at(path, mine);
    if (status == 0)
        status = bind_and_rename(fd, path, folder, file);
    return status ? status : PASS_ON(fd);
}

void place_leave(const char *path, const struct place_file *file) {
    struct stat info;
    if (!file->inode || inhabited(path))
        return;
    OWNED int folder = lock_folder(path);
    if (folder < 0 || lstat(path, &info) < 0 || !is_file(&info, file) || inhabited(path))
        return;
    unlink(path);
}
