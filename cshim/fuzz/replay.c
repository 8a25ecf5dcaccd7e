/* replay.c - stands in for libFuzzer: runs each file that is named through the fuzzer, once. */
#include "fuzz.h"

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        PROMISE(file && fseek(file, 0, SEEK_END) == 0);
        size_t size = (size_t)ftell(file);
        /* Exactly as large as the input, so that one byte too many is noticed. */
        uint8_t *data = malloc(size ? size : 1);
        rewind(file);
        PROMISE(data && fread(data, 1, size, file) == size);
        fclose(file);
        fprintf(stderr, "%s\n", argv[i]);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("ok - %d inputs\n", argc - 1);
    return 0;
}
