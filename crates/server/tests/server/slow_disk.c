/* Loaded into a server by a test: as long as the file that QUORATE_TEST_SLOW_DISK names is there, each sync takes half a
 * second longer, and leaves a byte in that file. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void be_slow(void) {
    const struct timespec half_a_second = {0, 500 * 1000 * 1000};
    const char *name = getenv("QUORATE_TEST_SLOW_DISK");
    int file = name ? open(name, O_WRONLY | O_APPEND) : -1;
    if (file < 0) return;
    nanosleep(&half_a_second, NULL);
    if (write(file, ".", 1) < 0) abort();
    close(file);
}

int fdatasync(int file) {
    be_slow();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    be_slow();
    return (int)syscall(SYS_fsync, file);
}
