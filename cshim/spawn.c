/* spawn.c - starting a program, in a child or in our place, as if nothing of us had been there before. */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { CHILD_STACK = 64 * 1024 };

struct launch {
    const char *program;
    char **argv, **envp;
    const struct sb_child *child;
    sigset_t blocked; /* signals that the program starts with blocked */
    int error;        /* written by the child, which shares our memory until it execs */
};

/* 0 and 1 may themselves be the numbers to be moved, and dup2 onto itself keeps close-on-exec: go by way of
 * numbers above both. */
static int place_stdio(const struct sb_child *child) {
    int in = child->stdin_fd < 0 ? -1 : fcntl(child->stdin_fd, F_DUPFD_CLOEXEC, 3);
    int out = child->stdout_fd < 0 ? -1 : fcntl(child->stdout_fd, F_DUPFD_CLOEXEC, 3);
    if ((child->stdin_fd >= 0 && in < 0) || (child->stdout_fd >= 0 && out < 0))
        return -1;
    if ((in >= 0 && dup2(in, 0) < 0) || (out >= 0 && dup2(out, 1) < 0))
        return -1;
    return 0;
}

static int become_program(struct launch *launch) {
    const struct sb_child *child = launch->child;
    /* Handlers must go before the mask is lifted: they belong to a process whose memory we still share. */
    for (int signal = 1; signal <= 64; signal++) {
        int ignored = child->ignored_signals >> (signal - 1) & 1;
        struct sigaction action = {.sa_handler = ignored ? SIG_IGN : SIG_DFL};
        sigaction(signal, &action,
                  NULL); /* EINVAL for KILL, STOP and the two of the C library: as they must be */
    }
    if (child->new_session)
        setsid();
    if (place_stdio(child) < 0)
        return errno;
    if (child->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return errno;
    struct rlimit limit;
    if (child->nofile && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = child->nofile < limit.rlim_max ? child->nofile : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    sigprocmask(SIG_SETMASK, &launch->blocked, NULL);
    execve(launch->program, launch->argv, launch->envp);
    return errno;
}

static int child_main(void *argument) {
    struct launch *launch = argument;
    launch->error = become_program(launch);
    _exit(127);
}

static char **split(const char *block, int count) {
    char **list = malloc(((size_t)count + 1) * sizeof *list);
    if (!list)
        return NULL;
    for (int i = 0; i < count; i++) {
        list[i] = (char *)block;
        block += strlen(block) + 1;
    }
    list[count] = NULL;
    return list;
}

/* Returns the process id and a pidfd; -errno when the program could not be started, for whatever reason. The
 * child borrows our memory until it execs, as with vfork(2), so the cost does not grow with our size. */
int sb_spawn(const char *program, const char *argv, int argc, const char *envp, int envc,
             const struct sb_child *child, int32_t pidfd[1]) {
    struct launch launch = {
        .program = program, .argv = split(argv, argc), .envp = split(envp, envc), .child = child};
    char *stack =
        mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    int result = -ENOMEM;
    sigemptyset(&launch.blocked);
    if (launch.argv && launch.envp && stack != MAP_FAILED) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int fd = -1;
        int pid = clone(child_main, stack + CHILD_STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
                        &launch, &fd);
        result = pid < 0 ? -errno : pid;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (pid > 0 && launch.error) {
            waitpid(pid, NULL, 0);
            close(fd);
            result = -launch.error;
        } else if (pid > 0) {
            pidfd[0] = fd;
        }
    }
    if (stack != MAP_FAILED)
        munmap(stack, CHILD_STACK);
    free(launch.argv);
    free(launch.envp);
    return result;
}

/* Returns only when it failed, with -errno. What is blocked in this thread stays blocked in the program, as
 * across any exec: whoever started us meant it so. */
int sb_exec(const char *program, const char *argv, int argc, const char *envp, int envc,
            const struct sb_child *child) {
    struct launch launch = {
        .program = program, .argv = split(argv, argc), .envp = split(envp, envc), .child = child};
    pthread_sigmask(SIG_SETMASK, NULL, &launch.blocked);
    int error = launch.argv && launch.envp ? become_program(&launch) : ENOMEM;
    free(launch.argv);
    free(launch.envp);
    return -error;
}

/* 1 and how it ended (CLD_EXITED and the status, or CLD_KILLED, CLD_DUMPED and the signal); 0: it still runs.
 */
int sb_wait(int pidfd, int32_t code_status[2]) {
    siginfo_t info = {0};
    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0)
        return -errno;
    if (info.si_pid == 0)
        return 0;
    code_status[0] = info.si_code;
    code_status[1] = info.si_status;
    return 1;
}
