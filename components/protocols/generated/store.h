/* Generated from components/protocols/store.toml by `python -m components.protocols.generate`. Do not edit. */
/* Names with typed values; who subscribes to a prefix is told each change once, in order, whoever dies
   meanwhile. */
#ifndef R3_STORE_H
#define R3_STORE_H

#include <stddef.h>
#include <stdint.h>

#define R3_STORE_NUMBER 9
#define R3_STORE_VERSION 1
#define R3_STORE_NAME_MAX 64u
#define R3_STORE_VALUE_MAX 256u
#define R3_STORE_NAMES_MAX 32u
#define R3_STORE_SUBSCRIPTIONS_MAX 4u
#define R3_STORE_CHANGES_MAX 512u
#define R3_STORE_ABSENT 9223372036854775807ull

#define R3_STORE_KIND_NONE 0u
#define R3_STORE_KIND_UNSIGNED 1u
#define R3_STORE_KIND_SIGNED 2u
#define R3_STORE_KIND_BYTES 3u
#define R3_STORE_KIND_STRING 4u

/* Give a name a value: the input is the name and then the value. `expected`: nothing is done (`stale`) unless
   this is the name's version; 0: any or none. A name keeps its kind until it is deleted (`inval`). `nospc`:
   this client has set as many names as it may. */
#define R3_STORE_OP_SET 1
struct r3_store_set_args {
    uint64_t expected;
    uint32_t kind;
    uint32_t name_length;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_set_args, expected) == 0, "expected");
_Static_assert(offsetof(struct r3_store_set_args, kind) == 8, "kind");
_Static_assert(offsetof(struct r3_store_set_args, name_length) == 12, "name_length");
_Static_assert(sizeof(struct r3_store_set_args) <= 40, "size");
struct r3_store_set_returns {
    uint64_t version;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_set_returns, version) == 0, "version");
_Static_assert(sizeof(struct r3_store_set_returns) <= 40, "size");

/* Delete the name that is the input; `expected` as above. The version returned is the number of the deletion.
   */
#define R3_STORE_OP_DELETE 2
struct r3_store_delete_args {
    uint64_t expected;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_delete_args, expected) == 0, "expected");
_Static_assert(sizeof(struct r3_store_delete_args) <= 40, "size");
struct r3_store_delete_returns {
    uint64_t version;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_delete_returns, version) == 0, "version");
_Static_assert(sizeof(struct r3_store_delete_returns) <= 40, "size");

/* The value of the name that is the input. */
#define R3_STORE_OP_GET 3
struct r3_store_get_returns {
    uint64_t version;
    uint32_t kind;
    uint32_t length;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_get_returns, version) == 0, "version");
_Static_assert(offsetof(struct r3_store_get_returns, kind) == 8, "kind");
_Static_assert(offsetof(struct r3_store_get_returns, length) == 12, "length");
_Static_assert(sizeof(struct r3_store_get_returns) <= 40, "size");

/* Names below a prefix in the order of their bytes, with their values: entry records, each with its name,
   then its value, padded to 8 bytes. The input is the prefix and then a name, after which the page begins
   (nothing: the first page). `end`: no more. `changes`: so many there had been. */
#define R3_STORE_OP_LIST 4
struct r3_store_list_args {
    uint32_t prefix_length;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_list_args, prefix_length) == 0, "prefix_length");
_Static_assert(sizeof(struct r3_store_list_args) <= 40, "size");
struct r3_store_list_returns {
    uint64_t changes;
    uint32_t bytes;
    uint32_t end;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_list_returns, changes) == 0, "changes");
_Static_assert(offsetof(struct r3_store_list_returns, bytes) == 8, "bytes");
_Static_assert(offsetof(struct r3_store_list_returns, end) == 12, "end");
_Static_assert(sizeof(struct r3_store_list_returns) <= 40, "size");

