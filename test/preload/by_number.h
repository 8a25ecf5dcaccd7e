/* by_number.h - makes the calls of a test program go through syscall(2), as those of libuv do. */
#include <sys/syscall.h>
#include <unistd.h>

static inline int by_number(long result) {
    return (int)result;
}

#define bind(a, b, c) by_number(syscall(SYS_bind, a, b, c))
#define listen(a, b) by_number(syscall(SYS_listen, a, b))
#define connect(a, b, c) by_number(syscall(SYS_connect, a, b, c))
#define accept(a, b, c) by_number(syscall(SYS_accept, a, b, c))
#define accept4(a, b, c, d) by_number(syscall(SYS_accept4, a, b, c, d))
#define getsockname(a, b, c) by_number(syscall(SYS_getsockname, a, b, c))
#define getpeername(a, b, c) by_number(syscall(SYS_getpeername, a, b, c))
#define getsockopt(a, b, c, d, e) by_number(syscall(SYS_getsockopt, a, b, c, d, e))
#define setsockopt(a, b, c, d, e) by_number(syscall(SYS_setsockopt, a, b, c, d, e))
#define shutdown(a, b) by_number(syscall(SYS_shutdown, a, b))
#define close(a) by_number(syscall(SYS_close, a))
#define close_range(a, b, c) by_number(syscall(SYS_close_range, a, b, c))
#define dup(a) by_number(syscall(SYS_dup, a))
#ifdef SYS_dup2 /* not on arm64 */
#define dup2(a, b) by_number(syscall(SYS_dup2, a, b))
#endif
#define dup3(a, b, c) by_number(syscall(SYS_dup3, a, b, c))
#define fcntl(...) by_number(syscall(SYS_fcntl, __VA_ARGS__))
#define execve(a, b, c) by_number(syscall(SYS_execve, a, b, c))
