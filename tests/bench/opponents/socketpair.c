/* Two host processes over a UNIX socketpair: what a null call between components is compared with.
 *
 *   socketpair pingpong CALLS           one at a time; native u32 nanoseconds of each, then the CPU time
 *   socketpair pipelined CALLS DEPTH    DEPTH outstanding, one system call for each message
 *   socketpair batched CALLS DEPTH      DEPTH outstanding, as many messages in a system call as there are
 *
 * Standard output: for pingpong the samples; standard error: "seconds CPU_SECONDS", both processes together.
 * A message has the 64 bytes of a slot.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 64, DEPTH_MAX = 256 };

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

static void send_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t count = write(fd, bytes, size);
        if (count <= 0)
            give_up("write");
        bytes += count;
        size -= (size_t)count;
    }
}

/* Receives at least one whole message, at most `most` bytes; 0 at the end. */
static size_t receive(int fd, char *bytes, size_t most)
{
    size_t have = 0;
    do {
        ssize_t count = read(fd, bytes + have, have ? MESSAGE - have % MESSAGE : most);
        if (count < 0)
            give_up("read");
        if (count == 0)
            return 0;
        have += (size_t)count;
    } while (have % MESSAGE);
    return have;
}

static void serve(int fd, size_t most)
{
    static char bytes[MESSAGE * DEPTH_MAX];
    size_t size;
    while ((size = receive(fd, bytes, most)) > 0)
        send_all(fd, bytes, size);
}

static void pingpong(int fd, long calls)
{
    char message[MESSAGE] = { 0 };
    uint32_t *taken = calloc((size_t)calls, sizeof *taken);
    if (!taken)
        give_up("calloc");
    for (long call = 0; call < calls; call++) {
        uint64_t begin = now_ns();
        send_all(fd, message, MESSAGE);
        receive(fd, message, MESSAGE);
        taken[call] = (uint32_t)(now_ns() - begin);
    }
    fwrite(taken, sizeof *taken, (size_t)calls, stdout);
}

static void pipelined(int fd, long calls, long depth, size_t most)
{
    static char bytes[MESSAGE * DEPTH_MAX];
    long sent = 0, received = 0;
    while (received < calls) {
        long room = depth - (sent - received);
        if (room > calls - sent)
            room = calls - sent;
        if (most > MESSAGE && room > 0)
            send_all(fd, bytes, (size_t)room * MESSAGE);
        else
            for (long each = 0; each < room; each++)
                send_all(fd, bytes, MESSAGE);
        sent += room;
        received += (long)(receive(fd, bytes, most) / MESSAGE);
    }
}

static double cpu_seconds(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int count, char **words)
{
    long calls = count > 2 ? atol(words[2]) : 0, depth = count > 3 ? atol(words[3]) : 1;
    int ends[2];
    if (calls < 1 || depth < 1 || depth > DEPTH_MAX)
        return 2;
    size_t most = strcmp(words[1], "batched") ? MESSAGE : (size_t)depth * MESSAGE;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        give_up("socketpair");
    pid_t server = fork();
    if (server < 0)
        give_up("fork");
    if (server == 0) {
        close(ends[0]);
        serve(ends[1], most);
        return 0;
    }
    close(ends[1]);
    uint64_t begin = now_ns();
    if (!strcmp(words[1], "pingpong"))
        pingpong(ends[0], calls);
    else
        pipelined(ends[0], calls, depth, most);
    double seconds = (double)(now_ns() - begin) / 1e9;
    close(ends[0]);
    waitpid(server, NULL, 0);
    fprintf(stderr, "%.9f %.6f\n", seconds, cpu_seconds(RUSAGE_SELF) + cpu_seconds(RUSAGE_CHILDREN));
    return 0;
}
