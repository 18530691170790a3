/* file.c: whole files by stdio and POSIX; sha256 by libcrypto. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct d2c_writer {
    FILE *file;
    char *path;
    char *aside; /* the temporary name, path + ".tmp" */
};

/* Reports a failed system call on a file, from errno. */
static d2c_status
fail_errno(d2c_error *err, const char *what, const char *path)
{
    int code = errno;
    d2c_status status = code == ENOENT ? D2C_NOT_FOUND : code == ENOMEM ? D2C_NO_MEMORY : D2C_IO;

    d2c_fail(err, status, "could not %s \"%s\": %s", what, path, strerror(code));
    if (code == ENOSPC || code == EDQUOT)
        d2c_hint(err, "Free some space on the file system and try again.");
    return status;
}

/*
 * Opens the temporary file and takes its lock.  The name is fixed, so what a killed process left behind is
 * written over; the lock keeps two writers of one path apart.  A writer that finishes renames the locked file
 * away, so the name is looked up again once the lock is held.
 */
static d2c_status
open_aside(int *fd, const char *aside, d2c_error *err)
{
    struct stat locked, named;

    for (;;) {
        *fd = open(aside, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*fd < 0)
            return fail_errno(err, "create file", aside);
        if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
            close(*fd);
            d2c_fail(err, D2C_IO, "could not lock file \"%s\": %s", aside, strerror(errno));
            d2c_hint(err, "Another process may be writing the same file.");
            return D2C_IO;
        }
        if (fstat(*fd, &locked) == 0 && stat(aside, &named) == 0 && locked.st_ino == named.st_ino &&
            locked.st_dev == named.st_dev)
            break;
        close(*fd);
    }
    if (ftruncate(*fd, 0) == 0)
        return D2C_OK;
    fail_errno(err, "truncate file", aside);
    close(*fd);
    return D2C_IO;
}

/* *path becomes what a file is written to instead: the target of a link, which stays one.  What is there and is no file, such
 * as a device, is not replaced by one. */
static d2c_status
resolve(char **path, d2c_error *err)
{
    struct stat info;
    char *target;

    if (lstat(*path, &info) != 0)
        return D2C_OK;
    if (S_ISLNK(info.st_mode)) {
        target = realpath(*path, NULL);
        if (target == NULL)
            return fail_errno(err, "follow link", *path);
        free(*path);
        *path = target;
    }
    if (stat(*path, &info) == 0 && !S_ISREG(info.st_mode))
        return d2c_fail(err, D2C_IO, "could not write \"%s\": it is not a regular file", *path);
    return D2C_OK;
}

static void
writer_free(d2c_writer *writer)
{
    free(writer->path);
    free(writer->aside);
    free(writer);
}

