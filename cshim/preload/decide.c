/* decide.c - the tables of addresses: the original's, and SOCKETBOX_MAP. */
#define _GNU_SOURCE
#include "decide.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* An address as the tables speak of it. */
struct place {
    sa_family_t family;
    uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint16_t port;
    uint32_t scope;
};

/* The kernel takes an IPv6 address without its scope, as it once was (RFC 2133). */
enum { SHORTEST_IN6 = offsetof(struct sockaddr_in6, sin6_scope_id) };

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool read_place(const struct sockaddr *address, socklen_t length, struct place *place) {
    memset(place, 0, sizeof *place);
    if (length < sizeof address->sa_family)
        return false;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    sa_family_t family;
    memcpy(&family, address, sizeof family);
    if (family == AF_INET6 && length >= SHORTEST_IN6) {
        memset(&in6, 0, sizeof in6);
        memcpy(&in6, address, length < sizeof in6 ? length : sizeof in6);
        memcpy(place->bytes, &in6.sin6_addr, 16);
        place->port = ntohs(in6.sin6_port);
        place->scope = in6.sin6_scope_id;
    } else if ((family == AF_INET || family == AF_UNSPEC) && length >= sizeof in) {
        memcpy(&in, address, sizeof in);
        /* bind(2) takes AF_UNSPEC for AF_INET where the address is the wildcard. */
        if (family == AF_UNSPEC && in.sin_addr.s_addr)
            return false;
        family = AF_INET;
        memcpy(place->bytes, mapped_prefix, 12);
        memcpy(place->bytes + 12, &in.sin_addr, 4);
        place->port = ntohs(in.sin_port);
    } else {
        return false;
    }
    place->family = family;
    return true;
}

static bool taken(const struct port_filter *filter, uint16_t port) {
    if (port == 0)
        return false;
    if (port < (port % 2 ? filter->odd : filter->even))
        return true;
    for (int i = 0; i < filter->count; i++)
        if (filter->listed[i] == port)
            return true;
    return false;
}

static void refuse(struct decision *decision, int error) {
    decision->outcome = OUTCOME_REFUSE;
    decision->error = error;
}

/* root/name becomes the socket's path. A mapping whose directory is not known is refused: a real bind would
 * put the daemon on the network. */
static void in_directory(const char *root, const char *name, enum outcome outcome,
                         struct decision *decision) {
    if (!*root) {
        refuse(decision, EADDRNOTAVAIL);
        return;
    }
    size_t room = decision->record < 0 ? SOCKET_PATH_ROOM : PATH_ROOM;
    int length = snprintf(decision->path, room, "%s/%s", root, name);
    if (length < 0 || (size_t)length >= room)
        refuse(decision, ENAMETOOLONG);
    else
        decision->outcome = outcome;
}

static unsigned group(const struct place *place, int index) {
    return (unsigned)place->bytes[2 * index] << 8 | place->bytes[2 * index + 1];
}

/* fe8f::M:Y:Z */
static void decide_fe8f(const struct environment *environment, const struct place *place,
                        struct decision *decision) {
    unsigned y = group(place, 6), z = group(place, 7);
    char name[64];
    switch (group(place, 5)) {
    case 0:
    case 1:
        decision->record = (long)z;
        snprintf(name, sizeof name, "skbox_dir_%05u", y);
        in_directory(environment->root, name, group(place, 5) ? OUTCOME_STREAM : OUTCOME_RECEIVER, decision);
        return;
    case 2:
    case 3:
        snprintf(name, sizeof name, "%05u/%05u_%05u", y, z, place->port);
        in_directory(environment->root2, name, group(place, 5) == 3 ? OUTCOME_STREAM : OUTCOME_RECEIVER,
                     decision);
        return;
    default:
        return;
    }
}

/* fe8f:1:S:S:i:i:i:i is fe80::i:i:i:i on the interface S:S, for programs that cannot be told a scope. */
static void decide_link_local(const struct place *place, struct decision *decision) {
    decision->outcome = OUTCOME_LINK_LOCAL;
    decision->link_local = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                                 .sin6_port = htons(place->port),
                                                 .sin6_scope_id = group(place, 2) << 16 | group(place, 3)};
    decision->link_local.sin6_addr.s6_addr[0] = 0xfe;
    decision->link_local.sin6_addr.s6_addr[1] = 0x80;
    memcpy(decision->link_local.sin6_addr.s6_addr + 8, place->bytes + 8, 8);
}