/* From now on keep a position among the changes below the prefix that is the input; `subscription` (0 to
   subscriptions_max - 1) is the client's name for it. One that there is already for this prefix keeps its
   position, unless `anew`. It outlives the client's instances. `position`: changes up to this number are
   acknowledged. */
#define R3_STORE_OP_SUBSCRIBE 5
struct r3_store_subscribe_args {
    uint32_t subscription;
    uint32_t anew;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_subscribe_args, subscription) == 0, "subscription");
_Static_assert(offsetof(struct r3_store_subscribe_args, anew) == 4, "anew");
_Static_assert(sizeof(struct r3_store_subscribe_args) <= 40, "size");
struct r3_store_subscribe_returns {
    uint64_t position;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_subscribe_returns, position) == 0, "position");
_Static_assert(sizeof(struct r3_store_subscribe_returns) <= 40, "size");

/* Forget a subscription; those that wait for its changes are told `badf`. */
#define R3_STORE_OP_UNSUBSCRIBE 6
struct r3_store_unsubscribe_args {
    uint32_t subscription;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_unsubscribe_args, subscription) == 0, "subscription");
_Static_assert(sizeof(struct r3_store_unsubscribe_args) <= 40, "size");

/* The first change after number `after` that is neither acknowledged, the output being the name and then the
   value; waits until there is one. `gap`: a change that was not acknowledged can be had no more. Then
   subscribe `anew`, and list. */
#define R3_STORE_OP_NEXT 7
struct r3_store_next_args {
    uint64_t after;
    uint32_t subscription;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_next_args, after) == 0, "after");
_Static_assert(offsetof(struct r3_store_next_args, subscription) == 8, "subscription");
_Static_assert(sizeof(struct r3_store_next_args) <= 40, "size");
struct r3_store_next_returns {
    uint64_t number;
    uint32_t kind;
    uint32_t name_length;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_next_returns, number) == 0, "number");
_Static_assert(offsetof(struct r3_store_next_returns, kind) == 8, "kind");
_Static_assert(offsetof(struct r3_store_next_returns, name_length) == 12, "name_length");
_Static_assert(sizeof(struct r3_store_next_returns) <= 40, "size");

/* Changes up to this number will not be asked for again, by no instance of this client. */
#define R3_STORE_OP_ACKNOWLEDGE 8
struct r3_store_acknowledge_args {
    uint64_t number;
    uint32_t subscription;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_acknowledge_args, number) == 0, "number");
_Static_assert(offsetof(struct r3_store_acknowledge_args, subscription) == 8, "subscription");
_Static_assert(sizeof(struct r3_store_acknowledge_args) <= 40, "size");

/* Changes so far, names there are, names that count for this client, and the subscriptions of all clients. */
#define R3_STORE_OP_STATUS 9
struct r3_store_status_returns {
    uint64_t changes;
    uint32_t names;
    uint32_t own_names;
    uint32_t subscriptions;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_status_returns, changes) == 0, "changes");
_Static_assert(offsetof(struct r3_store_status_returns, names) == 8, "names");
_Static_assert(offsetof(struct r3_store_status_returns, own_names) == 12, "own_names");
_Static_assert(offsetof(struct r3_store_status_returns, subscriptions) == 16, "subscriptions");
_Static_assert(sizeof(struct r3_store_status_returns) <= 40, "size");

/* A name and its value, in a list. */
#define R3_STORE_ENTRY_SIZE 16
struct r3_store_entry {
    uint64_t version;
    uint32_t kind;
    uint16_t name_length;
    uint16_t value_length;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_store_entry, version) == 0, "version");
_Static_assert(offsetof(struct r3_store_entry, kind) == 8, "kind");
_Static_assert(offsetof(struct r3_store_entry, name_length) == 12, "name_length");
_Static_assert(offsetof(struct r3_store_entry, value_length) == 14, "value_length");
_Static_assert(sizeof(struct r3_store_entry) <= 16, "size");

#endif
