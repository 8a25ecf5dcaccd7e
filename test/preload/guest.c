/* guest - what a program may do that a guest in it has to bear: guest WORD PORT [CLIENT_PORT].
 *   deep       listens in a module that is loaded with RTLD_DEEPBIND, found by the program's own search path
 *   together   sixteen threads bind the port at the same moment with SO_REUSEPORT, often
 *   cancelled  threads in accept are cancelled, often; then one that closes a file by syscall(2), asks about
 *              the listener, and accepts a connection to CLIENT_PORT
 *   jump       a signal handler jumps out of accept; then accept is called again */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

enum { THREADS = 16 };
static int port, listener;

static int bound(int reuse) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse, sizeof reuse);
    if (bind(fd, (void *)&in, sizeof in) == 0)
        return fd;
    printf("bind: %s\n", strerrorname_np(errno));
    return -1;
}

static int descriptors(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static int deep(void) {
    void *module = dlopen("module", RTLD_NOW | RTLD_DEEPBIND);
    int (*listen_in_module)(int);
    if (!module) {
        puts(dlerror());
        return 1;
    }
    *(void **)&listen_in_module = dlsym(module, "listen_in_module");
    printf("listen %d\n", listen_in_module(port));
    return 0;
}

static pthread_barrier_t barrier;

static void *bind_together(void *argument) {
    (void)argument;
    pthread_barrier_wait(&barrier);
    return (void *)(intptr_t)bound(1);
}

static void together(void) {
    pthread_t threads[THREADS];
    void *fd;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, bind_together, NULL);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &fd);
        listen((int)(intptr_t)fd, 5);
    }
}

static void *accept_for_ever(void *argument) {
    for (;;)
        close(accept(listener, NULL, NULL));
    return argument;
}

static atomic_int step;

static void *ask_when_cancelled(void *argument) {
    int value = 1, state, file = open("/dev/null", O_RDONLY);
    socklen_t length = sizeof value;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    atomic_store(&step, 1);
    while (atomic_load(&step) == 1)
        sched_yield();
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    syscall(SYS_close, file);
    setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value);
    getsockopt(listener, SOL_SOCKET, SO_TYPE, &value, &length);
    shutdown(listener, SHUT_WR);
    atomic_store(&step, 3);
    accept(listener, NULL, NULL); /* never comes back, although somebody waits */
    atomic_store(&step, 4);
    return argument;
}

static int client_of(int client_port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)client_port)};
    struct pollfd readable = {.fd = listener, .events = POLLIN};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(fd, (void *)&in, sizeof in);
    return poll(&readable, 1, 5000) == 1 ? fd : -1;
}

static void cancelled(int client_port) {
    pthread_t thread;
    void *result;
    listener = bound(0);
    listen(listener, 5);
    int before = descriptors();
    for (int i = 0; i < 2000; i++) {
        pthread_create(&thread, NULL, accept_for_ever, NULL);
        for (int j = 0; j < i % 30; j++)
            sched_yield();
        pthread_cancel(thread);
        pthread_join(thread, &result);
    }
    int client = client_of(client_port);
    pthread_create(&thread, NULL, ask_when_cancelled, NULL);
    while (atomic_load(&step) != 1)
        sched_yield();
    pthread_cancel(thread);
    atomic_store(&step, 2);
    pthread_join(thread, &result);
    close(client);
    printf("%s after step %d, %d descriptors more\n", result == PTHREAD_CANCELED ? "cancelled" : "ended",
           atomic_load(&step), descriptors() - before);
}

static sigjmp_buf out;

static void jump_out(int number) {
    siglongjmp(out, number);
}

static void jump(void) {
    listener = bound(0);
    listen(listener, 5);
    signal(SIGALRM, jump_out);
    for (volatile int i = 0; i < 200; i++) {
        struct itimerval soon = {.it_value = {.tv_usec = 1 + i * 7 % 500}};
        if (sigsetjmp(out, 1))
            continue;
        setitimer(ITIMER_REAL, &soon, NULL);
        close(accept(listener, NULL, NULL));
    }
    fcntl(listener, F_SETFL, O_NONBLOCK);
    printf("accept: %s\n", accept(listener, NULL, NULL) < 0 ? strerrorname_np(errno) : "ok");
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    port = atoi(argv[2]);
    if (!strcmp(argv[1], "deep") && deep())
        return 1;
    if (!strcmp(argv[1], "together"))
        together();
    if (!strcmp(argv[1], "cancelled"))
        cancelled(argc > 3 ? atoi(argv[3]) : 0);
    if (!strcmp(argv[1], "jump"))
        jump();
    puts("ready");
    while (getchar() != EOF)
        ;
    return 0;
}
