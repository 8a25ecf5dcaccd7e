/* environment.c - the variables, read strictly: what cannot be read is an error, never a default. */
#include "decide.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>

/* A decimal number at *text, up to limit; *text moves behind it. */
static bool number(const char **text, uint32_t limit, uint32_t *value) {
    const char *at = *text;
    uint64_t sum = 0;
    while (*at >= '0' && *at <= '9' && sum <= limit)
        sum = sum * 10 + (uint32_t)(*at++ - '0');
    if (at == *text || sum > limit)
        return false;
    *text = at;
    *value = (uint32_t)sum;
    return true;
}

static bool skip(const char **text, char expected) {
    if (**text != expected)
        return false;
    ++*text;
    return true;
}

static bool read_digit(const char *text, char highest, uint8_t *value) {
    if (text[0] < '0' || text[0] > highest || text[1])
        return false;
    *value = (uint8_t)(text[0] - '0');
    return true;
}

static bool read_bool(const char *text, bool *value) {
    uint8_t digit;
    if (!read_digit(text, '1', &digit))
        return false;
    *value = digit;
    return true;
}

/* T_ODD,T_EVEN,PORT,PORT...; a single number stands for both thresholds. */
static bool read_filter(const char *text, struct port_filter *filter) {
    struct port_filter read = {0};
    if (!number(&text, 65536, &read.odd))
        return false;
    read.even = read.odd;
    if (*text && !(skip(&text, ',') && number(&text, 65536, &read.even)))
        return false;
    while (*text) {
        uint32_t port;
        if (read.count == MAX_LISTED_PORTS || !skip(&text, ',') || !number(&text, 65535, &port))
            return false;
        read.listed[read.count++] = (uint16_t)port;
    }
    *filter = read;
    return true;
}

static bool read_connect(const char *text, struct environment *environment) {
    environment->connect_ipv4 = *text == 'b';
    return read_digit(text + (*text == 'b'), '2', &environment->connect);
}

/* A.B.C.D/N, with at least two host bits: neither the first nor the last address stands for anybody. */
static bool read_stand_in(const char *text, struct environment *environment) {
    char address[INET_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    struct in_addr parsed;
    if (!slash || (size_t)(slash - text) >= sizeof address)
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = 0;
    text = slash + 1;
    if (inet_pton(AF_INET, address, &parsed) != 1 || !number(&text, 30, &environment->stand_in_prefix) ||
        *text)
        return false;
    environment->stand_in = ntohl(parsed.s_addr);
    return true;
}

static bool read_hex(const char **text, uint8_t bytes[16]) {
    for (int i = 0; i < 32; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = (*text)[i] ? strchr(digits, (*text)[i]) : NULL;
        if (!digit)
            return false;
        bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (digit - digits));
    }
    *text += 32;
    return true;
}

static bool read_action(const char *text, size_t length, struct rule *rule) {
    uint32_t error;
    const char *argument = text + 2;
    switch (*text) {
    case 'x':
        rule->action = ACTION_DIRECT;
        return length == 1;
    case 'd':
        rule->action = ACTION_DENY;
        if (length < 3 || text[1] != ' ' || !number(&argument, 4095, &error) || !error ||
            argument != text + length)
            return false;
        rule->error = (int)error;
        return true;
    case 'r':
    case 's':
        rule->action = *text == 'r' ? ACTION_RECEIVER : ACTION_STREAM;
        if (length < 3 || text[1] != ' ' || length - 2 >= sizeof rule->path)
            return false;
        memcpy(rule->path, argument, length - 2);
        return true;
    default:
        return false;
    }
}

/* One line of SOCKETBOX_MAP; *text moves behind its newline. */
static bool read_rule(const char **text, struct rule *rule) {
    uint32_t first, last;
    const char *end = strchr(*text, '\n');
    memset(rule, 0, sizeof *rule);
    rule->any_address = **text == '*';
    if (!end || !(rule->any_address ? skip(text, '*') : read_hex(text, rule->address)) || !skip(text, ' ') ||
        !number(text, 65535, &first) || !skip(text, ' ') || !number(text, 65535, &last) || !skip(text, ' '))
        return false;
    rule->first = (uint16_t)first;
    rule->last = (uint16_t)last;
    if (first > last || !read_action(*text, (size_t)(end - *text), rule))
        return false;
    *text = end + 1;
    return true;
}

static bool read_map(const char *text, struct environment *environment) {
    environment->mapped = true;
    environment->rule_count = 0;
    while (*text) {
        if (environment->rule_count == MAX_RULES ||
            !read_rule(&text, &environment->rules[environment->rule_count]))
            return false;
        environment->rule_count++;
    }
    return true;
}

