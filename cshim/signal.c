/* signal.c - signals as bytes in a pipe, so that a reactor sees them like everything else.
 * (signalfd(2) would need the signals blocked in every thread, and Bun's threads are there before us.) */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <signal.h>

static int pipe_in = -1;

static void note_signal(int signal) {
    int saved = errno;
    unsigned char byte = (unsigned char)signal;
    /* A full pipe holds thousands of unread signals already: one more says nothing new. */
    if (write(pipe_in, &byte, 1) < 0)
        errno = saved;
    errno = saved;
}

/* From now on each of the signals (bit N-1: signal N) writes its number as one byte; returns the reading end.
 */
int sb_signal_fd(uint64_t signals) {
    int ends[2];
    if (pipe_in >= 0)
        return -EBUSY;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    pipe_in = ends[1];
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    sigset_t wanted;
    sigemptyset(&wanted);
    for (int signal = 1; signal <= 64; signal++) {
        if (!(signals >> (signal - 1) & 1))
            continue;
        if (sigaction(signal, &action, NULL) < 0)
            return -errno;
        sigaddset(&wanted, signal);
    }
    /* Whoever started us may have blocked them; one thread that takes them is enough. */
    int error = pthread_sigmask(SIG_UNBLOCK, &wanted, NULL);
    return error ? -error : ends[0];
}
