/* directory.h - from a decision to the path of a socket. */
#ifndef SOCKETBOX_PRELOAD_DIRECTORY_H
#define SOCKETBOX_PRELOAD_DIRECTORY_H

#include "decide.h"

/* 0 or -errno: what opening and reading the directory file says, or decide_record. */
int directory_path(const struct decision *decision, uint16_t port, char path[SOCKET_PATH_ROOM]);

#endif
