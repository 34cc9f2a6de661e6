/* The guest runtime for components in C (freestanding C11, no libc). See guests/c/README.md.
 *
 * Results are 0 or one of the ABI's negative errors (R3_ERROR_*), unless something else is said. */
#ifndef R3S3_H
#define R3S3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "generated.h" /* of hypervisor/abi */

/* ---- what a component defines: why it was started is which of them is called. None returns. */

_Noreturn void r3s3_fresh(void);
_Noreturn void r3s3_restart(void);
_Noreturn void r3s3_update(void);

/* ---- the world */

/* What the hypervisor says about this VM; valid from the start on. */
#define R3S3_INFO ((const volatile struct r3_info *)R3_INFO)

/* The first memory object of a kind (R3_REGION_KIND_*), with that name or (NULL) any; `noent`. */
int r3s3_region(uint32_t kind, const char *name, struct r3_region_entry *entry);
/* What was agreed on with the device. */
uint64_t r3s3_device_features(void);
/* Initialisation is over. */
void r3s3_ready(void);
/* A line of the log: the text and the number. */
void r3s3_log(uint32_t level, const char *text, uint64_t number);
/* Dies with a message. */
_Noreturn void r3s3_panic(const char *text);
#define R3S3_TEXT(number) R3S3_TEXT_(number)
#define R3S3_TEXT_(number) #number
#define R3S3_PANIC(text) r3s3_panic(text ", at " __FILE__ ":" R3S3_TEXT(__LINE__))
#define R3S3_ASSERT(condition, text) ((condition) ? (void)0 : R3S3_PANIC(text))
/* R3_DOORBELL_QUEUE + n: kicks virtqueue n. */
void r3s3_doorbell(uint32_t index);

/* ---- a server */

struct r3s3_port; /* all clients of one interface */

/* Names a request in progress. Stale once it is answered, or its client is gone. */
struct r3s3_ticket {
    uint32_t client; /* the channel's index */
    uint32_t private[3];
};

/* A request as it was taken from the ring: a private copy. */
struct r3s3_request {
    struct r3s3_ticket ticket;
    uint32_t op;
    uint32_t length; /* input bytes in the data buffer */
    uint64_t args[5]; /* struct r3_PROTOCOL_OPERATION_args lies here */
};

enum r3s3_event {
    R3S3_NOTHING, /* the round is over */
    R3S3_REQUEST,
    R3S3_ENDED, /* the client in the ticket has gone: forget what belongs to it */
};

/* The port of an interface; `protocol` is its number << 16 | its version. Panics if there is no such thing. */
struct r3s3_port *r3s3_serve(const char *interface, uint32_t protocol);
/* A round takes a bounded number of requests from each client. What must not be asked is not seen here. */
void r3s3_begin_round(struct r3s3_port *port);
enum r3s3_event r3s3_next(struct r3s3_port *port, struct r3s3_request *request);
/* Copies input (output) bytes out of (into) the data buffer; `stale`, `range`. */
int r3s3_input(struct r3s3_port *port, struct r3s3_ticket ticket, size_t offset, void *into, size_t bytes);
int r3s3_output(struct r3s3_port *port, struct r3s3_ticket ticket, size_t offset, const void *from, size_t bytes);
/* Answers: an error, or (0) `args` (NULL: none), of `size` bytes, and `length` bytes of output. */
void r3s3_reply(struct r3s3_port *port, struct r3s3_ticket ticket, int status, const void *args, size_t size,
                uint32_t length);

/* ---- waiting */

/* Something beside the clients that this VM waits for, a virtqueue for instance. */
struct r3s3_source {
    void *self;
    bool (*ready)(void *self);          /* is there something to do? Cheap, called again and again */
    void (*announce_sleep)(void *self); /* from here on the peer has to ring; a fence and `ready` follow */
    void (*announce_awake)(void *self); /* it need not any more */
};

/* Waits until a client (port NULL: nobody) or the source (NULL: none) has something to do. */
void r3s3_wait(struct r3s3_port *port, const struct r3s3_source *source);

/* ---- state that outlives an instance: read as one likes, changed in transactions only */

enum r3s3_found {
    R3S3_FOUND_FRESH, R3S3_FOUND_RESTORED, R3S3_FOUND_ROLLED_BACK, R3S3_FOUND_OLDER_COPY, R3S3_FOUND_LOST,
    R3S3_FOUND_OTHER_SCHEMA
};

struct r3s3_tx;

/* Opens region `name` of the manifest; *size: bytes wanted, 0 for all; then the bytes there are. All zero at first. */
int r3s3_state_open(const char *name, const void **data, size_t *size, int *found);
struct r3s3_tx *r3s3_tx_begin(void);
/* Stores to a place in the state. */
void r3s3_tx_write(struct r3s3_tx *transaction, const void *field, const void *value, size_t size);
/* Everything written has happened when this returns 0, nothing if it fails (`nospc`) or never returns. */
int r3s3_tx_commit(struct r3s3_tx *transaction);
void r3s3_tx_abort(struct r3s3_tx *transaction);

/* ---- tests */

/* Where a test can make this VM die: nothing unless built with the condition kill_points. */
#ifdef KILL_POINTS
void r3s3_kill_point(const char *name);
#define R3S3_KILL_POINT(name) r3s3_kill_point(name)
#else
#define R3S3_KILL_POINT(name) ((void)0)
#endif

#endif
