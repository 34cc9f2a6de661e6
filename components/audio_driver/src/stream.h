/* The stream: what clients ask for becomes requests of the device, what survives a death, and the answers. */
#ifndef STREAM_H
#define STREAM_H

#include "r3s3.h"

/* Opens state and device, and asks the device where the stream is. */
void stream_open(void);
/* Serves for ever. */
_Noreturn void stream_serve(void);

#endif
