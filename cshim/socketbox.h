/* socketbox.h - everything that TypeScript may ask of the kernel through us, on one screen.
 *
 * Every function returns a number >= 0, or -errno. None of them logs, and none keeps state between calls,
 * except sb_signal_fd (signal handlers are a property of the process). Descriptors returned are
 * close-on-exec. src/native/symbols.ts names the same functions, src/native/structs.ts the same structs; a
 * test holds them equal. */
#ifndef SOCKETBOX_H
#define SOCKETBOX_H

#include <stdint.h>

#define SB_EXPORT __attribute__((visibility("default")))

/* One connection: addresses in network byte order (IPv4 as ::ffff:a.b.c.d), ports in host order.
 * fd is the descriptor, or -errno where this connection was lost before it could be had. */
struct sb_flow {
    uint8_t local[16], remote[16];
    uint16_t local_port, remote_port;
    int32_t fd;
};

struct sb_event { /* generation tells an event for a closed descriptor from one for its successor */
    uint32_t events;
    int32_t fd;
    uint32_t generation;
};

struct sb_identity { /* what sb_assume_identity shall make of this process; step says how far it came */
    uint32_t flags;  /* enum sb_identity_flag */
    uint32_t uid, gid, group_count;
    uint32_t groups[64];
    uint32_t step; /* enum sb_identity_step */
};
enum sb_identity_flag {
    SB_SET_UID = 1,
    SB_SET_GID = 2,
    SB_SET_GROUPS = 4,
    SB_DROP_CAPS = 8,
    SB_CONFINE = 16,
    SB_KEEP_NET_ADMIN = 32 /* of the calling thread, when SB_DROP_CAPS takes all others */
};
enum sb_identity_step { SB_OPEN_PROC, SB_CHROOT, SB_GROUPS, SB_GID, SB_UID, SB_CAPS, SB_FILTER, SB_VERIFY };

struct sb_child { /* how a program is started; what it does not name is as in a freshly booted process */
    int32_t stdin_fd, stdout_fd; /* -1: as ours */
    uint64_t ignored_signals;    /* bit N-1: signal N stays ignored; all others take their default */
    uint64_t nofile;             /* soft RLIMIT_NOFILE; 0: leave */
    uint32_t new_session;        /* setsid(2) */
    uint32_t no_new_privs;       /* PR_SET_NO_NEW_PRIVS */
};

/* What a bind would do under the preload library (cshim/preload/decide.h). */
struct sb_decision {
    uint32_t outcome; /* enum sb_outcome */
    uint32_t error;   /* errno, with SB_REFUSED */
    uint32_t scope;   /* with SB_LINK_LOCAL */
    char text[256];   /* the socket's path */
};
enum sb_outcome { SB_DIRECT, SB_RECEIVER, SB_STREAM, SB_LINK_LOCAL, SB_REFUSED };

struct sb_way { /* one direction of a relayed connection */
    int32_t from, to;
    int32_t pipe[3]; /* where what `to` has not taken yet waits: reading end, writing end, pages; -1: none */
    uint32_t held;   /* bytes in it */
    int32_t urgent;  /* an urgent byte that goes first; -1: none */
    uint32_t state;  /* enum sb_way_state */
    uint32_t blocked, seen; /* `to` takes no more; what epoll has told of `from` so far */
    uint32_t large;         /* there was more than a buffer holds: better spliced than copied */
    uint64_t moved;         /* bytes that `to` has taken */
};
enum sb_way_state {
    SB_WAY_OPEN,
    SB_WAY_DONE, /* the end has been read, and passed on */
    SB_WAY_BROKEN
};
struct sb_relay {           /* a slot of the table of relayed connections */
    struct sb_way up, down; /* client to target, and back */
    int32_t error, culprit; /* the first error, and the socket that had it */
    uint32_t stage;         /* enum sb_relay_stage */
    uint32_t told;          /* enum sb_relay_news that nobody has looked at yet */
};
enum sb_relay_stage {
    SB_RELAY_FREE,
    SB_RELAY_WAITING,    /* for a target: the client alone is watched */
    SB_RELAY_CONNECTING, /* moves as soon as the target is reached */
    SB_RELAY_HELD,       /* the same, but waits for sb_relay_move */
    SB_RELAY_MOVING,
    SB_RELAY_OVER
};
enum sb_join_flag { SB_HOLD = 1, SB_UNIX_TARGET = 2 };
enum sb_relay_news {
    SB_NEWS_CLIENT = 1, /* something of the client, before a target was reached */
    SB_NEWS_REACHED = 2,
    SB_NEWS_FAILED = 4, /* the target was not: error says why */
    SB_NEWS_OVER = 8
};
struct sb_pipes {        /* of all relayed connections of one thread */
    int32_t count;       /* of idle ones */
    int32_t open, limit; /* how many there are, and may be */
    int32_t idle[64][3];
};

