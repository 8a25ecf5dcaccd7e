/* probe - one socket, driven by words: probe WORD..., each printing one line of what came of it. Words:
 *   4 | 6            a TCP socket of that family (6only: and IPV6_V6ONLY)
 *   udp4 | udp6      a UDP socket
 *   reuseport        SO_REUSEPORT
 *   fd N             go on with descriptor N
 *   keep             put this socket aside, open, and go on
 *   bind A P | connect A P | scope A P S     (S: the scope of an IPv6 address)
 *   listen | accept | name | peer | nonblock | shutdown | close | type
 *   junk             the buffers of name, peer and accept are filled with 0x55 before, and what the call left
 *                    of that is reported, N bytes
 *   room N           those buffers have N bytes (default 128)
 *   take             accepts, and asks for no address
 *   hello            writes hello to the accepted or connected socket
 *   heard            what comes in on that, up to a newline
 *   close-connection closes that, and says nothing
 *   wait             until a line comes in, or the end of it
 *   exec WORD...     this program again with an empty environment, the socket as descriptor 9
 *   fork             go on in a child; the parent waits for its end, and then for the end of input
 *   exit             end by exit(3) */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int fd = -1, connection = -1;
static bool junk;
static socklen_t room = 128;

static void say(const char *word, long result) {
    printf("%s %s\n", word, result < 0 ? strerrorname_np(errno) : "ok");
}

static void say_name(const char *word, int result, struct sockaddr_storage *name, socklen_t length) {
    char text[108];
    if (result < 0) {
        say(word, result);
        return;
    }
    int left = 0;
    while (junk && left < 128 && ((unsigned char *)name)[127 - left] == 0x55)
        left++;
    printf("%s ", word);
    if (length == 0)
        printf("nothing");
    else if (name->ss_family == AF_INET)
        printf("%s %d", inet_ntop(AF_INET, &((struct sockaddr_in *)name)->sin_addr, text, sizeof text),
               ntohs(((struct sockaddr_in *)name)->sin_port));
    else if (name->ss_family == AF_INET6)
        printf("%s %d", inet_ntop(AF_INET6, &((struct sockaddr_in6 *)name)->sin6_addr, text, sizeof text),
               ntohs(((struct sockaddr_in6 *)name)->sin6_port));
    else
        printf("family %d", name->ss_family);
    printf(" length %u", length);
    if (name->ss_family == AF_INET6 && length >= 28 && ((struct sockaddr_in6 *)name)->sin6_scope_id)
        printf(" scope %u", ((struct sockaddr_in6 *)name)->sin6_scope_id);
    if (junk)
        printf(" left %d", left);
    printf("\n");
}

static socklen_t read_address(const char *text, const char *port, struct sockaddr_storage *name) {
    memset(name, 0, sizeof *name);
    struct sockaddr_in *in = (void *)name;
    struct sockaddr_in6 *in6 = (void *)name;
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)atoi(port));
        return sizeof *in;
    }
    inet_pton(AF_INET6, text, &in6->sin6_addr);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)atoi(port));
    return sizeof *in6;
}

static void ask(const char *word, int (*call)(int, struct sockaddr *, socklen_t *), int of) {
    struct sockaddr_storage name;
    socklen_t length = room;
    memset(&name, junk ? 0x55 : 0, sizeof name);
    int result = call(of, (void *)&name, &length);
    say_name(word, result, &name, length);
}

static int accept_connection(int of, struct sockaddr *name, socklen_t *length) {
    return connection = accept(of, name, length);
}

static void run(char **words, char *self) {
    struct sockaddr_storage name;
    int on = 1;
    for (; *words; words++) {
        const char *word = *words;
        if (!strcmp(word, "4") || !strcmp(word, "6") || !strcmp(word, "6only"))
            fd = socket(*word == '4' ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!strcmp(word, "6only"))
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        if (!strncmp(word, "udp", 3))
            fd = socket(word[3] == '4' ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
        if (!strcmp(word, "reuseport"))
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        if (!strcmp(word, "fd"))
            fd = atoi(*++words);
        if (!strcmp(word, "keep"))
            fd = -1;
        if (!strcmp(word, "room"))
            room = (socklen_t)atoi(*++words);
        if (!strcmp(word, "bind") || !strcmp(word, "connect") || !strcmp(word, "scope")) {
            socklen_t length = read_address(words[1], words[2], &name);
            words += 2;
            if (*word == 's')
                ((struct sockaddr_in6 *)&name)->sin6_scope_id = (uint32_t)atoi(*++words);
            say(word, *word == 'c' ? connect(connection = fd, (void *)&name, length)
                                   : bind(fd, (void *)&name, length));
        }
        if (!strcmp(word, "listen"))
            say(word, listen(fd, 5));
        if (!strcmp(word, "accept"))
            ask(word, accept_connection, fd);
        if (!strcmp(word, "take"))
            say(word, connection = accept(fd, NULL, NULL));
        if (!strcmp(word, "close-connection"))
            close(connection);
        if (!strcmp(word, "heard")) {
            char byte = 0;
            printf("heard ");
            while (read(connection, &byte, 1) == 1 && byte != '\n')
                putchar(byte);
            putchar('\n');
        }
        if (!strcmp(word, "name"))
            ask(word, getsockname, fd);
        if (!strcmp(word, "local"))
            ask(word, getsockname, connection);
        if (!strcmp(word, "peer"))
            ask(word, getpeername, connection);
        if (!strcmp(word, "type")) {
            int type = 0;
            socklen_t length = sizeof type;
            getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &type, &length);
            printf("type %d\n", type);
        }
        if (!strcmp(word, "nonblock"))
            fcntl(fd, F_SETFL, O_NONBLOCK);
        if (!strcmp(word, "junk"))
            junk = true;
        if (!strcmp(word, "shutdown"))
            say(word, shutdown(fd, SHUT_RDWR));
        if (!strcmp(word, "close"))
            say(word, close(fd));
        if (!strcmp(word, "hello"))
            say(word, write(connection, "hello\n", 6));
        if (!strcmp(word, "wait")) {
            char byte = 0;
            puts("waiting");
            while (read(0, &byte, 1) == 1 && byte != '\n')
                ;
        }
        if (!strcmp(word, "fork") && fork() > 0) {
            wait(NULL);
            while (getchar() != EOF)
                ;
            return;
        }
        if (!strcmp(word, "exec")) {
            char *environment[] = {NULL};
            dup2(fd, 9);
            *words = self;
            execve("/proc/self/exe", words, environment);
        }
        if (!strcmp(word, "exit"))
            exit(0);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    setvbuf(stdout, NULL, _IOLBF, 0);
    run(argv + 1, argv[0]);
    return 0;
}
