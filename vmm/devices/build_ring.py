"""Builds `vmm.devices._ring`, the C half of the virtual devices, in place: `python -m
vmm.devices.build_ring`."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent

DECLARATIONS = """
#define WINDOWS_MAX ...
#define QUEUE_SIZE_MAX ...
#define QUEUES_MAX ...
#define COUNTERS ...
#define REQUEST_BYTES_MAX ...

struct device;
struct window_request { int fd; uint64_t guest, user, size, offset; };

struct device *device_open(int file, uint64_t sectors, bool read_only, uint32_t queues, uint64_t *counters,
                           const char *serial);
struct device *sound_open(int file, uint32_t rate, uint32_t channels, uint64_t frames, uint64_t *counters);
void device_negotiated(struct device *device, bool event_index, bool write_back);

int device_set_windows(struct device *device, uint32_t count, const struct window_request *requests);
int device_add_window(struct device *device, const struct window_request *request);
int device_remove_window(struct device *device, uint64_t guest, uint64_t user, uint64_t size);

void queue_set_kick(struct device *device, uint32_t index, int descriptor);
void queue_set_call(struct device *device, uint32_t index, int descriptor);
void queue_set_error(struct device *device, uint32_t index, int descriptor);
int queue_start(struct device *device, uint32_t index, uint32_t size, uint64_t descriptors,
                uint64_t available, uint64_t used, uint16_t next_available);
uint16_t queue_stop(struct device *device, uint32_t index);
"""

# What Python calls; device.h holds what the C files share among themselves.
PROTOTYPES = '#include "device.h"\n' + DECLARATIONS[DECLARATIONS.index("struct device *device_open") :]


def builder() -> FFI:
    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source(
        "vmm.devices._ring",
        PROTOTYPES,
        sources=[str(HERE / name) for name in ("ring.c", "pieces.c", "block.c", "sound.c", "guest_memory.c")],
        depends=[str(HERE / "device.h")],
        include_dirs=[str(HERE)],
        extra_compile_args=[
            "-std=gnu11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Wno-missing-field-initializers",
            "-g0",
        ],
        libraries=["pthread"],
    )
    return ffi


def build() -> Path:
    """Compiles and returns the path of the extension module, which lies beside this file."""
    root = HERE.parent.parent
    return Path(builder().compile(tmpdir=str(root / "build" / "cffi"), target=str(HERE / "_ring.*")))


if __name__ == "__main__":
    print(build())
