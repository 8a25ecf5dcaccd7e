/* executes - one way of starting another program with a cleaned environment: executes WAY [USER]. The program
 * is this one again, as `executes told`, which says whether descriptor 9, a listener, is still one, and which
 * variables it was given. USER: the numeric user to become first. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void tell(void) {
    struct sockaddr_in name = {0};
    socklen_t length = sizeof name;
    int result = getsockname(9, (void *)&name, &length);
    printf("listener %d, family %d, port %d\n", result, name.sin_family, ntohs(name.sin_port));
    for (char **variable = environ; *variable; variable++)
        printf("%.*s\n", (int)strcspn(*variable, "="), *variable);
}

static int listen_at_nine(void) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(80)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (void *)&name, sizeof name) < 0 || listen(fd, 5) < 0)
        return -1;
    return dup2(fd, 9);
}

static int is(const char *way, const char *name) {
    return strcmp(way, name) == 0;
}

static void wait_for(pid_t child) {
    waitpid(child, NULL, 0);
    exit(0);
}

int main(int argc, char **argv) {
    char *self = "/proc/self/exe", *words[] = {"executes", "told", NULL}, *nothing[] = {NULL};
    char command[4200];
    const char *way = argc > 1 ? argv[1] : "";
    pid_t child;
    if (is(way, "told")) {
        tell();
        return 0;
    }
    snprintf(command, sizeof command, "%s told", argv[0]);
    if (listen_at_nine() < 0 || (argc > 2 && (setgroups(0, NULL) < 0 || setuid((uid_t)atoi(argv[2])) < 0)))
        return 1;
    if (is(way, "execve"))
        execve(self, words, nothing);
    if (is(way, "execvpe"))
        execvpe(self, words, nothing);
    if (is(way, "execle"))
        execle(self, words[0], words[1], (char *)NULL, nothing);
    if (is(way, "fexecve"))
        fexecve(open(self, O_RDONLY), words, nothing);
    if (is(way, "execveat"))
        execveat(AT_FDCWD, self, words, nothing, 0);
    if (is(way, "syscall"))
        syscall(SYS_execve, self, words, nothing);
    if (is(way, "posix_spawn") && posix_spawn(&child, self, NULL, NULL, words, nothing) == 0)
        wait_for(child);
    if (is(way, "posix_spawnp") && posix_spawnp(&child, self, NULL, NULL, words, nothing) == 0)
        wait_for(child);
    if (is(way, "vfork")) {
        child = vfork();
        if (child == 0) {
            execve(self, words, nothing);
            _exit(1);
        }
        wait_for(child);
    }
    environ = nothing; /* these take what the program has */
    if (is(way, "execv"))
        execv(self, words);
    if (is(way, "execvp"))
        execvp(self, words);
    if (is(way, "execl"))
        execl(self, words[0], words[1], (char *)NULL);
    if (is(way, "system")) {
        if (system(command) == 0)
            exit(0);
    }
    if (is(way, "popen")) {
        FILE *pipe = popen(command, "w");
        if (pipe && pclose(pipe) == 0)
            exit(0);
    }
    if (is(way, "execlp"))
        execlp(self, words[0], words[1], (char *)NULL);
    printf("%s: %s\n", way, strerror(errno));
    return 1;
}
