/* identity.c - giving up what we no longer need, on every thread, and proving it. */
#define _GNU_SOURCE
#include "internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

/* Numbers as people write them: all digits, and within a uid_t. (uid_t)-1 means "no change" to the kernel. */
static int parse_id(const char *text, uint32_t *id) {
    if (text[0] == 0 || strspn(text, "0123456789") != strlen(text) || strlen(text) > 10)
        return 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (value >= UINT32_MAX)
        return 0;
    *id = (uint32_t)value;
    return 1;
}

/* 1: found, with its primary group. 0: a number that has no entry; the group is then 65534, the one that owns
 * nothing. -ENOENT: neither. A user whose name is all digits is found by that name first, as chown(1) does.
 */
int sb_lookup_user(const char *name_or_uid, uint32_t uid_gid[2]) {
    struct passwd entry, *found = NULL;
    char buffer[16384];
    uint32_t uid;
    int error = getpwnam_r(name_or_uid, &entry, buffer, sizeof buffer, &found);
    if (!found && parse_id(name_or_uid, &uid)) {
        error = getpwuid_r(uid, &entry, buffer, sizeof buffer, &found);
        if (!found) {
            uid_gid[0] = uid;
            uid_gid[1] = 65534;
            return 0;
        }
    }
    if (!found)
        return error && error != ESRCH ? -error : -ENOENT;
    uid_gid[0] = entry.pw_uid;
    uid_gid[1] = entry.pw_gid;
    return 1;
}

/* 1: found. 0: a number that has no entry. -ENOENT: neither. */
int sb_lookup_group(const char *name_or_gid, uint32_t gid[1]) {
    struct group entry, *found = NULL;
    char buffer[65536];
    int error = getgrnam_r(name_or_gid, &entry, buffer, sizeof buffer, &found);
    if (found) {
        gid[0] = entry.gr_gid;
        return 1;
    }
    if (parse_id(name_or_gid, gid))
        return 0;
    return error && error != ESRCH ? -error : -ENOENT;
}

static int get_capabilities(struct __user_cap_data_struct data[2]) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, data) < 0 ? -errno : 0;
}

/* 1 when this thread holds any capability. */
int sb_has_capabilities(void) {
    struct __user_cap_data_struct data[2] = {0};
    int status = get_capabilities(data);
    return status < 0 ? status : (data[0].permitted | data[1].permitted) != 0;
}

/* Async-signal-safe, and plain system calls: it runs in threads that know nothing of us. */
static void drop_capabilities_here(int signal) {
    (void)signal;
    int saved = errno;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    syscall(SYS_capset, &header, none);
    errno = saved;
}

/* Calls act on the files of each thread's status below an open /proc/self/task: after a chroot it has no
 * name. */
typedef int thread_action(int tid, const char *status, void *argument);

static int for_each_thread(int tasks, thread_action *action, void *argument) {
    int copy = openat(tasks, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder)
        return -errno;
    int result = 0;
    for (struct dirent *entry; !result && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        char path[64], status[4096];
        snprintf(path, sizeof path, "%.32s/status", entry->d_name);
        SB_CLOSE int fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, status, sizeof status - 1);
        if (length <= 0) /* a thread that has ended meanwhile has nothing to drop */
            continue;
        status[length] = 0;
        result = action(atoi(entry->d_name), status, argument);
    }
    closedir(folder);
    return result;
}

static const char *field(const char *status, const char *name) {
    const char *at = strstr(status, name);
    return at ? at + strlen(name) : "";
}

static int holds_capability(const char *status) {
    static const char *const sets[] = {"\nCapInh:\t", "\nCapPrm:\t", "\nCapEff:\t", "\nCapAmb:\t"};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strtoull(field(status, sets[i]), NULL, 16) != 0)
            return 1;
    return 0;
}

static int holds_net_admin_alone(const char *status) {
    return strtoull(field(status, "\nCapInh:\t"), NULL, 16) == 0 &&
           strtoull(field(status, "\nCapAmb:\t"), NULL, 16) == 0 &&
           strtoull(field(status, "\nCapPrm:\t"), NULL, 16) == 1u << CAP_NET_ADMIN;
}

struct drop {
    int pending;
    int except; /* this thread is left alone; 0: none is */
};

/* Bun's allocator has a thread that blocks every signal but those that a fault of its own would raise, of
 * which this is one. Nobody else sends it: what our system call filter refuses is answered by an error. */
enum { DROP_SIGNAL = SIGSYS };

static int signal_if_capable(int tid, const char *status, void *argument) {
    struct drop *drop = argument;
    int asked = strtoull(field(status, "\nSigPnd:\t"), NULL, 16) >> (DROP_SIGNAL - 1) & 1;
    if (tid == drop->except || (!asked && !holds_capability(status)))
        return 0;
    drop->pending = 1;
    if (!asked)
        syscall(SYS_tgkill, getpid(), tid, DROP_SIGNAL);
    return 0;
}

/* What a thread needs that binds sockets to addresses of others (IPV6_TRANSPARENT), and nothing else. */
static int keep_net_admin_here(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct kept[2] = {
        {.effective = 1u << CAP_NET_ADMIN, .permitted = 1u << CAP_NET_ADMIN}};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &header, kept) < 0 ? -errno : 0;
}

/* capset(2) reaches the calling thread only, so every thread is asked to do it itself, until none has any
 * left, nor the signal still to come, which would end us once its handler is gone. A thread that does not
 * answer within two seconds makes the whole fail. */