static d2c_status
name_files(d2c_writer *writer, const char *path, d2c_error *err)
{
    writer->path = strdup(path);
    if (writer->path == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    D2C_TRY(resolve(&writer->path, err));
    writer->aside = malloc(strlen(writer->path) + sizeof ".tmp");
    if (writer->aside == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    strcat(strcpy(writer->aside, writer->path), ".tmp");
    return D2C_OK;
}

d2c_status
d2c_writer_open(d2c_writer **writer, const char *path, d2c_error *err)
{
    d2c_writer *w = calloc(1, sizeof *w);
    d2c_status status;
    int fd;

    *writer = NULL;
    if (w == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = name_files(w, path, err);
    if (status == D2C_OK)
        status = open_aside(&fd, w->aside, err);
    if (status != D2C_OK) {
        writer_free(w);
        return status;
    }
    w->file = fdopen(fd, "wb");
    if (w->file == NULL) {
        status = fail_errno(err, "open file", w->aside);
        close(fd);
        unlink(w->aside);
        writer_free(w);
        return status;
    }
    *writer = w;
    return D2C_OK;
}

d2c_status
d2c_writer_put(d2c_writer *writer, const void *bytes, size_t length, d2c_error *err)
{
    if (length > 0 && fwrite(bytes, 1, length, writer->file) != length)
        return fail_errno(err, "write file", writer->aside);
    return D2C_OK;
}

/* A rename is durable once the folder's own entry is on disk. */
static d2c_status
sync_folder_of(const char *path, d2c_error *err)
{
    char *copy = strdup(path);
    const char *folder;
    d2c_status status = D2C_OK;
    int fd;

    if (copy == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    folder = dirname(copy);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        status = fail_errno(err, "open directory", folder);
    else if (fsync(fd) != 0 && errno != EINVAL &&
             errno != EBADF) /* some file systems have no sync of folders */
        status = fail_errno(err, "fsync directory", folder);
    if (fd >= 0)
        close(fd);
    free(copy);
    return status;
}

d2c_status
d2c_writer_commit(d2c_writer *writer, d2c_error *err)
{
    d2c_status status;

    if (fflush(writer->file) != 0)
        status = fail_errno(err, "write file", writer->aside);
    else if (fsync(fileno(writer->file)) != 0)
        status = fail_errno(err, "fsync file", writer->aside);
    else if (rename(writer->aside, writer->path) != 0)
        status = fail_errno(err, "rename to", writer->path);
    else {
        fclose(writer->file);
        status = sync_folder_of(writer->path, err);
        writer_free(writer);
        return status;
    }
    d2c_writer_abandon(writer);
    return status;
}

void
d2c_writer_abandon(d2c_writer *writer)
{
    if (writer == NULL)
        return;
    unlink(writer->aside);
    fclose(writer->file);
    writer_free(writer);
}

/* Opens a regular file for reading; a FIFO in its place must not block us. */
static d2c_status
open_regular(int *fd, size_t *length, const char *path, d2c_error *err)
{
    struct stat info;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return fail_errno(err, "open file", path);
    if (fstat(*fd, &info) != 0) {
        d2c_status status = fail_errno(err, "stat file", path);
        close(*fd);
        return status;
    }
    if (!S_ISREG(info.st_mode)) {
        close(*fd);
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "\"%s\" is not a regular file", path);
    }
    *length = (size_t)info.st_size;
    return D2C_OK;
}

/* Reads until `length` bytes are there or the file ends; sets *got. */
static d2c_status
read_fully(int fd, void *bytes, size_t length, size_t *got, const char *path, d2c_error *err)
{
    *got = 0;
    while (*got < length) {
        ssize_t n = read(fd, (char *)bytes + *got, length - *got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(err, "read file", path);
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return D2C_OK;
}

d2c_status
d2c_file_read(uint8_t **bytes, size_t *length, const char *path, size_t limit, d2c_error *err)
{
    d2c_status status;
    size_t size;
    int fd;

    *bytes = NULL;
    *length = 0;
    D2C_TRY(open_regular(&fd, &size, path, err));
    if (size > limit) {
        close(fd);
        d2c_fail(err, D2C_TOO_LARGE, "file \"%s\" is too large", path);
        d2c_detail(err, "It has %zu bytes; the limit is %zu.", size, limit);
        return D2C_TOO_LARGE;
    }
    *bytes = malloc(size + 1);
    if (*bytes == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory reading file \"%s\"", path);
    else
        status = read_fully(fd, *bytes, size, length, path, err);
    close(fd);
    if (status != D2C_OK) {
        free(*bytes);
        *bytes = NULL;
        *length = 0;
        return status;
    }
    (*bytes)[*length] = 0;
    return D2C_OK;
}

d2c_status
d2c_file_map(const void **bytes, size_t *length, const char *path, d2c_error *err)
{
    d2c_status status;
    void *map = NULL;
    int fd;

    *bytes = NULL;
    *length = 0;
    status = open_regular(&fd, length, path, err);
    if (status == D2C_INVALID_ARGUMENT)
        return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" is not a regular file", path);
    D2C_TRY(status);
    if (*length > 0)
        map = mmap(NULL, *length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        status = fail_errno(err, "map file", path);
    else
        *bytes = map;
    close(fd);
    return status;
}

void
d2c_file_unmap(const void *bytes, size_t length)
{
    if (bytes != NULL)
        munmap((void *)bytes, length);
}

d2c_status
d2c_file_write(const char *path, const void *bytes, size_t length, d2c_error *err)
{
    d2c_writer *writer;
    d2c_status status;

    D2C_TRY(d2c_writer_open(&writer, path, err));
    status = d2c_writer_put(writer, bytes, length, err);
    if (status != D2C_OK) {
        d2c_writer_abandon(writer);
        return status;
    }
    return d2c_writer_commit(writer, err);
}

/* mkdir of one level; an existing folder is what was asked for. */
static d2c_status
make_one(const char *path, d2c_error *err)
{
    struct stat info;

    if (mkdir(path, 0777) == 0)
        return D2C_OK;
    if (errno == EEXIST && stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return D2C_OK;
        errno = ENOTDIR;
    }
    return fail_errno(err, "create directory", path);
}

d2c_status
d2c_make_directory(const char *path, d2c_error *err)
{
    char *copy = strdup(path);
    d2c_status status = D2C_OK;
    char *slash;

    if (copy == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (slash = copy + (copy[0] == '/'); status == D2C_OK && (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        if (slash[-1] != '\0') /* the end of a run of slashes names nothing new */
            status = make_one(copy, err);
        *slash = '/';
    }
    if (status == D2C_OK)
        status = make_one(copy, err);
    free(copy);
    return status;
}

static void
hex_digest(char out[65], const unsigned char digest[32])
{
    int i;

    for (i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void
d2c_sha256(char out[65], const void *bytes, size_t length)
{
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};

    EVP_Digest(bytes, length, digest, NULL, EVP_sha256(), NULL);
    hex_digest(out, digest);
}

/* Feeds what an open file holds to the digest, a megabyte at a time. */
static d2c_status
digest_open(EVP_MD_CTX *digest, int fd, const char *path, d2c_error *err)
{
    const size_t piece = (size_t)1 << 20;
    unsigned char *buffer = malloc(piece);
    d2c_status status;
    size_t got;

    if (buffer == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    do {
        status = read_fully(fd, buffer, piece, &got, path, err);
        if (status == D2C_OK && EVP_DigestUpdate(digest, buffer, got) != 1)
            status = d2c_fail(err, D2C_INTERNAL, "could not compute the sha256 of file \"%s\"", path);
    } while (status == D2C_OK && got == piece);
    free(buffer);
    return status;
}

static d2c_status
digest_file(EVP_MD_CTX *digest, const char *path, d2c_error *err)
{
    d2c_status status;
    size_t size;
    int fd;

    D2C_TRY(open_regular(&fd, &size, path, err));
    status = digest_open(digest, fd, path, err);
    close(fd);
    return status;
}

d2c_status
d2c_files_sha256(char out[65], const char *const *paths, int count, d2c_error *err)
{
    unsigned char result[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    d2c_status status = D2C_OK;
    int i;

    out[0] = '\0';
    if (digest == NULL || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; status == D2C_OK && i < count; i++)
        status = digest_file(digest, paths[i], err);
    if (status == D2C_OK && EVP_DigestFinal_ex(digest, result, NULL) != 1)
        status = d2c_fail(err, D2C_INTERNAL, "could not compute a sha256");
    if (status == D2C_OK)
        hex_digest(out, result);
    EVP_MD_CTX_free(digest);
    return status;
}

d2c_status
d2c_file_sha256(char out[65], const char *path, d2c_error *err)
{
    return d2c_files_sha256(out, &path, 1, err);
}
