/* module - a part of a program that is loaded while it runs: binds a port of 0.0.0.0 and listens there. */
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

int listen_in_module(int port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return bind(fd, (void *)&in, sizeof in) < 0 ? -1 : listen(fd, 5);
}
