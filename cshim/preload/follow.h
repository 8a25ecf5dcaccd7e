/* follow.h - the library and its variables go along with every program that is executed, also when the
 * environment was cleaned (postfix, dovecot, nginx at USR2), unless SOCKETBOX_FOLLOW is 0. */
#ifndef SOCKETBOX_PRELOAD_FOLLOW_H
#define SOCKETBOX_PRELOAD_FOLLOW_H

#include <stddef.h>

/* Keeps copies of what has to go along: programs overwrite the memory that environ points to. */
void follow_remember(char *const *variables);

/* What an execution needs room for: entries of an array, and bytes for a longer LD_PRELOAD. */
struct follow_room {
    size_t entries, bytes;
};
struct follow_room follow_measure(char *const *variables);
/* The environment to execute with: variables itself where nothing is missing, otherwise entries, filled. Safe
 * after vfork: it writes to nothing but the two buffers. */
char *const *follow_extend(char *const *variables, char **entries, char *bytes);
/* A shell command behind assignments of what extended has and variables lack; command itself where that is
 * nothing. text has room for follow_command_size bytes. */
size_t follow_command_size(char *const *variables, char *const *extended, const char *command);
const char *follow_command(char *const *variables, char *const *extended, const char *command, char *text);
/* May program be executed here? 0, or -ELIBACC when the dynamic linker would not find the library (another
 * root, another user) and would run the program without it: its binds would be real. Says so on standard
 * error. Safe after vfork and in a signal handler. program may be NULL. */
int follow_check(const char *program);

#endif
