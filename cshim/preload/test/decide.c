/* The tables of addresses, and the variables that steer them. */
#include "../decide.h"

#include "../../test/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static struct environment environment;
static struct decision decision;

static const char *read_variables(char *a, char *b, char *c) {
    const char *expected;
    return environment_read(&environment, (char *[]){a, b, c, NULL}, &expected);
}

static void must_read(char *a, char *b, char *c) {
    if (read_variables(a, b, c)) {
        printf("not ok - %s\n", read_variables(a, b, c));
        exit(1);
    }
}

static socklen_t address(const char *text, uint16_t port, uint32_t scope, struct sockaddr_storage *storage) {
    struct sockaddr_in *in = (void *)storage;
    struct sockaddr_in6 *in6 = (void *)storage;
    memset(storage, 0, sizeof *storage);
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        return sizeof *in;
    }
    inet_pton(AF_INET6, text, &in6->sin6_addr);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    in6->sin6_scope_id = scope;
    return sizeof *in6;
}

static enum outcome binding_scope(const char *text, uint16_t port, uint32_t scope) {
    struct sockaddr_storage storage;
    socklen_t length = address(text, port, scope, &storage);
    decide_bind(&environment, (void *)&storage, length, 50000, &decision);
    return decision.outcome;
}

static enum outcome binding(const char *text, uint16_t port) {
    return binding_scope(text, port, 0);
}

static enum outcome connecting(const char *text, uint16_t port) {
    struct sockaddr_storage storage;
    socklen_t length = address(text, port, 0, &storage);
    decide_connect(&environment, (void *)&storage, length, &decision);
    return decision.outcome;
}

static bool receives_at(const char *text, uint16_t port, const char *path) {
    return binding(text, port) == OUTCOME_RECEIVER && strcmp(decision.path, path) == 0;
}

static bool listens_at(const char *text, uint16_t port, const char *path) {
    return binding(text, port) == OUTCOME_STREAM && strcmp(decision.path, path) == 0;
}

static bool refused(const char *text, uint16_t port, int error) {
    return binding(text, port) == OUTCOME_REFUSE && decision.error == error;
}

static bool direct(const char *text, uint16_t port) {
    return binding(text, port) == OUTCOME_DIRECT;
}

static void lengths(void) {
    struct sockaddr_storage storage;
    must_read("SOCKETBOX_MAP=* 80 80 r /m\n* 0 65535 d 13\n", NULL, NULL);
    socklen_t length = address("::1", 80, 0, &storage);
    decide_bind(&environment, (void *)&storage, length - 4, 50000, &decision);
    CHECK("an IPv6 address without its scope is one, as it is for the kernel",
          decision.outcome == OUTCOME_RECEIVER);
    decide_bind(&environment, (void *)&storage, length - 5, 50000, &decision);
    CHECK("a shorter one is none", decision.outcome == OUTCOME_DIRECT);
    length = address("127.0.0.1", 80, 0, &storage);
    decide_bind(&environment, (void *)&storage, length, 50000, &decision);
    CHECK("an IPv4 address has 16 bytes", decision.outcome == OUTCOME_RECEIVER);
    decide_bind(&environment, (void *)&storage, length - 1, 50000, &decision);
    CHECK("and no fewer", decision.outcome == OUTCOME_DIRECT);
}

