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

/* A file without a name that stays open. */
typedef struct fuzz_file {
    char path[64]; /* empty at first */
    int fd;
} fuzz_file;

/* The path of the file, which now holds `first`, then the bytes. */
static inline const char *
fuzz_file_fill(fuzz_file *file, const char *first, const uint8_t *bytes, size_t length)
{
    size_t start = strlen(first);

    if (file->path[0] == '\0') {
        char name[] = "/tmp/d2c-fuzz-XXXXXX";

        file->fd = mkstemp(name);
        require(file->fd >= 0 && unlink(name) == 0);
        snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
    }
    require(ftruncate(file->fd, 0) == 0 && pwrite(file->fd, first, start, 0) == (ssize_t)start);
    require(pwrite(file->fd, bytes, length, (off_t)start) == (ssize_t)length);
    return file->path;
}

#endif
