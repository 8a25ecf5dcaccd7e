/* Taking turns: nobody waits for ever. */
#define _GNU_SOURCE
#include "../turn.h"

#include "../guest.h"
#include "../hints.h"

#include "../../test/check.h"

#include <pthread.h>

static struct turn turn;
static atomic_int together, most;

static void *enter_often(void *argument) {
    for (int i = 0; i < 200; i++) {
        turn_take(&turn, 10000);
        int now = atomic_fetch_add(&together, 1) + 1;
        if (now > atomic_load(&most))
            atomic_store(&most, now);
        atomic_fetch_sub(&together, 1);
        turn_leave(&turn);
    }
    return argument;
}

int main(void) {
    pthread_t threads[8];
    real_resolve();
    hints_own();
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, enter_often, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    CHECK("one thread is inside at a time", atomic_load(&most) == 1);
    CHECK("and nobody is left waiting", atomic_load(&turn.waiting) == 0 && atomic_load(&turn.holder) == 0);
    turn_take(&turn, 1); /* and the thread is cancelled, or jumps out of a signal handler */
    turn_take(&turn, 3);
    CHECK("whoever never left is passed by", true);
    turn_leave(&turn);
    CHECK("and not waited for again", atomic_load(&turn.holder) == 0);
    atomic_store(&turn.holder, hints_home() + 1);
    turn_take(&turn, 1000000000);
    CHECK("what another process held at fork counts for nothing", atomic_load(&turn.holder) == hints_home());
    return 0;
}