static bool zeros(const uint8_t *bytes, int count) {
    for (int i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

static void decide_ipv6(const struct environment *environment, const struct place *place,
                        struct decision *decision) {
    char name[64];
    if (place->scope && !environment->clear_scope)
        return;
    if (group(place, 0) == 0xfe8f && group(place, 1) == 1) {
        decide_link_local(place, decision);
    } else if (group(place, 0) == 0xfe8f && zeros(place->bytes + 2, 8)) {
        if (taken(&environment->ipv6, place->port))
            decide_fe8f(environment, place, decision);
    } else if (zeros(place->bytes, 16) && taken(&environment->ipv6_wildcard, place->port)) {
        snprintf(name, sizeof name, "X0000/00000_%05u", place->port);
        in_directory(environment->root2, name, OUTCOME_RECEIVER, decision);
    }
}

/* 127.180.Y.Z and 127.181.Y.Z */
static void decide_127_180(const struct environment *environment, const struct place *place,
                           struct decision *decision) {
    const uint8_t *ip = place->bytes + 12;
    char name[64];
    snprintf(name, sizeof name, "X%04d/%05d_%05u", 4000 + ip[2], ip[3], place->port);
    in_directory(environment->root2, name, ip[1] == 180 ? OUTCOME_RECEIVER : OUTCOME_STREAM, decision);
}

static bool is_127_180(const struct place *place) {
    return place->bytes[12] == 127 && (place->bytes[13] & 0xfe) == 180;
}

static void decide_ipv4(const struct environment *environment, const struct place *place,
                        struct decision *decision) {
    char name[64];
    if (is_127_180(place)) {
        if (taken(&environment->ipv4, place->port))
            decide_127_180(environment, place, decision);
    } else if (zeros(place->bytes + 12, 4) && taken(&environment->ipv4_wildcard, place->port)) {
        snprintf(name, sizeof name, "X0004/00000_%05u", place->port);
        in_directory(environment->root2, name, OUTCOME_RECEIVER, decision);
    }
}

struct text {
    char *bytes; /* room for SOCKET_PATH_ROOM */
    size_t used;
};

static bool append(struct text *to, const char *bytes, size_t length) {
    if (to->used + length >= SOCKET_PATH_ROOM)
        return false;
    memcpy(to->bytes + to->used, bytes, length);
    to->used += length;
    to->bytes[to->used] = 0;
    return true;
}

/* Copies from into to, the first markers (at most times) replaced by number. False: it does not fit. */
static bool substitute(const char *from, const char *marker, const char *number, int times,
                       char to[SOCKET_PATH_ROOM]) {
    struct text text = {.bytes = to};
    for (const char *hit; times > 0 && (hit = strstr(from, marker)); times--) {
        if (!append(&text, from, (size_t)(hit - from)) || !append(&text, number, strlen(number)))
            return false;
        from = hit + strlen(marker);
    }
    return append(&text, from, strlen(from));
}

static void apply_rule(const struct rule *rule, uint16_t port, struct decision *decision) {
    char number[8];
    switch (rule->action) {
    case ACTION_DIRECT:
        return;
    case ACTION_DENY:
        refuse(decision, rule->error);
        return;
    case ACTION_RECEIVER:
    case ACTION_STREAM:
        snprintf(number, sizeof number, "%u", port);
        if (!substitute(rule->path, "{port}", number, SOCKET_PATH_ROOM, decision->path))
            refuse(decision, ENAMETOOLONG);
        else
            decision->outcome = rule->action == ACTION_STREAM ? OUTCOME_STREAM : OUTCOME_RECEIVER;
        return;
    }
}

static void decide_map(const struct environment *environment, const struct place *place,
                       uint16_t invented_port, struct decision *decision) {
    for (int i = 0; i < environment->rule_count; i++) {
        const struct rule *rule = &environment->rules[i];
        if (place->port < rule->first || place->port > rule->last)
            continue;
        if (!rule->any_address && memcmp(rule->address, place->bytes, 16) != 0)
            continue;
        apply_rule(rule, place->port ? place->port : invented_port, decision);
        return;
    }
    refuse(decision, EACCES);
}

static void begin(struct decision *decision) {
    decision->outcome = OUTCOME_DIRECT;
    decision->error = 0;
    decision->record = -1;
}

void decide_bind(const struct environment *environment, const struct sockaddr *address, socklen_t length,
                 uint16_t invented_port, struct decision *decision) {
    struct place place;
    begin(decision);
    if (!read_place(address, length, &place))
        return;
    if (place.family == AF_INET6)
        decide_ipv6(environment, &place, decision);
    else
        decide_ipv4(environment, &place, decision);
    if (decision->outcome == OUTCOME_DIRECT && environment->mapped)
        decide_map(environment, &place, invented_port, decision);
}

/* Connecting takes the same addresses as binding does, apart from wildcards. */
void decide_connect(const struct environment *environment, const struct sockaddr *address, socklen_t length,
                    struct decision *decision) {
    struct place place;
    begin(decision);
    if (!environment->connect || !read_place(address, length, &place))
        return;
    if (place.family == AF_INET6) {
        if (zeros(place.bytes, 16))
            return;
        decide_ipv6(environment, &place, decision);
    } else if (environment->connect_ipv4 && is_127_180(&place) && taken(&environment->ipv4, place.port)) {
        decide_127_180(environment, &place, decision);
    }
    /* 1 is for stream addresses only, and link-local addresses are told by their scope. */
    if (decision->outcome == OUTCOME_LINK_LOCAL ||
        (decision->outcome == OUTCOME_RECEIVER && environment->connect < 2))
        begin(decision);
}

int decide_record(const char *record, size_t length, uint16_t port, char path[SOCKET_PATH_ROOM]) {
    char text[RECORD_SIZE + 1], number[8];
    if (length > RECORD_SIZE)
        length = RECORD_SIZE;
    if (length == 0)
        return -ERANGE;
    memcpy(text, record, length);
    text[length] = 0;
    if (!*text)
        return -EADDRNOTAVAIL;
    snprintf(number, sizeof number, "%05u", port);
    return substitute(text, "_@SB_", number, 1, path) ? 0 : -ENAMETOOLONG;
}
