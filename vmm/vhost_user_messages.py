"""The vhost-user protocol as both ends speak it: numbers, features and record layouts.

Source: "Vhost-user Protocol" in QEMU's interoperability documents, and virtio 1.2 for the feature bits.
A message is a 12-byte header (request, flags, payload size; little endian), then the payload;
file descriptors travel with the header.
"""

from __future__ import annotations

import struct
from enum import IntEnum

HEADER = struct.Struct("<III")  # request, flags, payload size
U64 = struct.Struct("<Q")
VRING_STATE = struct.Struct("<II")  # queue, number
VRING_ADDR = struct.Struct("<IIQQQQ")  # queue, flags, descriptors, used, available, log
TABLE_HEAD = struct.Struct("<II")  # regions, padding
REGION = struct.Struct("<QQQQ")  # guest address, size, user address, offset in the file
SINGLE_REGION = struct.Struct("<Q32s")  # padding, region
CONFIG_HEAD = struct.Struct("<III")  # offset, size, flags

VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3

TABLE_REGIONS_MAX = 8  # of SET_MEM_TABLE; more go by ADD_MEM_REG


# Requests by number.
Request = IntEnum("Request", {
    "GET_FEATURES": 1, "SET_FEATURES": 2, "SET_OWNER": 3, "RESET_OWNER": 4, "SET_MEM_TABLE": 5,
    "SET_VRING_NUM": 8, "SET_VRING_ADDR": 9, "SET_VRING_BASE": 10, "GET_VRING_BASE": 11,
    "SET_VRING_KICK": 12, "SET_VRING_CALL": 13, "SET_VRING_ERR": 14, "GET_PROTOCOL_FEATURES": 15,
    "SET_PROTOCOL_FEATURES": 16, "GET_QUEUE_NUM": 17, "SET_VRING_ENABLE": 18, "GET_CONFIG": 24,
    "SET_CONFIG": 25, "RESET_DEVICE": 34, "GET_MAX_MEM_SLOTS": 36, "ADD_MEM_REG": 37, "REM_MEM_REG": 38,
})  # fmt: skip

# Optional parts of the protocol, as bits.
ProtocolFeature = IntEnum("ProtocolFeature", {
    "MQ": 1 << 0, "REPLY_ACK": 1 << 3, "CONFIG": 1 << 9, "RESET_DEVICE": 1 << 13,
    "CONFIGURE_MEM_SLOTS": 1 << 15,
})  # fmt: skip
# Without these nothing goes.
PROTOCOL_NEEDED = (
    ProtocolFeature.REPLY_ACK | ProtocolFeature.CONFIG | ProtocolFeature.MQ
    | ProtocolFeature.CONFIGURE_MEM_SLOTS
)  # fmt: skip

# Virtio feature bits: of a block device, and of the transport. (PROTOCOL_FEATURES is vhost-user's own.)
Feature = IntEnum("Feature", {
    "BLK_SIZE_MAX": 1 << 1, "BLK_SEG_MAX": 1 << 2, "BLK_RO": 1 << 5, "BLK_SIZE": 1 << 6, "BLK_FLUSH": 1 << 9,
    "BLK_MQ": 1 << 12, "BLK_DISCARD": 1 << 13, "BLK_WRITE_ZEROES": 1 << 14,
    "EVENT_IDX": 1 << 29, "PROTOCOL_FEATURES": 1 << 30, "VERSION_1": 1 << 32,
})  # fmt: skip
