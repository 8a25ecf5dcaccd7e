/* filter.c - prints the system call filter, one instruction a line (code, jt, jf, k), for process PID. It is
 * the helper's own source, so that it can be made for a machine that is not here (emulated, a filter cannot
 * be set). */
#include "../../cshim/confine.c"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    struct program program;
    if (argc != 2)
        return 2;
    write_program(&program, (uint32_t)atoi(argv[1]));
    for (unsigned i = 0; i < program.length; i++)
        printf("%u %u %u %u\n", program.steps[i].code, program.steps[i].jt, program.steps[i].jf,
               program.steps[i].k);
    return 0;
}
