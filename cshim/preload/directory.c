/* directory.c - reads a record of a directory file. */
#define _GNU_SOURCE
#include "directory.h"

#include "guest.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int directory_path(const struct decision *decision, uint16_t port, char path[SOCKET_PATH_ROOM]) {
    char record[RECORD_SIZE];
    if (decision->record < 0) {
        memcpy(path, decision->path, SOCKET_PATH_ROOM);
        return 0;
    }
    OWNED int fd = open(decision->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t length = pread(fd, record, sizeof record, (off_t)decision->record * RECORD_STRIDE);
    return length < 0 ? -errno : decide_record(record, (size_t)length, port, path);
}
