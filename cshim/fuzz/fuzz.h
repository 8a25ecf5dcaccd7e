/* fuzz.h - what the fuzzers share. A fuzzer is a file with LLVMFuzzerTestOneInput in it (libFuzzer); where
 * there is no libFuzzer, replay.c runs the kept inputs through it. A broken promise ends the program. */
#ifndef SOCKETBOX_FUZZ_H
#define SOCKETBOX_FUZZ_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PROMISE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "broken promise: %s (%s:%d)\n", #condition, __FILE__, __LINE__);                 \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* The input, from front to back. What lies behind its end is zero. */
struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t next_byte(struct input *input) {
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

/* How many of the first 512 descriptors are open: more than any input can have. */
static inline int open_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 512; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

#endif
