/* Reads a file from beginning to end, 128 KiB at a time into one buffer, as tests/guests/reader does.
 * Prints "bytes seconds".
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 128 * 1024 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **words)
{
    static char buffer[PIECE] __attribute__((aligned(4096)));
    uint64_t bytes = 0;
    ssize_t got = -1;
    double begin = now();
    int file = count == 2 ? open(words[1], O_RDONLY) : -1;
    while (file >= 0 && (got = read(file, buffer, PIECE)) > 0)
        bytes += (uint64_t)got;
    if (got < 0) {
        perror(count == 2 ? words[1] : "read_file FILE");
        return 1;
    }
    printf("%llu %.9f\n", (unsigned long long)bytes, now() - begin);
    return 0;
}
