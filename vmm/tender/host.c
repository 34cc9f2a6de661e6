/* Calls to the host's kernel that neither Python nor the C library has. */
#include <Python.h> /* first, and it defines _GNU_SOURCE */

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include "vmm/tender/tender.h"

/* A pipe of the zygote: each of its children waits here until the hypervisor has been told of it, and ends if
 * the zygote dies before that. For then the next zygote is asked for the same again, and two of them would
 * serve one socket. */
int32_t host_gate[2];

/* fork() into new namespaces (CLONE_NEW*), for a process with one thread. The C library learns the child's
 * thread id the way its own fork() tells it: through the address it registered with the kernel (where the
 * kernel does not tell that address the stale id harms nothing but abort()). */
long host_clone(uint64_t namespaces) {
    char told;
    int *thread_id = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &thread_id) == 0 && thread_id)
        namespaces |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    long pid = syscall(SYS_clone, namespaces | SIGCHLD, 0, 0, thread_id, 0);
    if (pid == 0 && host_gate[1]) {
        close(host_gate[1]);
        host_gate[1] = 0;
        if (read(host_gate[0], &told, 1) != 1)
            _exit(0);
    }
    return pid;
}

/* The same for a child that goes on in Python: os.fork() into namespaces. */
long host_fork(uint64_t namespaces) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyOS_BeforeFork();
    long pid = host_clone(namespaces);
    int error = errno;
    if (pid == 0)
        PyOS_AfterFork_Child();
    else
        PyOS_AfterFork_Parent();
    PyGILState_Release(state);
    errno = error;
    return pid;
}

/* Ask for short time slices (0: the host's default) for this thread and those it makes.
 *
 * Linux 6.12 and later let a task that wakes preempt one with longer slices, so who runs briefly is let in
 * at once and not at the next timer tick; earlier ones ignore it. */
int host_set_slice(uint64_t nanoseconds) {
    /* struct sched_attr: size and policy, flags, nice and priority, runtime, deadline, period */
    uint64_t attributes[6] = { sizeof attributes, 0, 0, nanoseconds, 0, 0 };
    return (int)syscall(SYS_sched_setattr, 0, attributes, 0);
}
