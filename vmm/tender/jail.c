/* The jail, in the process that enters it; see jail.py. */
#include "vmm/tender/tender.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

/* NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, each locked; KEEP_CAPS off and locked */
enum { NOBODY = 65534, SECUREBITS = 0xEF };

/* `keep` ascends. 0, 1 and 2 become /dev/null, lest a stray message goes into whatever gets their numbers
 * later. */
static int keep_only(const int32_t *keep, uint32_t count) {
    uint32_t first = STDERR_FILENO + 1, i = 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < (int)first; fd++) {
        if (i < count && keep[i] == fd)
            i++;
        else if (dup2(null, fd) < 0)
            return -1;
    }
    for (; i < count; first = (uint32_t)keep[i++] + 1)
        if (first < (uint32_t)keep[i] && close_range(first, (uint32_t)keep[i] - 1, 0))
            return -1;
    return close_range(first, UINT32_MAX, 0);
}

static int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) ? -1 : 0;
}

/* In a new user namespace made by an ordinary user: map that user, and nobody else. */
static int become_sole_user(const struct jail *jail) {
    char users[32], groups[32];
    snprintf(users, sizeof users, "0 %u 1", jail->uid);
    snprintf(groups, sizeof groups, "0 %u 1", jail->gid);
    return write_file("/proc/self/setgroups", "deny") || write_file("/proc/self/uid_map", users)
        || write_file("/proc/self/gid_map", groups);
}

/* An empty read-only tmpfs becomes the root, and everything else is unmounted. */
static int leave_file_system(void) {
    unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)
        || mount("none", "/proc", "tmpfs", flags, "nr_inodes=1,mode=0") || chdir("/proc")
        || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/");
}

/* In a child of root: the kernel's nobody, in a user namespace that owns nothing. */
static int become_nobody(void) {
    return setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)
        || unshare(CLONE_NEWUSER);
}

/* All of the new user namespace. (The bounding set matters only to execve, which is refused.) */
static int drop_capabilities(void) {
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };
    return prctl(PR_SET_SECUREBITS, SECUREBITS) || syscall(SYS_capset, &header, none)
        || prctl(PR_SET_DUMPABLE, 0);
}

int jail_confine(const struct jail *jail, const int32_t *keep, uint32_t count) {
    int failed = keep_only(keep, count) || (!jail->as_root && become_sole_user(jail)) || leave_file_system()
        || (jail->as_root && become_nobody()) || drop_capabilities();
    return failed ? -1 : 0;
}

/* Limits and the filter, on all threads. */
int jail_seal(const struct jail *jail) {
    struct sock_fprog program = { (unsigned short)jail->instructions, (struct sock_filter *)jail->filter };
    for (unsigned which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit limit = { jail->limits[which], jail->limits[which] };
        if (limit.rlim_max != RLIM_INFINITY && setrlimit((__rlimit_resource_t)which, &limit))
            return -1;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    long thread = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (thread > 0)
        errno = ESRCH; /* that thread could not take over the filter */
    return thread ? -1 : 0;
}
