/* allocator - malloc(3) of a kind that begins by reading a file, as jemalloc does, through read and close or
 * through syscall; nobody may ask it for memory meanwhile. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char memory[16 << 20];
static size_t used;
static int started; /* 2: it may be asked */

static void start(void) {
    char text[16];
    started = 1;
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (read(fd, text, sizeof text) < 1)
        _exit(9);
    close(fd);
    fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/sys/vm/overcommit_memory", O_RDONLY);
    if (syscall(SYS_read, fd, text, sizeof text) < 1)
        _exit(9);
    syscall(SYS_close, fd);
    started = 2;
}

void *malloc(size_t size) {
    if (started == 1)
        _exit(8); /* it would wait for itself */
    if (!started)
        start();
    size_t at = (used + 31) & ~(size_t)15; /* its size stands before it */
    used = at + size;
    if (used > sizeof memory)
        return NULL;
    memcpy(memory + at - sizeof size, &size, sizeof size);
    return memory + at;
}

void free(void *block) {
    (void)block;
}

void *calloc(size_t count, size_t size) {
    return malloc(count * size); /* never given out before: zeros */
}

void *realloc(void *block, size_t size) {
    void *larger = malloc(size);
    size_t old = 0;
    if (block)
        memcpy(&old, (char *)block - sizeof old, sizeof old);
    if (larger && block)
        memcpy(larger, block, old < size ? old : size);
    return larger;
}
