/* log.h: the engine's own log: lines with a time, in a file whose size is capped. */
#ifndef D2C_ENGINE_LOG_H
#define D2C_ENGINE_LOG_H

#include <stddef.h>

#define D2C_LOG_LIMIT (1024 * 1024)

/* Appends one line.  A file that has grown past `limit` bytes is first renamed to "path.old", in place of the one before
 * it.  Opens and closes the file each time: lines are rare, and the supervisor writes to it as well.  A log that cannot
 * be written is no reason to stop, so nothing is returned. */
void d2c_log(const char *path, size_t limit, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