static bool read_path(const char *text, char path[PATH_ROOM]) {
    size_t length = strlen(text);
    if (length >= PATH_ROOM)
        return false;
    memcpy(path, text, length + 1);
    return true;
}

/* How the text of a variable is read into the member at offset, and what is said when it cannot be. */
enum kind { FLAG, LEVEL, PATH, FILTER, CONNECT, STAND_IN, MAP };
static const char *const expectations[] = {
    [FLAG] = "0 or 1",
    [LEVEL] = "0, 1 or 2",
    [PATH] = "a path shorter than 4096 bytes",
    [FILTER] = "T_ODD,T_EVEN,PORT,... with at most 30 ports",
    [CONNECT] = "0, 1, 2, b1 or b2",
    [STAND_IN] = "an IPv4 prefix of at most 30 bits, such as 240.0.0.0/4",
    [MAP] = "what socketbox-preload writes into it",
};

#define AT(member) offsetof(struct environment, member)
static const struct variable {
    const char *name;
    enum kind kind;
    size_t offset;
} variables[] = {
    {"SKBOX_DIRECTORY_ROOT", PATH, AT(root)},
    {"SKBOX_DIRECTORY_ROOT2", PATH, AT(root2)},
    {"SKBOX_PORT_FILTER_IPV6", FILTER, AT(ipv6)},
    {"SKBOX_PORT_FILTER_IPV4", FILTER, AT(ipv4)},
    {"SKBOX_PORT_FILTER_IPV6_WILDCARD", FILTER, AT(ipv6_wildcard)},
    {"SKBOX_PORT_FILTER_IPV4_WILDCARD", FILTER, AT(ipv4_wildcard)},
    {"SKBOX_ENABLE_CONNECT", CONNECT, 0},
    {"SKBOX_STEALTH_MODE", FLAG, AT(stealth)},
    {"SKBOX_CLEAR_SCOPE_ID", FLAG, AT(clear_scope)},
    {"SKBOX_GETPEERNAME_PROTECTION", LEVEL, AT(protection)},
    {"SKBOX_ACCEPT_STREAM", FLAG, AT(accept_stream)},
    {"SKBOX_BLOCK_LISTEN_EMPTY_ADDR", FLAG, AT(block_unbound)},
    {"SKBOX_STRICT_STREAM_MODE", LEVEL, AT(strict)},
    {"SKBOX_SCHED_YIELD", FLAG, AT(yield)},
    {"SOCKETBOX_FOLLOW", FLAG, AT(follow)},
    {"SOCKETBOX_STAND_IN", STAND_IN, 0},
    {"SOCKETBOX_LOG", PATH, AT(log)},
    {"SOCKETBOX_MAP", MAP, 0},
};

static const struct variable *find(const char *text) {
    size_t length = strcspn(text, "=");
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        if (strncmp(text, variables[i].name, length) == 0 && !variables[i].name[length] && text[length])
            return &variables[i];
    return NULL;
}

bool environment_knows(const char *text) {
    return find(text) != NULL;
}

static bool read_value(const struct variable *variable, const char *text, struct environment *environment) {
    void *member = (char *)environment + variable->offset;
    /* VARIABLE= is the shell's way to unset; only for filters and the map would that be a guess. */
    if (!*text && variable->kind != FILTER && variable->kind != MAP)
        return true;
    switch (variable->kind) {
    case FLAG:
        return read_bool(text, member);
    case LEVEL:
        return read_digit(text, '2', member);
    case PATH:
        return read_path(text, member);
    case FILTER:
        return read_filter(text, member);
    case CONNECT:
        return read_connect(text, environment);
    case STAND_IN:
        return read_stand_in(text, environment);
    case MAP:
        return read_map(text, environment);
    }
    return false;
}

const char *environment_read(struct environment *environment, char *const *texts, const char **expected) {
    memset(environment, 0, sizeof *environment);
    environment->ipv6 = (struct port_filter){.odd = 1024, .even = 1024};
    environment->block_unbound = true;
    environment->protection = 2;
    environment->strict = 2;
    environment->follow = true;
    environment->stand_in = 0xf0000000; /* 240.0.0.0/4: reserved, so never a real client's (RFC 1112) */
    environment->stand_in_prefix = 4;
    for (; texts && *texts; texts++) {
        const struct variable *variable = find(*texts);
        if (!variable || read_value(variable, strchr(*texts, '=') + 1, environment))
            continue;
        *expected = expectations[variable->kind];
        return *texts;
    }
    return NULL;
}
