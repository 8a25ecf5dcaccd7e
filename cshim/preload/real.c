/* real.c - finds the functions of libc that our wrappers hide. */
#define _GNU_SOURCE
#include "real.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>

/* ---- before they are found ---- */

/* dlsym(3) may allocate, and an allocator may begin by reading a file, through our wrappers. */
#if defined __x86_64__
static long enter_kernel(long number, const long a[6]) {
    long result;
    register long fourth __asm__("r10") = a[3];
    register long fifth __asm__("r8") = a[4];
    register long sixth __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined __aarch64__
static long enter_kernel(long number, const long a[6]) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a[0];
    register long x1 __asm__("x1") = a[1];
    register long x2 __asm__("x2") = a[2];
    register long x3 __asm__("x3") = a[3];
    register long x4 __asm__("x4") = a[4];
    register long x5 __asm__("x5") = a[5];
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "a processor whose system calls are not known here"
#endif

static long early_syscall(long number, ...) {
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    long result = enter_kernel(number, arguments);
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

static ssize_t early_read(int fd, void *buffer, size_t size) {
    return early_syscall(SYS_read, (long)fd, buffer, size, 0L, 0L, 0L);
}

static int early_close(int fd) {
    return (int)early_syscall(SYS_close, (long)fd, 0L, 0L, 0L, 0L, 0L);
}

static int early_fcntl(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return (int)early_syscall(SYS_fcntl, (long)fd, (long)command, argument, 0L, 0L, 0L);
}

struct real_calls real = {
    .syscall = early_syscall, .read = early_read, .close = early_close, .fcntl = early_fcntl};

/* ---- finding them ---- */

/* A libc without one of them (musl has no __read_chk) has no program that calls it either: it stays NULL.
 * memcpy, because ISO C knows no cast from an object pointer to a function pointer. */
static void find(const char *name, void *slot) {
    void *address = dlsym(RTLD_NEXT, name);
    memcpy(slot, &address, sizeof address);
}

void real_resolve(void) {
#define CALL(type, name, arguments) find(#name, &real.name);
    REAL_CALLS(CALL)
#undef CALL
}
