/* The audio driver: serves audio@1 with a virtual sound device. See README.md. */
#include "stream.h"

void r3s3_fresh(void)
{
    stream_open();
    stream_restore();
    stream_ready();
    stream_serve();
}

/* The state says how far the stream is, and the device; clients send again what was not answered. */
void r3s3_restart(void)
{
    r3s3_fresh();
}

/* The state's schema is the same. The device answers only who has said that he is ready: until then it is the old
 * version's. */
void r3s3_update(void)
{
    stream_open();
    stream_ready();
    stream_restore();
    stream_serve();
}
