/* decide.c - the environment of a program, and an address that it binds: whatever they hold, what is decided
 * is whole, and a program that is mapped is on the network only where its map says so. */
#include "../decide.h"

#include "../../fuzz/fuzz.h"
#include "../present.h"

#include <errno.h>
#include <string.h>

enum { MOST_VARIABLES = 32, MOST_BYTES = 1 << 16 };

static struct environment environment;
static char block[MOST_BYTES + 1];
static char *variables[MOST_VARIABLES + 1];

static bool ends_within(const char *text, size_t room) {
    return memchr(text, 0, room) != NULL;
}

static void check_filter(const struct port_filter *filter) {
    PROMISE(filter->count <= MAX_LISTED_PORTS && filter->odd <= 65536 && filter->even <= 65536);
}

static void check_environment(void) {
    PROMISE(ends_within(environment.root, PATH_ROOM) && ends_within(environment.root2, PATH_ROOM) &&
            ends_within(environment.log, PATH_ROOM));
    check_filter(&environment.ipv6);
    check_filter(&environment.ipv4);
    check_filter(&environment.ipv6_wildcard);
    check_filter(&environment.ipv4_wildcard);
    PROMISE(environment.connect <= 2 && environment.protection <= 2 && environment.strict <= 2);
    PROMISE(environment.stand_in_prefix <= 30);
    PROMISE(environment.rule_count <= MAX_RULES && (environment.mapped || !environment.rule_count));
    for (int i = 0; i < environment.rule_count; i++) {
        const struct rule *rule = &environment.rules[i];
        PROMISE(rule->first <= rule->last && ends_within(rule->path, sizeof rule->path));
        PROMISE((rule->action == ACTION_DENY) == (rule->error != 0));
        PROMISE((rule->action == ACTION_RECEIVER || rule->action == ACTION_STREAM) == (*rule->path != 0));
    }
}

static void check_decision(const struct decision *decision) {
    switch (decision->outcome) {
    case OUTCOME_RECEIVER:
    case OUTCOME_STREAM:
        PROMISE(ends_within(decision->path, decision->record < 0 ? SOCKET_PATH_ROOM : PATH_ROOM));
        PROMISE(*decision->path);
        PROMISE(decision->record <= 0xffff);
        return;
    case OUTCOME_LINK_LOCAL:
        PROMISE(decision->link_local.sin6_family == AF_INET6);
        return;
    case OUTCOME_REFUSE:
        PROMISE(decision->error > 0 && decision->error <= 4095);
        return;
    case OUTCOME_DIRECT:
        return;
    }
    PROMISE(!"an outcome that there is");
}

/* A map is the last word on every address that a socket can be bound to. */
static bool may_be_direct(const struct sockaddr *address, socklen_t length) {
    socklen_t needed =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (!environment.mapped || length < needed ||
        (address->sa_family != AF_INET6 && address->sa_family != AF_INET))
        return true;
    for (int i = 0; i < environment.rule_count; i++)
        if (environment.rules[i].action == ACTION_DIRECT)
            return true;
    return false;
}

static void check_stand_in(const uint8_t bytes[16]) {
    union name name = {.in6 = {.sin6_family = AF_INET6}};
    bool stands_in;
    memcpy(&name.in6.sin6_addr, bytes, 16);
    PROMISE(present_as(&environment, AF_INET, &name, sizeof name.in6, &stands_in) == sizeof name.in);
    uint32_t hosts = UINT32_MAX >> environment.stand_in_prefix, address = ntohl(name.in.sin_addr.s_addr);
    PROMISE(!stands_in || ((address & hosts) != 0 && (address & hosts) != hosts));
    PROMISE(!stands_in || (address & ~hosts) == (environment.stand_in & ~hosts));
}

/* The rest of the input, as NAME=VALUE strings. */
static void read_variables(const struct input *input) {
    size_t size = input->left < MOST_BYTES ? input->left : MOST_BYTES;
    int count = 0;
    if (size)
        memcpy(block, input->at, size);
    block[size] = 0;
    for (size_t at = 0; at < size && count < MOST_VARIABLES; at += strlen(block + at) + 1)
        variables[count++] = block + at;
    variables[count] = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const sa_family_t families[] = {AF_INET6, AF_INET, AF_UNSPEC, AF_UNIX};
    static struct decision decision;
    struct input input = {.at = data, .left = size};
    struct sockaddr_in6 address = {0};
    char path[SOCKET_PATH_ROOM];
    const char *expected = NULL;
    uint8_t flags = next_byte(&input);
    socklen_t length = flags & 128 ? next_byte(&input) % (sizeof address + 1) : sizeof address;
    for (size_t i = 0; i < sizeof address; i++)
        ((uint8_t *)&address)[i] = next_byte(&input);
    address.sin6_family = families[flags % 4];
    if (flags & 64)
        address.sin6_scope_id = 0;
    uint16_t invented = (uint16_t)(next_byte(&input) << 8);
    invented |= next_byte(&input);
    read_variables(&input);
    const char *unreadable = environment_read(&environment, variables, &expected);
    if (unreadable) {
        PROMISE(expected && *expected && environment_knows(unreadable));
        return 0;
    }
    check_environment();
    /* Exactly as much memory as the caller says there is. */
    void *exact = malloc(length ? length : 1);
    PROMISE(exact);
    memcpy(exact, &address, length);
    decide_bind(&environment, exact, length, invented, &decision);
    check_decision(&decision);
    PROMISE(decision.outcome != OUTCOME_DIRECT || may_be_direct((void *)&address, length));
    decide_connect(&environment, exact, length, &decision);
    check_decision(&decision);
    PROMISE(environment.connect || decision.outcome == OUTCOME_DIRECT);
    free(exact);
    check_stand_in(address.sin6_addr.s6_addr);
    int status = decide_record(block, input.left, invented, path);
    PROMISE(status == 0 ? ends_within(path, sizeof path) && *path
                        : status == -ERANGE || status == -EADDRNOTAVAIL || status == -ENAMETOOLONG);
    return 0;
}
