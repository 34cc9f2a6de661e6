/* The first program of the bed: does what /plan says, a line each, and becomes the program of its last line.
 *
 * Fields of a line are separated by tabs:
 *   module FILE                          load a kernel module
 *   folder PATH                          make a folder, if it is not there
 *   mount TYPE SOURCE FOLDER OPTIONS
 *   root FOLDER                          from now on / is FOLDER; what was before is out of reach
 *   start PROGRAM ARGUMENT...
 * Whatever fails is told on the console, and the machine is switched off.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELDS 16

static char plan[1 << 16];

static int load(const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = syscall(SYS_finit_module, fd, "", 0);
    close(fd);
    return result < 0 && errno == EEXIST ? 0 : result;
}

static int make_folder(const char *path)
{
    return mkdir(path, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

/* A root that is moved to /, not merely chrooted into: only such a root allows user namespaces. */
static int change_root(const char *folder)
{
    if (chdir(folder) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
        return -1;
    return chdir("/");
}

static int perform(char **field)
{
    if (!strcmp(field[0], "module"))
        return load(field[1]);
    if (!strcmp(field[0], "folder"))
        return make_folder(field[1]);
    if (!strcmp(field[0], "mount"))
        return mount(field[2], field[3], field[1], 0, field[4]);
    if (!strcmp(field[0], "root"))
        return change_root(field[1]);
    if (!strcmp(field[0], "start")) {
        char *none[] = {NULL};
        return execve(field[1], field + 1, none);
    }
    errno = EINVAL;
    return -1;
}

int main(void)
{
    int fd = open("/plan", O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd < 0 ? -1 : read(fd, plan, sizeof plan - 1);
    if (bytes < 0)
        perror("init: /plan");
    char *rest = plan, *line;
    while ((line = strsep(&rest, "\n")) && *line) {
        char *field[FIELDS + 1] = {NULL}; /* what a line lacks is NULL, which the kernel refuses */
        for (int count = 0; line && count < FIELDS; count++)
            field[count] = strsep(&line, "\t");
        if (perform(field) < 0) {
            int why = errno;
            fprintf(stderr, "init:");
            for (int count = 0; field[count]; count++)
                fprintf(stderr, " %s", field[count]);
            fprintf(stderr, ": %s\n", strerror(why));
            break;
        }
    }
    reboot(RB_POWER_OFF);
    return 1;
}
