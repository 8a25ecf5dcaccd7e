/* follow.c - additions to the environment of executed programs. */
#define _GNU_SOURCE
#include "follow.h"

#include "decide.h"
#include "guest.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX_REMEMBERED = 32, LIBRARY_ROOM = 4096 };

static const char preload[] = "LD_PRELOAD=";
static char *remembered[MAX_REMEMBERED];
static int remembered_count;
static char library[LIBRARY_ROOM]; /* where this library was loaded from; "": nothing goes along */

static size_t name_length(const char *variable) {
    const char *equals = strchr(variable, '=');
    return equals ? (size_t)(equals - variable) + 1 : strlen(variable);
}

static void find_library(void) {
    Dl_info info;
    if (!dladdr(preload, &info) || !info.dli_fname || !realpath(info.dli_fname, library))
        library[0] = 0;
}

void follow_remember(char *const *variables) {
    size_t size = 0;
    for (char *const *variable = variables; variable && *variable; variable++)
        size += environment_knows(*variable) ? strlen(*variable) + 1 : 0;
    char *copy = size ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
    if (copy == MAP_FAILED)
        return;
    for (char *const *variable = variables; variable && *variable; variable++) {
        if (!environment_knows(*variable) || remembered_count == MAX_REMEMBERED)
            continue;
        size_t length = strlen(*variable) + 1;
        remembered[remembered_count++] = memcpy(copy, *variable, length);
        copy += length;
    }
    find_library();
}

static char *find(char *const *variables, const char *name, size_t length) {
    for (; variables && *variables; variables++)
        if (strncmp(*variables, name, length) == 0)
            return *variables;
    return NULL;
}

/* Does an LD_PRELOAD=A:B C hold the library already? */
static bool names_library(const char *variable) {
    size_t length = strlen(library);
    for (const char *at = variable + sizeof preload - 1; *at;) {
        size_t part = strcspn(at, ": ");
        if (part == length && memcmp(at, library, length) == 0)
            return true;
        at += part + (at[part] != 0);
    }
    return false;
}

struct follow_room follow_measure(char *const *variables) {
    size_t count = 0;
    const char *present = find(variables, preload, sizeof preload - 1);
    while (variables && variables[count])
        count++;
    return (struct follow_room){.entries = count + MAX_REMEMBERED + 2,
                                .bytes =
                                    sizeof preload + strlen(library) + 2 + (present ? strlen(present) : 0)};
}

char *const *follow_extend(char *const *variables, char **entries, char *bytes) {
    if (!*library)
        return variables;
    size_t count = 0;
    bool changed = false;
    char *present = find(variables, preload, sizeof preload - 1);
    for (; variables && variables[count]; count++)
        entries[count] = variables[count];
    if (!present || !names_library(present)) {
        const char *others = present ? present + sizeof preload - 1 : "";
        strcpy(bytes, preload);
        strcat(bytes, library);
        strcat(strcat(bytes, *others ? ":" : ""), others);
        size_t at = 0;
        while (at < count && entries[at] != present)
            at++;
        entries[at] = bytes;
        count += at == count;
        changed = true;
    }
    for (int i = 0; i < remembered_count; i++) {
        if (find(variables, remembered[i], name_length(remembered[i])))
            continue;
        entries[count++] = remembered[i];
        changed = true;
    }
    entries[count] = NULL;
    return changed ? entries : variables;
}

/* ---- shell commands ---- */

static bool is_among(char *const *variables, const char *entry) {
    for (; variables && *variables; variables++)
        if (*variables == entry)
            return true;
    return false;
}

/* A quote in a value is four characters in a quoted word. */
static size_t quoted_size(const char *value) {
    size_t size = sizeof "export ''; ";
    for (; *value; value++)
        size += *value == '\'' ? 4 : 1;
    return size;
}

size_t follow_command_size(char *const *variables, char *const *extended, const char *command) {
    size_t size = 1 + (command ? strlen(command) : 0);
    for (char *const *entry = extended; entry && *entry; entry++)
        size += is_among(variables, *entry) ? 0 : quoted_size(*entry);
    return size;
}

/* export NAME='VALUE'; */
static char *put_assignment(char *at, const char *entry) {
    size_t name = name_length(entry);
    at = stpcpy(at, "export ");
    memcpy(at, entry, name);
    at += name;
    *at++ = '\'';
    for (const char *value = entry + name; *value; value++) {
        if (*value == '\'')
            at = stpcpy(at, "'\\'");
        *at++ = *value;
    }
    return stpcpy(at, "'; ");
}

const char *follow_command(char *const *variables, char *const *extended, const char *command, char *text) {
    if (extended == variables)
        return command;
    char *at = text;
    for (char *const *entry = extended; *entry; entry++)
        if (!is_among(variables, *entry))
            at = put_assignment(at, *entry);
    strcpy(at, command);
    return text;
}

/* ---- where the library is out of reach ---- */

/* Would a line on standard error go to a client? A manager's log is a Unix socket. */
static bool errors_go_to_network(void) {
    int domain = AF_UNIX;
    socklen_t length = sizeof domain;
    return real.getsockopt(STDERR_FILENO, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain != AF_UNIX;
}

static void say_refused(const char *program) {
    const char *parts[] = {"socketbox-preload: ", program ? program : "a program",
                           " is not executed: it would run without ", library,
                           ", which cannot be read in this root by this user\n"};
    enum { PARTS = sizeof parts / sizeof parts[0] };
    struct iovec line[PARTS];
    for (int i = 0; i < PARTS; i++)
        line[i] = (struct iovec){.iov_base = (char *)parts[i], .iov_len = strlen(parts[i])};
    if (writev(STDERR_FILENO, line, PARTS) < 0) {
        /* Nobody is listening; the program must not run all the same. */
    }
}

/* access(2) asks as the real user. Where the effective one is another, the dynamic linker leaves every
 * library out anyway. */
int follow_check(const char *program) {
    if (!*library || access(library, R_OK) == 0)
        return 0;
    if (!errors_go_to_network())
        say_refused(program);
    return -ELIBACC;
}
