/* The stream: what clients ask for becomes requests of the device, what survives a death, and the answers. */
#ifndef STREAM_H
#define STREAM_H

#include "r3s3.h"

/* Opens state and device. */
void stream_open(void);
/* Gives the device the format there was, and asks it where the stream is. */
void stream_restore(void);
/* Opens the service, and says so. */
void stream_ready(void);
/* Serves for ever. */
_Noreturn void stream_serve(void);

#endif
