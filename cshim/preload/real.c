/* real.c - finds the functions of libc that our wrappers hide. */
#define _GNU_SOURCE
#include "real.h"

#include <dlfcn.h>
#include <string.h>

struct real_calls real;

/* A libc without one of them (musl has no closefrom) has no program that calls it either: it stays NULL.
 * memcpy, because ISO C knows no cast from an object pointer to a function pointer. */
static void find(const char *name, void *slot) {
    void *address = dlsym(RTLD_NEXT, name);
    memcpy(slot, &address, sizeof address);
}

void real_resolve(void) {
#define CALL(type, name, arguments) find(#name, &real.name);
    REAL_CALLS(CALL)
#undef CALL
}