struct sb_answer { /* of sb_resolve; IPv4 addresses are mapped */
    uint32_t token;
    int32_t family;
    uint32_t count;
    uint8_t addresses[16][16];
    uint32_t scopes[16];
};

enum sb_accept_flag { SB_CLEAR_TRANSPARENT = 1, SB_NONBLOCKING = 2 };
enum sb_bind_flag { SB_TRANSPARENT = 1, SB_FREEBIND = 2, SB_REUSE_ADDRESS = 4, SB_REUSE_PORT = 8 };
enum sb_struct { SB_FLOW, SB_EVENT, SB_IDENTITY, SB_CHILD, SB_DECISION, SB_RELAY, SB_PIPES, SB_ANSWER };

/* about.c */
SB_EXPORT int sb_sizeof(int which);
SB_EXPORT int sb_flow_of(int fd, struct sb_flow *flow);
SB_EXPORT int sb_socket_kind(int fd, int32_t kind[4]); /* domain, type, protocol, accepting */
SB_EXPORT int sb_unix_name(int fd, char name[108]);
SB_EXPORT int sb_peer(int fd, int32_t pid_uid_gid[3]);

/* listen.c */
SB_EXPORT int sb_bind_inet(const uint8_t address[16], uint32_t scope, uint16_t port, uint32_t flags,
                           const char *device, const char *netns);
SB_EXPORT int sb_listen(int fd, int backlog);
SB_EXPORT int sb_refuse_new(int listener);
SB_EXPORT int sb_admit_new(int listener);
SB_EXPORT int sb_bind_unix(const char *path, int type, uint32_t mode);
SB_EXPORT int sb_own_unix(const char *path, uint32_t mode, uint32_t uid, uint32_t gid);
SB_EXPORT int sb_unbind_unix(const char *path, uint64_t device, uint64_t inode);
SB_EXPORT int sb_connect_unix(const char *path, int type);
SB_EXPORT int sb_inode(const char *path, uint64_t device_inode[2]);

/* accept.c */
SB_EXPORT int sb_accept(int listener, struct sb_flow *flows, int max, int flags);
SB_EXPORT int sb_clear_transparent(int fd);

/* handoff.c: all control messages of the project */
SB_EXPORT int sb_send_fds(int socket, const int32_t *fds, int count, const void *payload, int length);
#define SB_ANYBODY UINT32_MAX
SB_EXPORT int sb_want_senders(int socket);
SB_EXPORT int sb_receive_fds(int socket, struct sb_flow *flows, int max, int strict, uint32_t from_uid,
                             void *payloads_or_null);
SB_EXPORT int sb_receive_message(int socket, void *buffer, int size, int32_t fd[1]);

/* epoll.c */
SB_EXPORT int sb_epoll_create(void);
SB_EXPORT int sb_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint32_t generation);
SB_EXPORT int sb_epoll_wait(int epoll, struct sb_event *events, int max, int timeout_ms);
SB_EXPORT int sb_monotonic(uint64_t microseconds[1]);
SB_EXPORT int sb_eventfd(void);
SB_EXPORT int sb_eventfd_add(int fd);
SB_EXPORT int sb_eventfd_take(int fd);
SB_EXPORT int sb_timer(void);
SB_EXPORT int sb_timer_set(int fd, int ms);
SB_EXPORT int sb_wake_patiently(int patient);

