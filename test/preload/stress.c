/* stress - several threads accept on copies of one listener while others change its options, ask about it and
 * fork: stress PORT COUNT. Ends when COUNT connections were answered; for a thread sanitizer to watch. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 6 };
static int listener, wanted;
static atomic_int answered;

static void *serve(void *argument) {
    int fd = dup(listener);
    (void)argument;
    for (;;) {
        struct sockaddr_in6 peer;
        socklen_t length = sizeof peer;
        int connection = accept(fd, (void *)&peer, &length);
        if (connection < 0)
            break;
        if (write(connection, "hello\n", 6) == 6)
            atomic_fetch_add(&answered, 1);
        close(connection);
    }
    close(fd);
    return NULL;
}

static void *disturb(void *argument) {
    (void)argument;
    for (int i = 0; atomic_load(&answered) < wanted; i++) {
        int value = 60 + i % 60;
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &(int){i % 2}, sizeof(int));
        setsockopt(listener, IPPROTO_TCP, 4, &value, sizeof value);
        getsockname(listener, (void *)&name, &length);
        close(dup(listener));
        if (i % 20 == 0 && fork() == 0) {
            close(listener);
            _exit(0);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        usleep(1000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS], disturber;
    struct sockaddr_in6 name = {.sin6_family = AF_INET6};
    if (argc < 3)
        return 2;
    name.sin6_port = htons((uint16_t)atoi(argv[1]));
    wanted = atoi(argv[2]);
    listener = socket(AF_INET6, SOCK_STREAM, 0);
    if (bind(listener, (void *)&name, sizeof name) < 0 || listen(listener, 5) < 0)
        return 1;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, serve, NULL);
    pthread_create(&disturber, NULL, disturb, NULL);
    pthread_join(disturber, NULL);
    shutdown(listener, SHUT_RD);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    while (wait(NULL) > 0)
        ;
    printf("answered %d\n", atomic_load(&answered));
    return 0;
}
