/* check.h - a test is a program: each promise is a line `ok - sentence`, the first broken one ends it. */
#ifndef SOCKETBOX_CHECK_H
#define SOCKETBOX_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(sentence, condition)                                                                           \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("not ok - %s (%s:%d: %s)\n", sentence, __FILE__, __LINE__, #condition);                   \
            exit(1);                                                                                         \
        }                                                                                                    \
        printf("ok - %s\n", sentence);                                                                       \
    } while (0)

#endif