/* descriptor.c */
SB_EXPORT int sb_close(int fd);
SB_EXPORT int sb_reset(int fd);
SB_EXPORT int sb_close_reset(int32_t *fds, int count);
SB_EXPORT int sb_duplicate(int fd);
SB_EXPORT int sb_redirect(int from, int to);
SB_EXPORT int sb_read(int fd, void *buffer, int length);
SB_EXPORT int sb_peek(int fd, void *buffer, int length);
SB_EXPORT int sb_write(int fd, const void *buffer, int length);
SB_EXPORT int sb_wait_writable(int fd, int timeout_ms);
SB_EXPORT int sb_set_inheritable(int fd, int inheritable);
SB_EXPORT int sb_set_nonblocking(int fd, int nonblocking);
SB_EXPORT int sb_shutdown(int fd, int how);
SB_EXPORT int sb_raise_nofile(void);

/* identity.c */
SB_EXPORT int sb_lookup_user(const char *name_or_uid, uint32_t uid_gid[2]);
SB_EXPORT int sb_lookup_group(const char *name_or_gid, uint32_t gid[1]);
SB_EXPORT int sb_has_capabilities(void);
SB_EXPORT int sb_assume_identity(struct sb_identity *identity, const char *chroot_or_null);

/* spawn.c: argv and envp are blocks of NUL-terminated strings */
SB_EXPORT int sb_spawn(const char *program, const char *argv, int argc, const char *envp, int envc,
                       const struct sb_child *child, int32_t pidfd[1]);
SB_EXPORT int sb_exec(const char *program, const char *argv, int argc, const char *envp, int envc,
                      const struct sb_child *child);
SB_EXPORT int sb_wait(int pidfd, int32_t code_status[2]);

/* connect.c */
SB_EXPORT int sb_connect_inet(const uint8_t address[16], uint32_t scope, uint16_t port, const uint8_t *source,
                              int transparent, int sockets);
SB_EXPORT int sb_connect_result(int fd);
SB_EXPORT int sb_netns_sockets(const char *netns);
SB_EXPORT int sb_interface_index(const char *name);
SB_EXPORT int sb_resolve(const char *name, int family, uint32_t token, int answers);

/* splice.c */
SB_EXPORT int sb_pipe(int32_t pipe[3], int size);
SB_EXPORT int sb_pipes_close(struct sb_pipes *pipes);

/* relay.c */
SB_EXPORT int sb_relay_open(int epoll, struct sb_relay *relays, int slot, int client, int nonblocking);
SB_EXPORT int sb_relay_join(int epoll, struct sb_relay *relays, int slot, int target, int flags);
SB_EXPORT int sb_relay_leave(struct sb_relay *relays, int slot);
SB_EXPORT int sb_relay_wait(int epoll, struct sb_relay *relays, struct sb_pipes *pipes,
                            struct sb_event *events, int max, uint32_t *told);
SB_EXPORT int sb_relay_move(int epoll, struct sb_relay *relays, int slot, struct sb_pipes *pipes, int error);
SB_EXPORT int sb_relay_close(int epoll, struct sb_relay *relays, int slot, struct sb_pipes *pipes, int reset,
                             int shared);

/* signal.c */
SB_EXPORT int sb_signal_fd(uint64_t signals);

/* program.c: socketbox-preload, before it becomes the program */
SB_EXPORT int sb_decide_bind(const char *envp, int envc, const uint8_t address[16], int inet6, uint32_t scope,
                             uint16_t port, struct sb_decision *told);
SB_EXPORT int sb_has_file_capabilities(const char *path);
SB_EXPORT int sb_can_map(const char *path);
SB_EXPORT int sb_refuse_io_uring(void);

#endif
