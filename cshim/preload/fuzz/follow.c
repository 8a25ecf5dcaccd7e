/* follow.c - the environment of a program that is executed: what is added to it fits the room that was asked
 * for.
 */
#include "../follow.h"

#include "../../fuzz/fuzz.h"

#include <string.h>

enum { MOST_VARIABLES = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char *ours[] = {"SOCKETBOX_MAP=* 0 65535 x\n", "SKBOX_STEALTH_MODE=1", NULL};
    static bool remembered;
    char *block = malloc(size + 1), *variables[MOST_VARIABLES + 1];
    size_t count = 0;
    if (!remembered)
        follow_remember(ours);
    remembered = true;
    PROMISE(block);
    if (size)
        memcpy(block, data, size);
    block[size] = 0;
    for (size_t at = 0; at < size && count < MOST_VARIABLES; at += strlen(block + at) + 1)
        variables[count++] = block + at;
    variables[count] = NULL;
    struct follow_room room = follow_measure(variables);
    char **entries = malloc(room.entries * sizeof *entries), *bytes = malloc(room.bytes);
    PROMISE(entries && bytes);
    char *const *extended = follow_extend(variables, entries, bytes);
    bool has_map = false, has_preload = false;
    for (; *extended; extended++) {
        has_map |= strncmp(*extended, "SOCKETBOX_MAP=", 14) == 0;
        has_preload |= strncmp(*extended, "LD_PRELOAD=", 11) == 0;
    }
    PROMISE(has_map && has_preload);
    free(entries);
    free(bytes);
    free(block);
    return 0;
}
