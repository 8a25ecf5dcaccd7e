/* confine.c - the system calls that a process of ours never makes once it is set up, refused for good. */
#define _GNU_SOURCE
#include "internal.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define FIRST_FOREIGN_NUMBER 0x40000000u /* the x32 calls, which come under the same architecture */
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define FIRST_FOREIGN_NUMBER 0xffffffffu
#else
#error "socketbox runs on x86-64 and arm64"
#endif

/* What a process that accepts, matches, hands off and relays never does, and whoever takes it over would like
 * to. Bun's own needs were measured (docs/SECURITY.md): it starts threads, maps executable memory, and reads
 * files. */
static const uint32_t refused_calls[] = {
    /* other programs, other processes */
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
#ifdef __GLIBC__
    SYS_tkill, /* any thread of anybody; musl has no other way to signal a thread of its own */
#endif
    /* another identity */
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_setgroups,
    SYS_capset,
    SYS_personality,
    /* another view of the system */
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_setns,
    SYS_unshare,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_mknodat,
    SYS_fanotify_init,
    SYS_fanotify_mark,
    /* the kernel itself */
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_io_setup,
    SYS_io_submit,
    SYS_io_cancel,
    SYS_io_getevents,
    SYS_io_destroy,
    SYS_lookup_dcookie,
    SYS_nfsservctl,
    SYS_remap_file_pages,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_mbind,
    SYS_set_mempolicy,
    /* memory and queues shared with others */
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_semget,
    SYS_semop,
    SYS_semctl,
    SYS_semtimedop,
    SYS_msgget,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_mq_open,
    SYS_mq_unlink,
    /* the whole machine */
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_syslog,
    SYS_vhangup,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#if defined(__x86_64__)
    SYS_fork,
    SYS_vfork,
    SYS_mknod,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
    SYS_uselib,
    SYS_ustat,
    SYS_sysfs,
    SYS_create_module,
    SYS__sysctl,
#endif
};

/* From this number on both machines have the same calls, and programs have to do without (ENOSYS) where they
 * are not known yet. Only these are let through; io_uring, pidfd_*, process_madvise, the mount calls and
 * clone3, whose flags a filter cannot see, are not, nor is what does not exist today. */
enum { FIRST_OPTIONAL = 424 };
static const uint32_t optional_calls[] = {
    436, /* close_range */
    437, /* openat2 */
    439, /* faccessat2 */
    441, /* epoll_pwait2 */
    449, /* futex_waitv */
    452, /* fchmodat2 */
    454, /* futex_wake */
    455, /* futex_wait */
    456, /* futex_requeue */
};

/* Calls that depend on one argument: `values` are those that are let through, or those that are not. */
struct argument_rule {
    uint32_t call, argument, count, values[4];
    uint16_t error, values_are_refused;
};

enum {
    REFUSED = sizeof refused_calls / sizeof *refused_calls,
    OPTIONAL = sizeof optional_calls / sizeof *optional_calls,
    PROGRAM_MAX = REFUSED + OPTIONAL + 96,
    CLONE_NEW_ANY = 0x7e020080
};
_Static_assert(REFUSED < 256 && OPTIONAL < 256, "jump distances are one byte");

struct program {
    unsigned short length;
    struct sock_filter steps[PROGRAM_MAX];
};

static void load(struct program *program, size_t offset) {
    program->steps[program->length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset);
}

/* Goes on `yes` or `no` steps further than to the next. */
static void test(struct program *program, uint16_t comparison, uint32_t value, size_t yes, size_t no) {
    program->steps[program->length++] = (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | BPF_K | comparison),
                                                                     value, (uint8_t)yes, (uint8_t)no);
}

static void answer(struct program *program, uint32_t result) {
    program->steps[program->length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, result);
}

/* One `wanted` result when the loaded word is in the list, the `other` when it is not. */
static void answer_by_list(struct program *program, const uint32_t *list, size_t count, uint32_t wanted,
                           uint32_t other) {
    for (size_t i = 0; i < count; i++)
        test(program, BPF_JEQ, list[i], count - i, 0);
    answer(program, other);
    answer(program, wanted);
}

/* Both machines are little-endian, and every argument that is looked at is an int or, for clone, has nothing
 * in its upper half. */
static size_t argument(uint32_t index) {
    return offsetof(struct seccomp_data, args) + index * sizeof(uint64_t);
}

static void write_program(struct program *program, uint32_t own_pid) {
    const uint32_t refuse = SECCOMP_RET_ERRNO | EPERM, unknown = SECCOMP_RET_ERRNO | ENOSYS;
    const struct argument_rule rules[] = {
        {SYS_kill, 0, 1, {own_pid}, EPERM, 0},
        {SYS_tgkill, 0, 1, {own_pid}, EPERM, 0},
        {SYS_rt_sigqueueinfo, 0, 1, {own_pid}, EPERM, 0},
        {SYS_rt_tgsigqueueinfo, 0, 1, {own_pid}, EPERM, 0},
        {SYS_prlimit64, 0, 2, {0, own_pid}, EPERM, 0},
        {SYS_socket, 0, 4, {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}, EAFNOSUPPORT, 0},
        /* Typing into the terminal that we were started from. */
        {SYS_ioctl, 1, 2, {TIOCSTI, 0x541c /* TIOCLINUX */}, EPERM, 1},
    };
    program->length = 0;
    load(program, offsetof(struct seccomp_data, arch));
    test(program, BPF_JEQ, NATIVE_ARCH, 1, 0);
    answer(program, unknown);
    load(program, offsetof(struct seccomp_data, nr));
    test(program, BPF_JGE, FIRST_FOREIGN_NUMBER, 0, 1);
    answer(program, unknown);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const struct argument_rule *rule = &rules[i];
        const uint32_t error = SECCOMP_RET_ERRNO | rule->error;
        test(program, BPF_JEQ, rule->call, 0, rule->count + 3);
        load(program, argument(rule->argument));
        answer_by_list(program, rule->values, rule->count,
                       rule->values_are_refused ? error : SECCOMP_RET_ALLOW,
                       rule->values_are_refused ? SECCOMP_RET_ALLOW : error);
    }
    /* Threads, and nothing but threads. */
    test(program, BPF_JEQ, SYS_clone, 0, 5);
    load(program, argument(0));
    test(program, BPF_JSET, CLONE_NEW_ANY, 1, 0);
    test(program, BPF_JSET, CLONE_THREAD, 1, 0);
    answer(program, refuse);
    answer(program, SECCOMP_RET_ALLOW);
    test(program, BPF_JGE, FIRST_OPTIONAL, 0, OPTIONAL + 2);
    answer_by_list(program, optional_calls, OPTIONAL, SECCOMP_RET_ALLOW, unknown);
    answer_by_list(program, refused_calls, REFUSED, refuse, SECCOMP_RET_ALLOW);
}

/* no_new_privs and the filter on every thread at once (SECCOMP_FILTER_FLAG_TSYNC, seccomp(2)): prctl alone
 * would set no_new_privs on this thread only. Where a thread cannot follow, the call answers that thread's
 * number. */
int sb_confine(void) {
    struct program program;
    write_program(&program, (uint32_t)getpid());
    struct sock_fprog filter = {.len = program.length, .filter = program.steps};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    long status = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    return status < 0 ? -errno : status > 0 ? -ESRCH : 0;
}
