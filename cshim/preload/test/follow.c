/* What executed programs find in their environment. */
#include "../follow.h"

#include "../../test/check.h"

#include <string.h>

static char *entries[100], bytes[9000];

static int count(char *const *variables, const char *prefix) {
    int found = 0;
    for (; *variables; variables++)
        found += strncmp(*variables, prefix, strlen(prefix)) == 0;
    return found;
}

static const char *value(char *const *variables, const char *name) {
    for (; *variables; variables++)
        if (strncmp(*variables, name, strlen(name)) == 0)
            return *variables + strlen(name);
    return "";
}

int main(void) {
    char map[] = "SOCKETBOX_MAP=* 0 65535 x\n";
    char *first[] = {"PATH=/bin", map, "SKBOX_STEALTH_MODE=1", NULL}, *empty[] = {NULL};
    follow_remember(first);
    memset(map, 'x', sizeof map - 1);
    char *const *extended = follow_extend(empty, entries, bytes);
    CHECK("an empty environment gets the variables, as they were at the start",
          !strcmp(value(extended, "SOCKETBOX_MAP="), "* 0 65535 x\n") && count(extended, "SKBOX_") == 1);
    CHECK("and the library", count(extended, "LD_PRELOAD=/") == 1 && count(extended, "PATH=") == 0);
    char *again[] = {strdup(*extended), "SKBOX_STEALTH_MODE=0", "SOCKETBOX_MAP=", NULL};
    CHECK("one that has all stays as it is", follow_extend(again, entries, bytes) == again);
    free(again[0]);
    static char longer[5000];
    snprintf(longer, sizeof longer, "LD_PRELOAD=%s.old",
             value(follow_extend(empty, entries, bytes), "LD_PRELOAD="));
    char *alike[] = {longer, "SKBOX_STEALTH_MODE=0", "SOCKETBOX_MAP=", NULL};
    CHECK("a name that begins as the library's is another's", follow_extend(alike, entries, bytes) != alike);
    char *others[] = {"LD_PRELOAD=/usr/lib/other.so", NULL};
    extended = follow_extend(others, entries, bytes);
    CHECK("another library is kept beside it", strstr(value(extended, "LD_PRELOAD="), ":/usr/lib/other.so") &&
                                                   count(extended, "LD_PRELOAD=") == 1);
    CHECK("no environment at all is an empty one",
          count(follow_extend(NULL, entries, bytes), "LD_PRELOAD=") == 1);
    CHECK("a shell command that lacks nothing is the program's own",
          follow_command(again, again, others[0], bytes) == others[0]);
    char quoted[] = "SOCKETBOX_LOG=/it's", *more[] = {others[0], quoted, NULL}, *one[] = {others[0], NULL};
    char text[200];
    CHECK("what it lacks goes before it, quoted",
          !strcmp(follow_command(one, more, "true", text), "export SOCKETBOX_LOG='/it'\\''s'; true"));
    CHECK("and fits the room that was asked for", strlen(text) < follow_command_size(one, more, "true"));
    extended = follow_extend(others, entries, bytes);
    struct follow_room room = follow_measure(others);
    CHECK("what it needs is what was measured",
          strlen(value(extended, "LD_PRELOAD=")) + sizeof "LD_PRELOAD=" <= room.bytes && room.entries >= 5);
}
