/* idx.c: reading IDX files through zlib, which takes plain files as they are. */
#include "image/idx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define SIZE_LIMIT ((int64_t)4 * 1024 * 1024 * 1024)
#define READ_SIZE (1 << 24)

/* What stopped gzread: the system, damaged compressed data, or an early end. */
static d2c_status
fail_read(gzFile file, const char *path, d2c_error *err)
{
    int code;
    const char *text = gzerror(file, &code);

    if (code == Z_ERRNO)
        return d2c_fail(err, D2C_IO, "could not read file \"%s\": %s", path, strerror(errno));
    if (code != Z_OK && code != Z_BUF_ERROR) {
        d2c_fail(err, D2C_BAD_DATA, "compressed file \"%s\" is damaged", path);
        d2c_detail(err, "%s.", text);
        return D2C_BAD_DATA;
    }
    return d2c_fail(err, D2C_BAD_DATA, "IDX file \"%s\" is truncated", path);
}

/* *got of up to count bytes, 0 at the end.  The error is asked for after every call: an early end of compressed data is
 * an error of the call that meets it, even when that gives bytes, and newer zlibs have forgotten it in the next. */
static d2c_status
read_some(int *got, gzFile file, void *to, int64_t count, const char *path, d2c_error *err)
{
    int code;

    *got = gzread(file, to, (unsigned)(count < READ_SIZE ? count : READ_SIZE));
    gzerror(file, &code);
    return *got < 0 || code == Z_BUF_ERROR ? fail_read(file, path, err) : D2C_OK;
}

static d2c_status
read_exactly(gzFile file, uint8_t *to, int64_t count, const char *path, d2c_error *err)
{
    int got;

    while (count > 0) {
        D2C_TRY(read_some(&got, file, to, count, path, err));
        if (got == 0)
            return fail_read(file, path, err);
        to += got;
        count -= got;
    }
    return D2C_OK;
}

/* The end of a gzip stream carries its checksum, which is verified when reading goes on to the end. */
static d2c_status
expect_end(gzFile file, const char *path, d2c_error *err)
{
    uint8_t byte;
    int got;

    D2C_TRY(read_some(&got, file, &byte, 1, path, err));
    if (got > 0)
        return d2c_fail(err, D2C_BAD_DATA, "IDX file \"%s\" is longer than its header says", path);
    return D2C_OK;
}

/* Two zero bytes, the type (8: unsigned byte), the number of dimensions, and each as a big-endian 32-bit
 * number. */
static d2c_status
read_header(d2c_idx *idx, int64_t *size, gzFile file, const char *path, int min_dims, int max_dims,
            d2c_error *err)
{
    uint8_t word[4];
    int i;

    D2C_TRY(read_exactly(file, word, 4, path, err));
    if (word[0] != 0 || word[1] != 0 || word[2] != 8 || word[3] < 1 || word[3] > D2C_IDX_MAX_DIMS)
        return d2c_fail(err, D2C_BAD_DATA, "file \"%s\" is not an IDX file of bytes", path);
    idx->ndim = word[3];
    if (idx->ndim < min_dims || idx->ndim > max_dims)
        return d2c_fail(err, D2C_BAD_DATA, "IDX file \"%s\" has %d dimensions", path, idx->ndim);
    *size = 1;
    for (i = 0; i < idx->ndim; i++) {
        D2C_TRY(read_exactly(file, word, 4, path, err));
        idx->dim[i] = (int64_t)word[0] << 24 | word[1] << 16 | word[2] << 8 | word[3];
        if (idx->dim[i] == 0)
            return d2c_fail(err, D2C_BAD_DATA, "IDX file \"%s\" is empty", path);
        if (idx->dim[i] > SIZE_LIMIT / *size)
            return d2c_fail(err, D2C_TOO_LARGE, "IDX file \"%s\" has more than %lld bytes", path,
                            (long long)SIZE_LIMIT);
        *size *= idx->dim[i];
    }
    return D2C_OK;
}

static d2c_status
read_file(d2c_idx *idx, gzFile file, const char *path, int min_dims, int max_dims, d2c_error *err)
{
    int64_t size = 0;

    D2C_TRY(read_header(idx, &size, file, path, min_dims, max_dims, err));
    idx->data = malloc((size_t)size);
    if (idx->data == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the %lld bytes of \"%s\"", (long long)size,
                        path);
    D2C_TRY(read_exactly(file, idx->data, size, path, err));
    return expect_end(file, path, err);
}

d2c_status
d2c_idx_read(d2c_idx *idx, const char *path, int min_dims, int max_dims, d2c_error *err)
{
    gzFile file = gzopen(path, "rb");
    d2c_status status;

    memset(idx, 0, sizeof *idx);
    if (file == NULL)
        return d2c_fail(err, errno == ENOENT ? D2C_NOT_FOUND : D2C_IO, "could not open file \"%s\": %s", path,
                        strerror(errno));
    gzbuffer(file, 1 << 18);
    status = read_file(idx, file, path, min_dims, max_dims, err);
    gzclose(file);
    if (status != D2C_OK)
        d2c_idx_free(idx);
    return status;
}

void
d2c_idx_free(d2c_idx *idx)
{
    free(idx->data);
    memset(idx, 0, sizeof *idx);
}
