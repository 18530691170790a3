/* fuzz_file.h: an input's bytes as a file, and what a target insists on. */
#ifndef D2C_FUZZ_FILE_H
#define D2C_FUZZ_FILE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void
require(int condition)
{
    if (!condition)
        abort();
}

/* The path of a file without a name: `first`, then the bytes.  There is one; it stays open. */
static inline const char *
fuzz_file(const char *first, const uint8_t *bytes, size_t length)
{
    static char path[64];
    static int fd = -1;
    size_t start = strlen(first);

    if (fd < 0) {
        char name[] = "/tmp/d2c-fuzz-XXXXXX";

        fd = mkstemp(name);
        require(fd >= 0 && unlink(name) == 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0 && pwrite(fd, first, start, 0) == (ssize_t)start);
    require(pwrite(fd, bytes, length, (off_t)start) == (ssize_t)length);
    return path;
}

#endif
