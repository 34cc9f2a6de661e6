/* Calls to the host's kernel that Python's library has not. */
#include <Python.h> /* first, and it defines _GNU_SOURCE */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vcpu.h"

/* Any system call; the result, or a negative errno. */
long host_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(number, a, b, c, d, e, f);
    return result == -1 ? -errno : result;
}

/* os.fork() into new namespaces (CLONE_NEW* in `flags`), for a process with one thread. The C library
 * learns the child's thread id the way its own fork() tells it: through the address it registered with
 * the kernel (where the kernel does not tell that address the stale id harms nothing but abort()). */
long host_fork(unsigned long flags)
{
    int *thread_id = NULL;
    PyGILState_STATE state = PyGILState_Ensure();
    if (prctl(PR_GET_TID_ADDRESS, &thread_id) == 0 && thread_id)
        flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    PyOS_BeforeFork();
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, thread_id, 0);
    int error = errno;
    if (pid == 0)
        PyOS_AfterFork_Child();
    else
        PyOS_AfterFork_Parent();
    PyGILState_Release(state);
    return pid == -1 ? -error : pid;
}