static void special_addresses(void) {
    must_read("SKBOX_DIRECTORY_ROOT=/d", "SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV4=1024");
    CHECK("fe8f::0:Y:Z is a record of the directory file",
          receives_at("fe8f::0:102:3", 80, "/d/skbox_dir_00258") && decision.record == 3);
    CHECK("fe8f::1:Y:Z is the same record, a stream listener",
          listens_at("fe8f::1:102:3", 80, "/d/skbox_dir_00258") && decision.record == 3);
    CHECK("fe8f::2:Y:Z is a receiver by numbers",
          receives_at("fe8f::2:1:ffff", 80, "/e/00001/65535_00080") && decision.record == -1);
    CHECK("fe8f::3:Y:Z is the same path, a stream listener",
          listens_at("fe8f::3:1:ffff", 80, "/e/00001/65535_00080"));
    CHECK("fe8f::4:Y:Z is an address like others", direct("fe8f::4:1:1", 80));
    CHECK("fe8f::1:2:1:1 is an address like others", direct("fe8f::1:2:1:1", 80));
    CHECK("127.180.Y.Z is a receiver", receives_at("127.180.1.2", 80, "/e/X4001/00002_00080"));
    CHECK("127.181.Y.Z is a stream listener at the same path",
          listens_at("127.181.255.2", 80, "/e/X4255/00002_00080"));
    CHECK("127.182.0.1 is an address like others", direct("127.182.0.1", 80));
    CHECK("fe8f:1:S:S:i:i:i:i is a link-local address with a scope",
          binding("fe8f:1:1:2:a:b:c:d", 8080) == OUTCOME_LINK_LOCAL &&
              decision.link_local.sin6_scope_id == 0x10002 && decision.link_local.sin6_port == htons(8080));
    struct in6_addr expected;
    inet_pton(AF_INET6, "fe80::a:b:c:d", &expected);
    CHECK("whose last 64 bits are kept",
          memcmp(&decision.link_local.sin6_addr, &expected, sizeof expected) == 0);
    CHECK("an address with a scope id is not taken", binding_scope("fe8f::2:1:1", 80, 2) == OUTCOME_DIRECT);
    must_read("SKBOX_CLEAR_SCOPE_ID=1", "SKBOX_DIRECTORY_ROOT2=/e", NULL);
    CHECK("unless SKBOX_CLEAR_SCOPE_ID says so", binding_scope("fe8f::2:1:1", 80, 2) == OUTCOME_RECEIVER);
}

static void filters(void) {
    must_read("SKBOX_DIRECTORY_ROOT2=/e", NULL, NULL);
    CHECK("by default fe8f:: is taken below port 1024",
          receives_at("fe8f::2:1:1", 1023, "/e/00001/00001_01023") && direct("fe8f::2:1:1", 1024));
    CHECK("by default 127.180.0.0/15 is not taken", direct("127.180.0.1", 80));
    CHECK("by default wildcards are not taken", direct("::", 80) && direct("0.0.0.0", 80));
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV6_WILDCARD=1024",
              "SKBOX_PORT_FILTER_IPV4_WILDCARD=90");
    CHECK(":: is a receiver when its filter says so", receives_at("::", 80, "/e/X0000/00000_00080"));
    CHECK("0.0.0.0 is a receiver when its filter says so",
          receives_at("0.0.0.0", 80, "/e/X0004/00000_00080"));
    CHECK("each with its own filter", direct("0.0.0.0", 91));
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV6=10,20,8080,9000", NULL);
    CHECK("the first threshold is for odd ports", !direct("fe8f::2:1:1", 9) && direct("fe8f::2:1:1", 11));
    CHECK("the second is for even ports", !direct("fe8f::2:1:1", 18) && direct("fe8f::2:1:1", 20));
    CHECK("listed ports are taken", !direct("fe8f::2:1:1", 8080) && !direct("fe8f::2:1:1", 9000));
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV6=65536", NULL);
    CHECK("port 0 is never taken", direct("fe8f::2:1:1", 0) && !direct("fe8f::2:1:1", 65535));
    CHECK(
        "thirty listed ports can be read",
        !read_variables(
            "SKBOX_PORT_FILTER_IPV6=0,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,"
            "27,28,29,30",
            NULL, NULL));
    CHECK(
        "one more cannot",
        read_variables(
            "SKBOX_PORT_FILTER_IPV6=0,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,"
            "27,28,29,30,31",
            NULL, NULL));
    CHECK("nor can words, signs, gaps, more than 65536 or nothing at all",
          read_variables("SKBOX_PORT_FILTER_IPV4=http", NULL, NULL) &&
              read_variables("SKBOX_PORT_FILTER_IPV4=-1", NULL, NULL) &&
              read_variables("SKBOX_PORT_FILTER_IPV4=1,,2", NULL, NULL) &&
              read_variables("SKBOX_PORT_FILTER_IPV4=1,2,", NULL, NULL) &&
              read_variables("SKBOX_PORT_FILTER_IPV4=65537", NULL, NULL) &&
              read_variables("SKBOX_PORT_FILTER_IPV4=99999999999999999999", NULL, NULL) &&
              read_variables("SKBOX_PORT_FILTER_IPV4=", NULL, NULL));
}

