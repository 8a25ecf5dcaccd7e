/* clients - clients that come all the time: clients PORT SERVER CLIENT QUESTION ENOUGH. Twenty at once, every
 * second one from CLIENT to SERVER, the others over IPv6 loopback; QUESTION and ENOUGH in hexadecimal digits.
 * Each sends QUESTION and reads until the end, or until ENOUGH has come where that is not empty. For each it
 * prints
 *
 *   ITS-PORT FAMILY ERROR ANSWER     ERROR is 0, or the errno that ended it; ANSWER in hexadecimal digits, or
 * -
 *
 * until standard input ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { CLIENTS = 20, ANSWER = 65536, PAUSE = 5000 };

static struct {
    int port;
    const char *server, *client;
    char question[512], enough[64];
    size_t question_size, enough_size;
} plan;
static atomic_bool over;

static size_t from_hex(const char *text, char *bytes) {
    size_t size = 0;
    unsigned byte;
    for (; sscanf(text, "%2x", &byte) == 1; text += 2)
        bytes[size++] = (char)byte;
    return size;
}

static int open_connection(int family, int *port) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)plan.port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = in6.sin6_port},
                       from = {.sin_family = AF_INET};
    struct timeval limit = {.tv_sec = 60};
    in6.sin6_addr = in6addr_loopback;
    inet_pton(AF_INET, plan.server, &in.sin_addr);
    inet_pton(AF_INET, plan.client, &from.sin_addr);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int failed = family == AF_INET && bind(fd, (void *)&from, sizeof from) < 0;
    if (!failed)
        failed =
            family == AF_INET ? connect(fd, (void *)&in, sizeof in) : connect(fd, (void *)&in6, sizeof in6);
    if (failed) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    struct sockaddr_in6 name;
    socklen_t length = sizeof name;
    getsockname(fd, (void *)&name, &length);
    *port = ntohs(name.sin6_port); /* at the same offset in both families */
    return fd;
}

/* 0 or what went wrong; *size bytes came. */
static int exchange(int fd, char *answer, size_t *size) {
    if (send(fd, plan.question, plan.question_size, MSG_NOSIGNAL) < 0)
        return errno;
    while (*size < ANSWER) {
        ssize_t part = recv(fd, answer + *size, ANSWER - *size, 0);
        if (part <= 0)
            return part < 0 ? errno : 0;
        *size += (size_t)part;
        if (plan.enough_size && memmem(answer, *size, plan.enough, plan.enough_size))
            return 0;
    }
    return EMSGSIZE;
}

static void *come(void *number) {
    char *answer = malloc(ANSWER), *line = malloc(2 * ANSWER + 64);
    int family = (intptr_t)number % 2 ? AF_INET : AF_INET6;
    while (!atomic_load(&over)) {
        int port = 0, fd = open_connection(family, &port);
        size_t size = 0;
        int error = fd < 0 ? errno : exchange(fd, answer, &size);
        if (fd >= 0)
            close(fd);
        int used = sprintf(line, "%d %d %d ", port, family == AF_INET ? 4 : 6, error);
        for (size_t i = 0; i < size; i++)
            used += sprintf(line + used, "%02x", (unsigned char)answer[i]);
        strcpy(line + used, size ? "\n" : "-\n");
        fputs(line, stdout);
        usleep(PAUSE); /* the ports of closed connections are not to be had for a minute */
    }
    free(answer);
    free(line);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[CLIENTS];
    char byte;
    if (argc != 6)
        return 2;
    plan.port = atoi(argv[1]);
    plan.server = argv[2];
    plan.client = argv[3];
    plan.question_size = from_hex(argv[4], plan.question);
    plan.enough_size = from_hex(argv[5], plan.enough);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (intptr_t i = 0; i < CLIENTS; i++)
        pthread_create(&threads[i], NULL, come, (void *)i);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    atomic_store(&over, true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
}