static int drop_capabilities(int tasks, int keep_net_admin) {
    struct sigaction action = {.sa_handler = drop_capabilities_here, .sa_flags = SA_RESTART}, before;
    sigfillset(&action.sa_mask);
    if (sigaction(DROP_SIGNAL, &action, &before) < 0)
        return -errno;
    struct drop drop = {.pending = 1, .except = keep_net_admin ? (int)syscall(SYS_gettid) : 0};
    int status = keep_net_admin ? keep_net_admin_here() : 0;
    for (int tries = 0; drop.pending && !status && tries < 400; tries++) {
        drop.pending = 0;
        status = for_each_thread(tasks, signal_if_capable, &drop);
        if (drop.pending)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    sigaction(DROP_SIGNAL, &before, NULL);
    return status ? status : drop.pending ? -EPERM : 0;
}

static int all_equal(const char *list, int count, uint32_t id) {
    char *end;
    for (int i = 0; i < count; i++, list = end)
        if (strtoul(list, &end, 10) != id || end == list)
            return 0;
    return 1;
}

static int has_group(const struct sb_identity *identity, unsigned long group) {
    for (uint32_t i = 0; i < identity->group_count; i++)
        if (identity->groups[i] == group)
            return 1;
    return 0;
}

static int groups_within(const char *list, const struct sb_identity *identity) {
    while (*list && *list != '\n') {
        char *end;
        unsigned long group = strtoul(list, &end, 10);
        if (end == list)
            break;
        if (!has_group(identity, group) && group != getegid())
            return 0;
        for (list = end; *list == ' ';)
            list++;
    }
    return 1;
}

static int verify_thread(int tid, const char *status, void *argument) {
    const struct sb_identity *wanted = argument;
    int right = 1;
    if (wanted->flags & SB_SET_UID) /* real, effective, saved, file system */
        right = right && all_equal(field(status, "\nUid:\t"), 4, wanted->uid);
    if (wanted->flags & SB_SET_GID)
        right = right && all_equal(field(status, "\nGid:\t"), 4, wanted->gid);
    if (wanted->flags & SB_SET_GROUPS)
        right = right && groups_within(field(status, "\nGroups:\t"), wanted);
    if (wanted->flags & SB_DROP_CAPS)
        right = right && (wanted->flags & SB_KEEP_NET_ADMIN && tid == (int)syscall(SYS_gettid)
                              ? holds_net_admin_alone(status)
                              : !holds_capability(status));
    if (wanted->flags & SB_CONFINE)
        right = right && all_equal(field(status, "\nNoNewPrivs:\t"), 1, 1) &&
                all_equal(field(status, "\nSeccomp:\t"), 1, SECCOMP_MODE_FILTER);
    return right ? 0 : -EPERM;
}

/* Whether what is asked for is so already, the group that everybody has anyway apart. */
static int has_exactly(const struct sb_identity *identity) {
    gid_t held[sizeof identity->groups / sizeof *identity->groups + 1];
    int count = getgroups(sizeof held / sizeof *held, held);
    uint32_t found = 0;
    for (int i = 0; i < count; i++) {
        if (has_group(identity, held[i]))
            found++;
        else if (held[i] != getegid())
            return 0;
    }
    return count >= 0 && found >= identity->group_count;
}

static int set_groups(const struct sb_identity *identity) {
    gid_t groups[sizeof identity->groups / sizeof *identity->groups];
    for (uint32_t i = 0; i < identity->group_count; i++)
        groups[i] = identity->groups[i];
    if (setgroups(identity->group_count, groups) == 0)
        return 0;
    /* Who runs as somebody may ask to run as that one: a service manager came before us. */
    return errno == EPERM && has_exactly(identity) ? 0 : -EPERM;
}

static int take_step(struct sb_identity *identity, const char *chroot_or_null, int tasks) {
    uint32_t flags = identity->flags;
    switch (identity->step) {
    case SB_CHROOT:
        return chroot_or_null && (chroot(chroot_or_null) < 0 || chdir("/") < 0) ? -errno : 0;
    case SB_GROUPS:
        return flags & SB_SET_GROUPS ? set_groups(identity) : 0;
    case SB_GID:
        return flags & SB_SET_GID && setresgid(identity->gid, identity->gid, identity->gid) < 0 ? -errno : 0;
    case SB_UID:
        /* This thread keeps what it may keep across the change of user, until the next step. */
        if (flags & SB_KEEP_NET_ADMIN && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
            return -errno;
        return flags & SB_SET_UID && setresuid(identity->uid, identity->uid, identity->uid) < 0 ? -errno : 0;
    case SB_CAPS:
        return flags & SB_DROP_CAPS ? drop_capabilities(tasks, !!(flags & SB_KEEP_NET_ADMIN)) : 0;
    case SB_FILTER:
        return flags & SB_CONFINE ? sb_confine() : 0;
    case SB_VERIFY:
        return for_each_thread(tasks, verify_thread, identity);
    default:
        return -EINVAL;
    }
}

/* Does what identity->flags ask for, in the order of the steps, and reads back from /proc that every thread
 * has it. On an error identity->step is the step that failed, and the process must end: it is in between. */
int sb_assume_identity(struct sb_identity *identity, const char *chroot_or_null) {
    identity->step = SB_OPEN_PROC;
    if (identity->group_count > sizeof identity->groups / sizeof *identity->groups)
        return -EINVAL;
    SB_CLOSE int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tasks < 0)
        return -errno;
    for (identity->step = SB_CHROOT; identity->step <= SB_VERIFY; identity->step++) {
        int status = take_step(identity, chroot_or_null, tasks);
        if (status)
            return status;
    }
    return 0;
}
