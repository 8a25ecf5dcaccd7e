/* tracer.c - what only a debugger can do to a running program (ptrace(2)).
 *
 *   tracer freeze TID           stops this one thread, and says "frozen"; it goes on when the tracer ends
 *   tracer call TID NR [ARG]... has the thread make this system call (x86-64), and prints its result
 *
 * The thread must belong to a process that we may trace. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(long result, const char *what) {
    if (result >= 0)
        return;
    perror(what);
    exit(1);
}

static void stop(int tid) {
    must(ptrace(PTRACE_SEIZE, tid, 0, 0), "seize");
    must(ptrace(PTRACE_INTERRUPT, tid, 0, 0), "interrupt");
    int status;
    must(waitpid(tid, &status, __WALL), "wait");
}

#if defined(__x86_64__)
/* Where the thread stands there may be any code: its next eight bytes become a system call for a moment. */
static long long call(int tid, char **arguments, int count) {
    struct user_regs_struct before, now;
    must(ptrace(PTRACE_GETREGS, tid, 0, &before), "registers");
    unsigned long long argument[7] = {0};
    for (int i = 0; i < count && i < 7; i++)
        argument[i] = strtoull(arguments[i], NULL, 0);
    now = before;
    now.rax = argument[0];
    now.orig_rax = (unsigned long long)-1; /* no system call to be restarted here */
    now.rdi = argument[1];
    now.rsi = argument[2];
    now.rdx = argument[3];
    now.r10 = argument[4];
    now.r8 = argument[5];
    now.r9 = argument[6];
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, tid, before.rip, 0);
    must(errno ? -1 : 0, "peek");
    must(ptrace(PTRACE_POKETEXT, tid, before.rip, (word & ~0xffffL) | 0x050f), "poke");
    must(ptrace(PTRACE_SETREGS, tid, 0, &now), "registers");
    must(ptrace(PTRACE_SINGLESTEP, tid, 0, 0), "step");
    int status;
    must(waitpid(tid, &status, __WALL), "wait");
    if (!WIFSTOPPED(status)) {
        printf("ended\n");
        exit(0);
    }
    must(ptrace(PTRACE_GETREGS, tid, 0, &now), "registers");
    must(ptrace(PTRACE_POKETEXT, tid, before.rip, word), "poke");
    must(ptrace(PTRACE_SETREGS, tid, 0, &before), "registers");
    return (long long)now.rax;
}
#endif

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    int tid = atoi(argv[2]);
    stop(tid);
    if (!strcmp(argv[1], "freeze")) {
        printf("frozen\n");
        fflush(stdout);
        pause();
    }
#if defined(__x86_64__)
    if (!strcmp(argv[1], "call"))
        printf("%lld\n", call(tid, argv + 3, argc - 3));
#endif
    ptrace(PTRACE_DETACH, tid, 0, 0);
    return 0;
}
