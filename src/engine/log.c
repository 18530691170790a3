/* log.c: the engine's own log. */
#include "engine/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* "2026-01-31 12:00:00 UTC [pid] " */
static int
format_prefix(char *line, size_t size)
{
    time_t now = time(NULL);
    struct tm parts;
    size_t used;

    gmtime_r(&now, &parts);
    used = strftime(line, size, "%Y-%m-%d %H:%M:%S UTC", &parts);
    return (int)used + snprintf(line + used, size - used, " [%d] ", (int)getpid());
}

static int
open_log(const char *path, size_t limit)
{
    char old[4096];
    struct stat info;

    if (stat(path, &info) == 0 && (size_t)info.st_size > limit) {
        if (snprintf(old, sizeof old, "%s.old", path) < (int)sizeof old)
            rename(path, old);
    }
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void
d2c_log(const char *path, size_t limit, const char *format, ...)
{
    char line[2048];
    int used = format_prefix(line, sizeof line), fd = open_log(path, limit);
    va_list args;

    if (fd < 0)
        return;
    va_start(args, format);
    used += vsnprintf(line + used, sizeof line - 1 - (size_t)used, format, args);
    va_end(args);
    if (used > (int)sizeof line - 2)
        used = (int)sizeof line - 2;
    line[used++] = '\n';
    if (write(fd, line, (size_t)used) < 0)
        used = 0;
    close(fd);
}
