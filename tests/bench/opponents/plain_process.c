/* A process that does nothing but exist: notes when it began and its pid, then waits for a signal.
 *
 * Appends one line "CLOCK_MONOTONIC_NS PID" to the file named by its argument.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words)
{
    struct timespec time;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &time);
    int file = count == 2 ? open(words[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    int size = snprintf(line, sizeof line, "%lld%09ld %d\n", (long long)time.tv_sec, time.tv_nsec, (int)getpid());
    if (file < 0 || write(file, line, (size_t)size) != size)
        return 1;
    for (;;)
        pause();
}
