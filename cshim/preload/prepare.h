/* prepare.h - descriptors that came from outside. */
#ifndef SOCKETBOX_PRELOAD_PREPARE_H
#define SOCKETBOX_PRELOAD_PREPARE_H

/* Notes what fd is, in the shape that receive_each calls. */
void prepare_look_at(void *context, int fd);

#endif
