"""What a captured process tries: the table behind tests/security/README.md and test_captured.py.

`python -m tests.security.tries` prints it as the README has it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import NamedTuple

from tests.security.captive import Captive

# Bytes are placed in its memory, and their address is meant.
Argument = int | bytes | Callable[[Captive], int]
EVERYBODY = ("tender", "device", "keeper")

GIB = 1 << 30
SELF, OTHER, INIT, GROUP = 0, 2, 1, -1  # process ids as the captive sees them
HERE = -100  # AT_FDCWD
PROC, MEMORY, KVM, EMPTY = b"/proc/self/maps\0", b"/proc/1/mem\0", b"/dev/kvm\0", b"\0"
ROOT, FILE, ETC = b"/\0", b"/file\0", b"/etc\0"
ROOM = bytes(512)
READ, WRITE, EXECUTE = 1, 2, 4
SHARED, PRIVATE, ANONYMOUS, GROWS_DOWN, LOCKED, NO_RESERVE = 1, 2, 0x20, 0x100, 0x2000, 0x4000
HUGE_PAGES, DROPPABLE = 0x40000, 8
MAY_MOVE = 1
NEW_NAMESPACES = {
    "user": 0x10000000, "mount": 0x20000, "process": 0x20000000, "network": 0x40000000, "ipc": 0x8000000,
    "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80,
}  # fmt: skip
SIGKILL, SIGCHLD = 9, 17


def sock(captive: Captive) -> int:
    """The one socket it has."""
    return captive.descriptor("socket:")


def vector(captive: Captive) -> int:
    """A struct iovec on a few bytes of its own."""
    return captive.place(struct.pack("<QQ", captive.place(bytes(16)), 16))


def reserved(captive: Captive) -> int:
    """A range of addresses of 1 GiB without memory, which costs nothing; the same each time."""
    if not captive.reserved:
        flags = PRIVATE | ANONYMOUS | NO_RESERVE
        captive.reserved = captive.call(9, 0, GIB, 0, flags, -1, 0)
    return captive.reserved


def disk_file(captive: Captive) -> int:
    """The descriptor of the file its disk is made of."""
    return captive.descriptor("/memfd:disk")


def file_end(captive: Captive) -> int:
    """The size of that file."""
    return captive.call(8, disk_file(captive), 0, 2)


class Try(NamedTuple):
    """One attempt: system call and arguments, the error that is expected, the jails where it is tried."""

    what: str
    number: int
    arguments: tuple[Argument, ...] = ()
    expected: int = errno.EPERM
    who: tuple[str, ...] = EVERYBODY

    def by(self, captive: Captive) -> int:
        """Let it try; the errno, or 0 where it was not refused."""
        captive.forget()
        values = [_value(captive, each) for each in self.arguments]
        return -min(captive.call(self.number, *values), 0)


def _value(captive: Captive, argument: Argument) -> int:
    if isinstance(argument, bytes):
        return captive.place(argument)
    return argument if isinstance(argument, int) else argument(captive)


TENDER, DEVICE, KEEPER = ("tender",), ("device",), ("keeper",)
NO_DEVICE, NO_KEEPER = ("tender", "keeper"), ("tender", "device")

# aim -> name -> attempt
TRIES: dict[str, dict[str, Try]] = {
    "files": {
        "open": Try("read a file", 2, (ROOT, 0)),
        "openat": Try("the same from a folder", 257, (HERE, ROOT, 0)),
        "openat2": Try("the same, by its newer name", 437, (HERE, ROOT, bytes(24), 24)),
        "openat_proc": Try("look at itself in /proc", 257, (HERE, PROC, 0)),
        "open_by_handle": Try("open a file past all paths", 304, (3, bytes(64), 0)),
        "creat": Try("make a file", 85, (FILE, 0o666)),
        "mkdir": Try("make a folder", 83, (FILE, 0o777)),
        "mknod": Try("make a device node", 133, (FILE, 0o20666, 0x5_00)),
        "symlink": Try("make a link", 88, (ROOT, FILE)),
        "link": Try("make another name of a descriptor's file", 265, (0, EMPTY, HERE, FILE, 0x1000)),
        "rename": Try("rename a file", 82, (ROOT, FILE)),
        "unlink": Try("remove a file", 87, (FILE,)),
        "chmod": Try("make a file everybody's", 90, (ROOT, 0o777)),
        "fchmod": Try("make a descriptor's file everybody's", 91, (0, 0o777)),
        "chown": Try("take a file", 92, (ROOT, 0, 0)),
        "setxattr": Try("give a file capabilities", 188, (FILE, b"security.capability\0", ROOM, 20, 0)),
        "stat": Try("see whether a file is there", 4, (ROOT, ROOM)),
        "stat_path": Try("the same, by way of fstat", 262, (HERE, ETC, ROOM, 0x1000), errno.EACCES, KEEPER),
        "getdents": Try("list a folder", 217, (0, ROOM, 512)),
        "readlink": Try("see where a link of /proc leads", 89, (b"/proc/self/exe\0", ROOM, 512)),
        "chdir": Try("go to another folder", 80, (ROOT,)),
        "truncate": Try("empty a file", 76, (FILE, 0)),
        "ftruncate": Try("resize a descriptor's memory", 77, (sock, 0)),
        "sendfile": Try("copy from a descriptor", 40, (sock, 0, 0, 16)),
        "splice": Try("move pages between descriptors", 275, (0, 0, 1, 0, 1, 0)),
        "vmsplice": Try("give pages away", 278, (1, vector, 1, 0)),
        "copy_file_range": Try("copy between files", 326, (0, 0, 1, 0, 16, 0)),
        "inotify": Try("watch files", 294, (0,)),
        "fanotify": Try("watch a file system", 300, (0, 0)),
        "flock": Try("lock a file that others use", 73, (0, 2)),
        "fcntl": Try("take the seals or flags of a descriptor", 72, (0, 1033, 0)),
        "dup": Try("copy a descriptor", 32, (0,)),
        "dup3": Try("copy a descriptor over another", 292, (0, 1, 0)),
        "grow": Try("a larger file for its disk", 18, (disk_file, ROOM, 1, file_end), errno.EFBIG, DEVICE),
        "fallocate_grow": Try("the same without writing", 285, (disk_file, 0, 0, GIB), errno.EPERM, DEVICE),
        "fallocate": Try("free what another descriptor holds", 285, (0, 3, 0, 4096)),
        "pread": Try("read at a place of a descriptor", 17, (0, ROOM, 1, 0), errno.EPERM, TENDER),
    },
    "mounts and roots": {
        "mount": Try("mount something", 165, (ROOT, ROOT, b"proc\0", 0, 0)),
        "fsopen": Try("mount it the newer way", 430, (b"proc\0", 0)),
        "open_tree": Try("copy a mount", 428, (HERE, ROOT, 1)),
        "move_mount": Try("move a mount", 429, (HERE, ROOT, HERE, ROOT, 0)),
        "umount": Try("take a mount away", 166, (ROOT, 2)),
        "chroot": Try("another root", 161, (ROOT,)),
        "pivot_root": Try("the old root again", 155, (ROOT, ROOT)),
        "swapon": Try("use a file as swap", 167, (FILE, 0)),
        "quotactl": Try("change quotas", 179, (0, ROOT, 0, ROOM)),
    },
    "processes": {
        "kill_all": Try("signal everybody it can see", 62, (GROUP, SIGKILL)),
        "kill_init": Try("signal process 1", 62, (INIT, SIGKILL)),
        "kill_other": Try("signal another process", 62, (OTHER, SIGKILL)),
        "tkill": Try("signal a thread", 200, (OTHER, SIGKILL)),
        "tgkill": Try("signal a thread of another process", 234, (OTHER, OTHER, SIGKILL)),
        "tgkill_unknown": Try("signal a thread it does not have", 234, (INIT, 99999, SIGKILL), errno.ESRCH),
        "sigqueue": Try("signal with a forged sender", 129, (OTHER, SIGKILL, ROOM)),
        "pidfd_signal": Try("signal by descriptor", 424, (0, SIGKILL, 0, 0)),
        "pidfd_open": Try("a descriptor of a process", 434, (OTHER, 0)),
        "pidfd_getfd": Try("another's descriptor", 438, (0, 0, 0)),
        "ptrace": Try("trace a process", 101, (16, OTHER, 0, 0)),
        "ptrace_me": Try("be traced", 101, (0, 0, 0, 0)),
        "kcmp": Try("compare with another process", 312, (INIT, OTHER, 0, 0, 0)),
        "wait": Try("wait for a child", 61, (-1, 0, 1, 0)),
        "fork": Try("fork", 57),
        "vfork": Try("fork, borrowing memory", 58),
        "clone": Try("a new process", 56, (SIGCHLD, 0, 0, 0, 0)),
        "clone_thread": Try("another thread", 56, (0x3D0F00, 0, 0, 0, 0), errno.EPERM, NO_DEVICE),
        "clone_files": Try("a process that shares its files", 56, (0x400 | SIGCHLD, 0, 0, 0, 0)),
        "clone3": Try("clone with flags no filter sees", 435, (bytes(88), 88), errno.ENOSYS),
        "sched_priority": Try("real-time priority", 144, (SELF, 1, bytes(4))),
        "sched_attributes": Try("a deadline of its own", 314, (SELF, bytes(56), 0)),
        "affinity": Try("choose its CPUs", 203, (SELF, 8, ROOM)),
        "nice": Try("priority over others", 141, (0, 0, -20)),
        "ioprio": Try("priority of its disk accesses", 251, (1, 0, 0)),
        "session": Try("a session of its own", 112),
        "process_group": Try("another process group", 109, (SELF, SELF)),
        "core_sched": Try("prctl: share a core with others", 157, (62, 1, INIT, 0, 0)),
    },
    "others' memory": {
        "open_mem": Try("open /proc/1/mem", 257, (HERE, MEMORY, 2)),
        "vm_read": Try("read another's memory", 310, (OTHER, vector, 1, vector, 1, 0)),
        "vm_write": Try("write another's memory", 311, (OTHER, vector, 1, vector, 1, 0)),
        "vm_madvise": Try("have another's memory thrown away", 440, (0, vector, 1, 4, 0)),
        "vm_release": Try("tear down a dead one's memory", 448, (0, 0)),
        "migrate_pages": Try("move another's memory", 256, (OTHER, 8, ROOM, ROOM)),
        "move_pages": Try("see where another's pages are", 279, (OTHER, 0, 0, 0, 0, 0)),
        "punch_hole": Try("punch holes into shared memory", 28, (0, 4096, 9)),
        "merge": Try("have its pages merged with equal ones, to find those", 28, (0, 4096, 12)),
        "soft_offline": Try("take a page out of use", 28, (0, 4096, 101)),
        "mincore": Try("see what of a file is in memory", 27, (0, 4096, ROOM)),
        "cachestat": Try("the same by descriptor", 451, (0, ROOM, ROOM, 0)),
        "membarrier": Try("interrupt all CPUs", 324, (1, 0, 0)),
    },
    "network": {
        "socket_unix": Try("a local socket", 41, (1, 1, 0)),
        "socket_inet": Try("an Internet socket", 41, (2, 1, 0)),
        "socket_packet": Try("raw packets", 41, (17, 3, 0)),
        "socket_netlink": Try("talk to the kernel about interfaces", 41, (16, 3, 0)),
        "socket_vsock": Try("talk to a host or a guest", 41, (40, 1, 0)),
        "socket_alg": Try("the kernel's ciphers", 41, (38, 5, 0)),
        "socketpair": Try("two sockets", 53, (1, 1, 0, ROOM)),
        "pipe": Try("a pipe", 22, (ROOM,)),
    },
    "the hypervisor's socket": {
        "connect": Try("connect it to somebody else", 42, (sock, b"\1\0/run/x", 8)),
        "bind": Try("give it a name", 49, (sock, b"\1\0\0r3s3", 7)),
        "listen": Try("take connections", 50, (sock, 1)),
        "accept": Try("take one", 43, (sock, 0, 0)),
        "shutdown": Try("close one direction only", 48, (sock, 1)),
        "setsockopt": Try("a larger buffer than it was given", 54, (sock, 1, 32, bytes(4), 4)),
        "getsockopt": Try("who is at the other end", 55, (sock, 1, 17, ROOM, ROOM)),
        "getpeername": Try("the other end's name", 52, (sock, ROOM, ROOM)),
        "sendto": Try("send to somebody else", 44, (sock, ROOM, 16, 0, b"\1\0/run/x", 8)),
        "recvfrom": Try("receive by another call", 45, (sock, ROOM, 16, 0x40, 0, 0)),
        "sendmmsg": Try("many records in one call", 307, (sock, ROOM, 1, 0)),
        "recvmmsg": Try("receive many", 299, (sock, ROOM, 1, 0x40, 0)),
    },
    "namespaces": {
        f"unshare_{name}": Try(f"a new {name} namespace", 272, (flag,))
        for name, flag in NEW_NAMESPACES.items()
    } | {
        f"clone_{name}": Try(f"a child in a new {name} namespace", 56, (flag | SIGCHLD, 0, 0, 0, 0))
        for name, flag in NEW_NAMESPACES.items()
        if flag > 0xFF
    } | {
        "setns": Try("enter another namespace", 308, (0, 0)),
        "sethostname": Try("name the machine", 170, (ROOT, 1)),
    },
    "users and capabilities": {
        "setuid": Try("become root", 105, (0,)),
        "setgid": Try("root's group", 106, (0,)),
        "setresuid": Try("become root in every way", 117, (0, 0, 0)),
        "setgroups": Try("more groups", 116, (1, ROOM)),
        "setfsuid": Try("root's rights to files", 122, (0,)),
        "capset": Try("capabilities", 126, (struct.pack("<Ii", 0x20080522, 0), b"\xff" * 24)),
        "prctl_keep": Try("keep capabilities", 157, (8, 1, 0, 0, 0)),
        "prctl_ambient": Try("ambient capabilities", 157, (47, 2, 0, 0, 0)),
        "prctl_securebits": Try("unlock what was locked", 157, (28, 0, 0, 0, 0)),
        "prctl_new_privileges": Try("take back: no new privileges", 157, (38, 0, 0, 0, 0)),
        "prctl_dumpable": Try("let itself be traced", 157, (4, 1, 0, 0, 0)),
        "prctl_seccomp": Try("another filter", 157, (22, 1, 0, 0, 0)),
        "seccomp": Try("the same by its own call", 317, (0, 0, 0)),
        "prlimit": Try("higher limits", 302, (0, 4, b"\xff" * 16, 0)),
        "setrlimit": Try("the same, older", 160, (4, b"\xff" * 16)),
        "landlock": Try("rules of its own", 444, (ROOM, 8, 0)),
        "personality": Try("readable means executable", 135, (0x400000,)),
    },
    "the kernel": {
        "bpf": Try("load a BPF program", 321, (5, ROOM, 120)),
        "perf": Try("count events of the CPU", 298, (bytes(128), 0, -1, -1, 0)),
        "userfaultfd": Try("handle page faults", 323, (1,)),
        "io_uring_setup": Try("a ring of system calls", 425, (1, bytes(120))),
        "io_uring_enter": Try("enter one", 426, (0, 1, 0, 0, 0, 0)),
        "io_uring_register": Try("register in one", 427, (0, 0, 0, 0)),
        "aio": Try("asynchronous I/O", 206, (1, ROOM)),
        "keyctl": Try("its session's keys", 250, (0, -3, 1)),
        "add_key": Try("a key", 248, (b"user\0", FILE, ROOM, 8, -3)),
        "request_key": Try("have the host make a key", 249, (b"user\0", FILE, 0, -3)),
        "init_module": Try("load a module", 175, (ROOM, 512, EMPTY)),
        "finit_module": Try("load one from a descriptor", 313, (0, EMPTY, 0)),
        "delete_module": Try("unload a module", 176, (FILE, 0)),
        "kexec": Try("another kernel", 246, (0, 0, 0, 0)),
        "kexec_file": Try("another kernel from a file", 320, (0, 0, 0, EMPTY, 0)),
        "reboot": Try("restart the machine", 169, (0xFEE1DEAD, 672274793, 0x1234567, 0)),
        "syslog": Try("read the kernel's messages", 103, (3, ROOM, 512)),
        "sysfs": Try("ask for file systems", 139, (3,)),
        "iopl": Try("I/O ports", 172, (3,)),
        "ioperm": Try("one I/O port", 173, (0x80, 1, 1)),
        "modify_ldt": Try("a code segment of its own", 154, (1, ROOM, 16)),
        "arch_prctl": Try("more CPU state", 158, (0x1023, 18)),
        "settimeofday": Try("set the clock", 164, (ROOM, 0)),
        "clock_settime": Try("set the clock, newer", 227, (0, ROOM)),
        "clock_adjtime": Try("let the clock run faster", 305, (0, ROOM)),
        "lookup_dcookie": Try("a path by its cookie", 212, (0, ROOM, 512)),
        "acct": Try("have every end of a process recorded", 163, (FILE,)),
        "vhangup": Try("hang up terminals", 153),
        "secret": Try("memory the host cannot see", 447, (0,)),
        "map_shadow_stack": Try("a shadow stack", 453, (0, 4096, 0)),
    },
    "KVM": {
        "create_vm": Try("another VM", 16, (0, 0xAE01, 0)),
        "create_vcpu": Try("another vCPU", 16, (0, 0xAE41, 1)),
        "create_device": Try("a device in the kernel", 16, (0, 0xC00CAEE0, ROOM)),
        "guest_memfd": Try("memory only a guest can see", 16, (0, 0xC040AED4, ROOM)),
        "irqfd": Try("interrupts by descriptor", 16, (0, 0x4020AE76, ROOM)),
        "irqchip": Try("an interrupt controller in the kernel", 16, (0, 0xAE60, 0)),
        "enable_cap": Try("another capability of KVM", 16, (0, 0x4068AEA3, ROOM)),
        "memory_region": Try("make KVM keep books on terabytes", 16, (0, 0x4020AE46, ROOM)),
        "set_msrs": Try("model-specific registers", 16, (0, 0x4008AE89, ROOM)),
        "set_cpuid": Try("another CPU", 16, (0, 0x4008AE90, ROOM)),
        "dirty_log": Try("which pages were written", 16, (0, 0x4010AE42, ROOM)),
        "open_kvm": Try("open /dev/kvm", 257, (HERE, KVM, 2)),
    },
    "devices and terminals": {
        "tiocsti": Try("type into a terminal", 16, (0, 0x5412, b"x")),
        "tioclinux": Try("paste into a console", 16, (0, 0x541C, b"\3")),
        "tiocsctty": Try("take a terminal", 16, (0, 0x540E, 1)),
        "pty_peer": Try("the other end of a pseudo-terminal", 16, (0, 0x5441, 2)),
        "open_ptmx": Try("a pseudo-terminal", 2, (b"/dev/ptmx\0", 2)),
        "fionbio": Try("change flags another shares", 16, (sock, 0x5421, b"\1\0\0\0")),
        "interfaces": Try("list network interfaces", 16, (sock, 0x8912, ROOM)),
        "file_clone": Try("share a file's blocks", 16, (0, 0x40049409, 1)),
        "vfio_group": Try("a device of a VFIO group", 16, (0, 0x3B6A, ROOM)),
        "vfio_container": Try("another IOMMU for a device", 16, (0, 0x3B66, 1)),
    },
    "System V and message queues": {
        "shmget": Try("shared memory", 29, (0, 4096, 0o1666)),
        "shmat": Try("another's shared memory", 30, (0, 0, 0)),
        "semget": Try("semaphores", 64, (0, 1, 0o1666)),
        "msgget": Try("a message queue", 68, (0, 0o1666)),
        "mq_open": Try("a named message queue", 240, (FILE, 0o102, 0o666, 0)),
    },
    "new code": {
        "execve": Try("run a program", 59, (b"/bin/sh\0", 0, 0)),
        "execveat": Try("run a descriptor", 322, (0, EMPTY, 0, 0, 0x1000)),
        "memfd": Try("memory to put a program in", 319, (FILE, 0)),
        "uselib": Try("a library", 134, (FILE,)),
        "map_executable": Try(
            "memory to run code in", 9, (0, 4096, READ | EXECUTE, PRIVATE | ANONYMOUS, -1, 0)
        ),
        "map_all_rights": Try(
            "memory to write and run code in", 9,
            (0, 4096, READ | WRITE | EXECUTE, PRIVATE | ANONYMOUS, -1, 0),
        ),
        "make_executable": Try("run what it has written", 10, (reserved, 4096, READ | EXECUTE)),
        "pkey_executable": Try("the same with a key", 329, (reserved, 4096, READ | EXECUTE, -1)),
        "pkey_alloc": Try("a memory protection key", 330, (0, 0)),
        "remap_file": Try("other pages into a mapping", 216, (0, 4096, 0, 0, 0)),
        "sigaction": Try("handle a signal", 13, (11, ROOM, 0, 8)),
    },
    "more memory and time than is its own": {
        "private_memory": Try(
            "1 GiB more memory", 9, (0, GIB, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0), errno.ENOMEM
        ),
        "unreserved": Try(
            "1 GiB, to be counted later", 9,
            (0, GIB, READ | WRITE, PRIVATE | ANONYMOUS | NO_RESERVE, -1, 0), errno.ENOMEM,
        ),
        "protect": Try("make 1 GiB of addresses memory", 10, (reserved, GIB, READ | WRITE), errno.ENOMEM),
        "shared_memory": Try(
            "memory that no limit counts: shared", 9, (0, GIB, READ | WRITE, SHARED | ANONYMOUS, -1, 0)
        ),
        "stack_memory": Try(
            "memory that no limit counts: a stack", 9,
            (0, GIB, READ | WRITE, PRIVATE | ANONYMOUS | GROWS_DOWN, -1, 0),
        ),
        "huge_pages": Try(
            "the host's huge pages", 9, (0, 1 << 21, READ, PRIVATE | ANONYMOUS | HUGE_PAGES, -1, 0)
        ),
        "droppable": Try("droppable memory", 9, (0, GIB, READ | WRITE, DROPPABLE | ANONYMOUS, -1, 0)),
        "grow_mapping": Try("let a stack grow", 25, (reserved, 4096, GIB, MAY_MOVE)),
        "addresses": Try(
            "64 GiB of addresses, for their page tables", 9,
            (0, 64 * GIB, READ, PRIVATE | ANONYMOUS | NO_RESERVE, -1, 0), errno.ENOMEM,
        ),
        "locked": Try(
            "memory that cannot be swapped", 9,
            (0, 1 << 20, READ | WRITE, PRIVATE | ANONYMOUS | LOCKED, -1, 0), errno.EPERM, NO_KEEPER,
        ),
        "mlock": Try("lock memory", 149, (reserved, 4096)),
        "mlockall": Try("lock everything", 151, (3,)),
        "eventfd": Try("a descriptor", 290, (0, 0), errno.EPERM, NO_DEVICE),
        "epoll": Try("another epoll", 291, (0,)),
        "signalfd": Try("signals by descriptor", 289, (-1, ROOM, 8, 0)),
        "timerfd": Try("a timer by descriptor", 283, (1, 0)),
        "timer": Try("a timer that outlives the call", 222, (1, 0, ROOM)),
        "itimer": Try("a timer of the process", 38, (0, ROOM, 0)),
        "alarm": Try("an alarm", 37, (1,)),
        "pause": Try("sleep for ever in another call", 34),
        "futex_priority": Try("lend its priority", 202, (ROOM, 6, 0, 0, 0, 0)),
        "futex_requeue": Try("move sleepers to another futex", 202, (ROOM, 4, 0, 0, ROOM, 0)),
        "futex_requeue_priority": Try("both", 202, (ROOM, 12, 0, 0, ROOM, 0)),
        "futex_vector": Try("wait for many futexes", 449, (ROOM, 1, 0, 0, 0)),
        "robust_list": Try("another's list of futexes", 274, (OTHER, ROOM, ROOM)),
    },
}  # fmt: skip


def of(who: str) -> dict[str, Try]:
    """What is tried in a jail, by name."""
    return {name: each for aim in TRIES.values() for name, each in aim.items() if who in each.who}


def markdown() -> str:
    """The table, for people."""
    lines = ["| aim | attempt | what it would be good for | answer | tried by |", "|---|---|---|---|---|"]
    for aim, tries in TRIES.items():
        for name, each in tries.items():
            who = "all" if each.who == EVERYBODY else ", ".join(each.who)
            answer = errno.errorcode[each.expected]
            lines.append(f"| {aim} | `{name}` | {each.what} | {answer} | {who} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
