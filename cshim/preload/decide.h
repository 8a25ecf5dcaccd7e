/* decide.h - what shall become of an address that the program binds or connects to. Pure: an environment and
 * an address in, a decision out; no system call, no state. */
#ifndef SOCKETBOX_PRELOAD_DECIDE_H
#define SOCKETBOX_PRELOAD_DECIDE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    PATH_ROOM = 4096,
    SOCKET_PATH_ROOM = 108,
    TEMPLATE_ROOM = 160, /* a path with {port} in it may be longer than what comes of it */
    MAX_LISTED_PORTS = 30,
    MAX_RULES = 128
};

/* Takes port 0 never, otherwise odd ports below odd, even ports below even, and those listed. */
struct port_filter {
    uint32_t odd, even;
    uint16_t listed[MAX_LISTED_PORTS];
    uint8_t count;
};

enum action { ACTION_DIRECT, ACTION_RECEIVER, ACTION_STREAM, ACTION_DENY };

/* One line of SOCKETBOX_MAP. The command socketbox-preload writes them; people do not. The variable is a list
 * of lines, each ended by a newline; the first line that matches counts; an address that no line matches is
 * denied with EACCES, so that a list cut short never puts a daemon on the network.
 *
 *     ADDRESS FIRST LAST ACTION ARGUMENT
 *
 * ADDRESS   `*` for every address, or 32 lower-case hex digits: the address bound, IPv4 as ::ffff:a.b.c.d.
 * The wildcards :: and 0.0.0.0 are addresses like others here: they match themselves and `*`. FIRST LAST  the
 * first and the last port, decimal. Port 0 (bind chooses) is a port like others. ACTION ARGUMENT `r PATH`
 * receive connections at this Unix datagram socket; `s PATH` listen at this Unix stream socket; PATH is the
 * rest of the line, `@NAME` is abstract, every `{port}` in it becomes the port, decimal. `d ERRNO` refuse
 * with this error number. `x` without argument: the real bind. */
struct rule {
    bool any_address;
    uint8_t address[16];
    uint16_t first, last;
    enum action action;
    int error;
    char path[TEMPLATE_ROOM];
};

/* The environment, read once. An empty string is a variable that is not set. */
struct environment {
    char root[PATH_ROOM], root2[PATH_ROOM]; /* SKBOX_DIRECTORY_ROOT, SKBOX_DIRECTORY_ROOT2 */
    struct port_filter ipv6, ipv4, ipv6_wildcard, ipv4_wildcard;
    uint8_t connect;   /* SKBOX_ENABLE_CONNECT without its b: 0, 1, 2 */
    bool connect_ipv4; /* ... with it */
    bool stealth, clear_scope, accept_stream, block_unbound, yield;
    uint8_t protection, strict;
    bool follow;                        /* SOCKETBOX_FOLLOW: stay with programs that are executed */
    uint32_t stand_in, stand_in_prefix; /* SOCKETBOX_STAND_IN, the address in host order */
    char log[PATH_ROOM];                /* SOCKETBOX_LOG */
    bool mapped;
    uint16_t rule_count;
    struct rule rules[MAX_RULES];
};

/* Reads NULL-terminated NAME=VALUE strings. NULL: all is well; otherwise the name of the variable that cannot
 * be read, and *expected says what it should hold. */
const char *environment_read(struct environment *environment, char *const *texts, const char **expected);
/* Is this NAME=VALUE one of the variables of this library? */
bool environment_knows(const char *text);

enum outcome {
    OUTCOME_DIRECT,     /* the real call */
    OUTCOME_RECEIVER,   /* path: a Unix datagram socket */
    OUTCOME_STREAM,     /* path: a Unix stream socket */
    OUTCOME_LINK_LOCAL, /* the real call, with link_local instead */
    OUTCOME_REFUSE      /* no call: error */
};

struct decision {
    enum outcome outcome;
    int error;
    struct sockaddr_in6 link_local;
    long record; /* >= 0: path is a directory file, and the socket's path is this record of it; -1: not so */
    char path[PATH_ROOM];
};

/* invented_port stands for port 0 in paths. */
void decide_bind(const struct environment *environment, const struct sockaddr *address, socklen_t length,
                 uint16_t invented_port, struct decision *decision);
void decide_connect(const struct environment *environment, const struct sockaddr *address, socklen_t length,
                    struct decision *decision);

/* A directory file is an array of records; a path in it may hold the port as _@SB_. */
enum { RECORD_SIZE = 108, RECORD_STRIDE = 128 };
/* 0 or -errno: -ERANGE for an empty record, which is one past the end of the file. */
int decide_record(const char *record, size_t length, uint16_t port, char path[SOCKET_PATH_ROOM]);

#endif