static void fails_closed(void) {
    must_read("SKBOX_PORT_FILTER_IPV4=1024", "SKBOX_PORT_FILTER_IPV4_WILDCARD=1024",
              "SKBOX_PORT_FILTER_IPV6_WILDCARD=1024");
    CHECK("without its directory a mapping is refused, never bound for real",
          refused("fe8f::0:1:1", 80, EADDRNOTAVAIL) && refused("fe8f::3:1:1", 80, EADDRNOTAVAIL) &&
              refused("127.180.0.1", 80, EADDRNOTAVAIL) && refused("0.0.0.0", 80, EADDRNOTAVAIL) &&
              refused("::", 80, EADDRNOTAVAIL));
    char root[200] = "SKBOX_DIRECTORY_ROOT2=/";
    memset(root + strlen(root), 'x', 88); /* and 18 bytes of numbers */
    must_read(root, NULL, NULL);
    CHECK("a path of 107 bytes is used",
          binding("fe8f::2:1:1", 80) == OUTCOME_RECEIVER && strlen(decision.path) == 107);
    strcat(root, "x");
    must_read(root, NULL, NULL);
    CHECK("one of 108 is refused, never cut", refused("fe8f::2:1:1", 80, ENAMETOOLONG));
}

static void records(void) {
    char path[SOCKET_PATH_ROOM], record[RECORD_SIZE];
    CHECK("an empty record is past the end of the file", decide_record("", 0, 80, path) == -ERANGE);
    CHECK("a record of zeros is no path", decide_record("\0\0\0", 3, 80, path) == -EADDRNOTAVAIL);
    CHECK("the marker becomes the port",
          decide_record("/r/_@SB_/x", 11, 80, path) == 0 && !strcmp(path, "/r/00080/x"));
    CHECK("only the first one",
          decide_record("_@SB__@SB_", 11, 443, path) == 0 && !strcmp(path, "00443_@SB_"));
    memset(record, 'x', sizeof record);
    CHECK("a full record of 108 bytes is too long for a socket",
          decide_record(record, sizeof record, 80, path) == -ENAMETOOLONG);
    CHECK("one of 107 bytes is not", decide_record(record, 107, 80, path) == 0 && strlen(path) == 107);
}

