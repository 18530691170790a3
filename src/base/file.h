/* file.h: whole files, mapped, or written aside, synced and renamed; and their sha256. */
#ifndef D2C_BASE_FILE_H
#define D2C_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A file being written: bytes go to a temporary name beside `path`. */
typedef struct d2c_writer d2c_writer;

/* A link stays one, and its target is written; what is there and is no regular file is D2C_IO. */
d2c_status d2c_writer_open(d2c_writer **writer, const char *path, d2c_error *err);
d2c_status d2c_writer_put(d2c_writer *writer, const void *bytes, size_t length, d2c_error *err);
/* fsync, rename to path, fsync of the folder; frees the writer in any case. */
d2c_status d2c_writer_commit(d2c_writer *writer, d2c_error *err);
/* Removes the temporary file; `path` stays what it was. */
void d2c_writer_abandon(d2c_writer *writer);

/* The whole file in malloc'd memory with a zero byte behind it; D2C_TOO_LARGE over the limit. */
d2c_status d2c_file_read(uint8_t **bytes, size_t *length, const char *path, size_t limit, d2c_error *err);
/* The whole of a model's file, read-only; an empty one is mapped as NULL, what is no regular file is D2C_BAD_MODEL.  Who
 * reads behind the end of a file that was cut while mapped gets SIGBUS. */
d2c_status d2c_file_map(const void **bytes, size_t *length, const char *path, d2c_error *err);
void d2c_file_unmap(const void *bytes, size_t length);
d2c_status d2c_file_write(const char *path, const void *bytes, size_t length, d2c_error *err);
/* mkdir -p */
d2c_status d2c_make_directory(const char *path, d2c_error *err);

/* Lower-case hex. */
void d2c_sha256(char out[65], const void *bytes, size_t length);
d2c_status d2c_file_sha256(char out[65], const char *path, d2c_error *err);
/* Of the bytes of all files, one behind another. */
d2c_status d2c_files_sha256(char out[65], const char *const *paths, int count, d2c_error *err);

#endif
