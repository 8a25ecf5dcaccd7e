/* Addresses in the family that the program asked for. */
#include "../present.h"

#include "../../test/check.h"

#include <arpa/inet.h>
#include <string.h>

static struct environment environment = {.stand_in = 0xc6120000, .stand_in_prefix = 15}; /* 198.18.0.0/15 */

static union name ipv6(const char *text) {
    union name name = {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons(1234)}};
    inet_pton(AF_INET6, text, &name.in6.sin6_addr);
    return name;
}

static uint32_t stand_in(const char *text) {
    bool stands_in;
    union name name = ipv6(text);
    present_as(&environment, AF_INET, &name, sizeof name.in6, &stands_in);
    return stands_in ? ntohl(name.in.sin_addr.s_addr) : 0;
}

int main(void) {
    bool stands_in;
    union name name = ipv6("::ffff:192.0.2.1");
    socklen_t length = present_as(&environment, AF_INET, &name, sizeof name.in6, &stands_in);
    CHECK("a mapped address becomes the IPv4 address, with its port and length",
          length == sizeof name.in && name.in.sin_family == AF_INET && name.in.sin_port == htons(1234) &&
              name.in.sin_addr.s_addr == htonl(0xc0000201) && !stands_in);
    length = present_as(&environment, AF_INET6, &name, length, &stands_in);
    union name back = ipv6("::ffff:192.0.2.1");
    CHECK("and back again", length == sizeof name.in6 && memcmp(&name.in6, &back.in6, length) == 0);
    CHECK("an IPv6 client is one of the configured IPv4 addresses",
          (stand_in("2001:db8::1") & 0xfffe0000) == 0xc6120000);
    CHECK("always the same", stand_in("2001:db8::1") == stand_in("2001:db8::1"));
    CHECK("and another one for another client", stand_in("2001:db8::1") != stand_in("2001:db8::2"));
    environment.stand_in_prefix = 30;
    uint32_t seen = 0;
    for (int i = 1; i < 200; i++) {
        char text[32];
        snprintf(text, sizeof text, "2001:db8::%x", i);
        seen |= 1u << (stand_in(text) & 3);
    }
    CHECK("never the first or the last of the range", seen == 6);
    name.any.sa_family = AF_UNIX;
    CHECK("other families stay", present_as(&environment, AF_INET, &name, 2, &stands_in) == 2);
}
