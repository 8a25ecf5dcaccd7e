/* prepare.c - beginning and end of the library in a process. */
#define _GNU_SOURCE
#include "prepare.h"
#include "follow.h"
#include "guest.h"
#include "hints.h"
#include "keep.h"
#include "listener.h"
#include "proc.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

atomic_bool prepared;
struct environment environment;

extern char **environ;

static void read_environment(void) {
    const char *expected;
    const char *variable = environment_read(&environment, environ, &expected);
    if (!variable)
        return;
    size_t shown = strcspn(variable, "\n");
    char line[512];
    int size = snprintf(line, sizeof line, "socketbox-preload: %.*s: expected %s\n",
                        (int)(shown < 200 ? shown : 200), variable, expected);
    if (write(STDERR_FILENO, line, (size_t)size) < 0) {
        /* Nobody is listening; the program must not run all the same. */
    }
    _exit(2);
}

void prepare_look_at(void *context, int fd) {
    struct listener listener;
    (void)context;
    if (listener_read(fd, &listener))
        hint_set(fd, HINT_LISTENER);
}

/* A listener that an earlier program of this process bound by itself is not kept: once closed it must be
 * gone, or clients would wait in a queue that nobody reads. */
static int look_at_inherited(void *context, int fd) {
    struct listener listener;
    (void)context;
    if (is_kept(fd))
        return 0;
    bool ours = listener_read(fd, &listener);
    if (ours)
        hint_set(fd, HINT_LISTENER | HINT_INHERITED);
    if (!ours || listener.adopted)
        keep(fd);
    return 0;
}

/* pthread_atfork(3), looked up: in old glibc it lives in libpthread, which a program without threads has not,
 * and its shared part is this function of libc. */
static void after_fork_in_child(void (*action)(void)) {
    typedef void handler(void);
    int (*in_glibc)(handler *, handler *, handler *, void *);
    int (*in_musl)(handler *, handler *, handler *);
    void *found = dlsym(RTLD_DEFAULT, "__register_atfork");
    memcpy(&in_glibc, &found, sizeof found);
    if (found) {
        in_glibc(NULL, NULL, action, NULL);
        return;
    }
    found = dlsym(RTLD_DEFAULT, "pthread_atfork");
    memcpy(&in_musl, &found, sizeof found);
    if (found)
        in_musl(NULL, NULL, action);
}

/* An address that no other thread has. pthread_self(3) would need libpthread in old glibc. */
static uintptr_t this_thread(void) {
    return (uintptr_t)&errno;
}

/* Before main as a rule, but constructors of other libraries may come first: then at their first call.
 * Nothing in here reaches a wrapper, but an allocator that dlsym(3) calls may, and a signal handler: they go
 * on without us, who have no listener yet. Other threads wait. */
void prepare(void) {
    static _Atomic uintptr_t preparing;
    uintptr_t nobody = 0;
    if (!atomic_compare_exchange_strong(&preparing, &nobody, this_thread())) {
        while (!atomic_load(&prepared) && nobody != this_thread())
            sched_yield();
        return;
    }
    int saved = errno;
    real_resolve();
    hints_own();
    read_environment();
    if (environment.follow)
        follow_remember(environ);
    after_fork_in_child(hints_own);
    proc_each_descriptor(look_at_inherited, NULL);
    errno = saved;
    atomic_store_explicit(&prepared, true, memory_order_release);
}

__attribute__((constructor)) static void begin(void) {
    ready();
}

/* A program that ends without closing its listeners leaves no file behind, unless others hold them too. */
__attribute__((destructor)) static void end(void) {
    if (!hints_exist() || !hints_owned())
        return;
    int highest = atomic_load(&hint_highest);
    for (int fd = 0; fd <= highest; fd++)
        if (hint_is(fd, HINT_LISTENER))
            listener_close(fd);
}
