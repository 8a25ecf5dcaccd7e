/* tracer.c - what only a debugger can do to a running program (ptrace(2)).
 *
 *   tracer freeze TID           stops this one thread, and says "frozen"; it goes on when the tracer ends
 *   tracer call TID NR [ARG]... has the thread make this system call (x86-64), and prints its result
 *   tracer call32 TID NR        the same by the number and the entry of 32-bit programs (int 0x80)
 *
 * The thread must belong to a process that we may trace. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

/* A signal that came while we held the thread, which gets it when it is let go. */
static int held;

/* Waits until it stops for another reason than a signal. */
static int wait_for(int tid, enum __ptrace_request go_on) {
    for (;;) {
        int status;
        must(waitpid(tid, &status, __WALL), "wait");
        if (!WIFSTOPPED(status) || WSTOPSIG(status) == SIGTRAP)
            return status;
        held = WSTOPSIG(status);
        must(ptrace(go_on, tid, 0, 0), "go on");
    }
}

static void stop(int tid) {
    must(ptrace(PTRACE_SEIZE, tid, 0, 0), "seize");
    must(ptrace(PTRACE_INTERRUPT, tid, 0, 0), "interrupt");
    wait_for(tid, PTRACE_CONT);
}

#if defined(__x86_64__)
/* Where this instruction of two bytes lies in what the program may execute. */
static unsigned long long find(int tid, const char instruction[2]) {
    char name[64], line[512];
    static char bytes[1 << 20];
    snprintf(name, sizeof name, "/proc/%d/maps", tid);
    FILE *maps = fopen(name, "r");
    snprintf(name, sizeof name, "/proc/%d/mem", tid);
    int memory = open(name, O_RDONLY);
    must(maps && memory >= 0 ? 0 : -1, "memory");
    while (fgets(line, sizeof line, maps)) {
        unsigned long long start, end;
        if (sscanf(line, "%llx-%llx %*c%*cx", &start, &end) != 2 || !strstr(line, "xp "))
            continue;
        for (ssize_t length; start < end; start += length - 1) {
            size_t rest = end - start;
            length = pread(memory, bytes, rest < sizeof bytes ? rest : sizeof bytes, (off_t)start);
            if (length < 2)
                break;
            const char *at = memmem(bytes, (size_t)length, instruction, 2);
            if (at)
                return start + (unsigned long long)(at - bytes);
        }
    }
    errno = ENOENT;
    must(-1, "instruction");
    return 0;
}

/* The code is left alone, for other threads run there. */
static long long call(int tid, const char instruction[2], char **arguments, int count) {
    struct user_regs_struct before, now;
    must(ptrace(PTRACE_GETREGS, tid, 0, &before), "registers");
    unsigned long long argument[7] = {0};
    for (int i = 0; i < count && i < 7; i++)
        argument[i] = (unsigned long long)strtoll(arguments[i], NULL, 0);
    now = before;
    now.rip = find(tid, instruction);
    now.rax = argument[0];
    now.orig_rax = (unsigned long long)-1; /* no system call to be restarted here */
    now.rdi = argument[1];
    now.rsi = argument[2];
    now.rdx = argument[3];
    now.r10 = argument[4];
    now.r8 = argument[5];
    now.r9 = argument[6];
    must(ptrace(PTRACE_SETREGS, tid, 0, &now), "registers");
    must(ptrace(PTRACE_SINGLESTEP, tid, 0, 0), "step");
    if (!WIFSTOPPED(wait_for(tid, PTRACE_SINGLESTEP))) {
        printf("ended\n");
        exit(0);
    }
    must(ptrace(PTRACE_GETREGS, tid, 0, &now), "registers");
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
        printf("%lld\n", call(tid, "\x0f\x05", argv + 3, argc - 3));
    if (!strcmp(argv[1], "call32"))
        printf("%lld\n", call(tid, "\xcd\x80", argv + 3, argc - 3));
#endif
    ptrace(PTRACE_DETACH, tid, 0, held);
    return 0;
}