static void maps(void) {
    must_read("SOCKETBOX_MAP=00000000000000000000000000000001 443 443 r /run/tls.sock\n"
              "00000000000000000000ffff7f000001 8000 8010 s /run/app/{port}.sock\n"
              "* 80 80 r @web\n"
              "* 0 0 r /run/any-{port}\n"
              "* 22 22 d 98\n"
              "* 9000 9999 x\n",
              NULL, NULL);
    CHECK("an address of the map is a receiver", receives_at("::1", 443, "/run/tls.sock"));
    CHECK("a range becomes paths with their port", listens_at("127.0.0.1", 8003, "/run/app/8003.sock"));
    CHECK("an address is only itself", refused("127.0.0.2", 8003, EACCES) && refused("::1", 8003, EACCES));
    CHECK("a star is every address, wildcards too", receives_at("::", 80, "@web") &&
                                                        receives_at("0.0.0.0", 80, "@web") &&
                                                        receives_at("192.0.2.1", 80, "@web"));
    CHECK("port 0 gets the invented port", receives_at("::1", 0, "/run/any-50000"));
    CHECK("deny gives its error", refused("::", 22, 98));
    CHECK("direct is the real bind", direct("0.0.0.0", 9001));
    CHECK("what no line matches is refused", refused("0.0.0.0", 81, EACCES));
    char map[200] = "SOCKETBOX_MAP=* 0 65535 r /";
    memset(map + strlen(map), 'x', 102); /* 103 bytes and the port */
    strcat(map, "{port}\n");
    must_read(map, NULL, NULL);
    CHECK("a path may have 107 bytes with its port",
          binding("::", 8000) == OUTCOME_RECEIVER && strlen(decision.path) == 107);
    CHECK("and is refused with a longer port", refused("::", 10000, ENAMETOOLONG));
    must_read("SOCKETBOX_MAP=", NULL, NULL);
    CHECK("an empty map refuses everything", refused("::", 80, EACCES));
    CHECK("broken lines are not understood", read_variables("SOCKETBOX_MAP=* 80 80 r /x", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=* 80 79 x\n", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=* 80 80 r \n", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=* 80 80 q /x\n", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=* 80 80 x /x\n", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=* 80 80 d 0\n", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=* 80 70000 x\n", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=::1 80 80 x\n", NULL, NULL) &&
                                                 read_variables("SOCKETBOX_MAP=\n", NULL, NULL));
}

static void connects(void) {
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV4=1024", NULL);
    CHECK("connect is left alone by default", connecting("fe8f::3:1:1", 80) == OUTCOME_DIRECT);
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV4=1024", "SKBOX_ENABLE_CONNECT=1");
    CHECK("1 is for stream addresses",
          connecting("fe8f::3:1:1", 80) == OUTCOME_STREAM && connecting("fe8f::2:1:1", 80) == OUTCOME_DIRECT);
    CHECK("of IPv6 only", connecting("127.181.1.1", 80) == OUTCOME_DIRECT);
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV4=1024", "SKBOX_ENABLE_CONNECT=b1");
    CHECK("b1 is for IPv4, too",
          connecting("127.181.1.1", 80) == OUTCOME_STREAM && connecting("127.180.1.1", 80) == OUTCOME_DIRECT);
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV4=1024", "SKBOX_ENABLE_CONNECT=2");
    CHECK("2 is for receivers, too", connecting("fe8f::2:1:1", 80) == OUTCOME_RECEIVER &&
                                         connecting("127.180.1.1", 80) == OUTCOME_DIRECT);
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV4=1024", "SKBOX_ENABLE_CONNECT=b2");
    CHECK("b2 is for all of them", connecting("127.180.1.1", 80) == OUTCOME_RECEIVER &&
                                       connecting("fe8f::3:1:1", 80) == OUTCOME_STREAM);
    CHECK("wildcards are never connected to a receiver", connecting("::", 80) == OUTCOME_DIRECT);
}

static void other_variables(void) {
    must_read(NULL, NULL, NULL);
    CHECK("defaults are the documented ones",
          !environment.stealth && !environment.clear_scope && environment.protection == 2 &&
              !environment.accept_stream && environment.block_unbound && environment.strict == 2 &&
              !environment.yield && !environment.connect && environment.follow);
    must_read("SKBOX_BLOCK_LISTEN_EMPTY_ADDR=0", "SKBOX_STRICT_STREAM_MODE=1",
              "SKBOX_GETPEERNAME_PROTECTION=0");
    CHECK("variables are read",
          !environment.block_unbound && environment.strict == 1 && environment.protection == 0);
    CHECK("a value that means nothing is named, and what was expected",
          read_variables("SKBOX_STEALTH_MODE=yes", NULL, NULL) &&
              read_variables("SKBOX_STRICT_STREAM_MODE=3", NULL, NULL) &&
              read_variables("SKBOX_ENABLE_CONNECT=b", NULL, NULL) &&
              read_variables("SOCKETBOX_STAND_IN=240.0.0.0/31", NULL, NULL) &&
              read_variables("SOCKETBOX_STAND_IN=240.0.0.0", NULL, NULL));
    must_read("SKBOX_STEALTH_MODE=", "SKBOX_NONE_OF_THEM=x", "SKBOX_DIRECTORY_ROOT=");
    CHECK("an empty value is none", !environment.stealth);
    CHECK("a variable is known by its whole name",
          environment_knows("SOCKETBOX_MAP=x") && !environment_knows("SOCKETBOX_MAPS=x") &&
              !environment_knows("SOCKETBOX_M=x") && !environment_knows("SKBOX_LISTEN_FD=3") &&
              !environment_knows("SOCKETBOX_MAP") && !environment_knows("=x"));
}

static void odd_addresses(void) {
    struct sockaddr_in unspecified = {.sin_family = AF_UNSPEC, .sin_port = htons(80)};
    must_read("SKBOX_DIRECTORY_ROOT2=/e", "SKBOX_PORT_FILTER_IPV4_WILDCARD=1024", NULL);
    decide_bind(&environment, (void *)&unspecified, sizeof unspecified, 0, &decision);
    CHECK("AF_UNSPEC with the wildcard is 0.0.0.0, as bind(2) takes it",
          decision.outcome == OUTCOME_RECEIVER);
    decide_bind(&environment, (void *)&unspecified, 8, 0, &decision);
    CHECK("an address cut short is left to the kernel", decision.outcome == OUTCOME_DIRECT);
    decide_bind(&environment, (void *)&unspecified, 1, 0, &decision);
    CHECK("and so is one without a family", decision.outcome == OUTCOME_DIRECT);
}

int main(void) {
    lengths();
    special_addresses();
    filters();
    fails_closed();
    records();
    maps();
    connects();
    other_variables();
    odd_addresses();
}
