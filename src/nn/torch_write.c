/*
 * torch_write.c: a pickle of tensors and their storages in a stored ZIP archive (torch_write.h).
 *
 * Every size and place is written in 64 bits, so that a small archive has the form of one beyond 4 GiB.
 */
#include "nn/torch_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/arena.h"
#include "base/file.h"

#define ALIGNMENT 64
#define LOCAL_HEADER 30
#define ZIP64_VERSION 45 /* of the format, which has 64-bit sizes */
#define ZIP64_END 56     /* bytes of the record that ends the directory */
#define FULL16 0xFFFF
#define FULL32 0xFFFFFFFF /* the number is in the ZIP64 field, or record */

/* Growing bytes; `failed` once memory ran out, which is asked at the end. */
typedef struct bytes {
    unsigned char *data;
    size_t length, capacity;
    int failed;
} bytes;

static void
put(bytes *b, const void *data, size_t length)
{
    if (!b->failed && b->length + length > b->capacity) {
        size_t wanted = (b->length + length) * 2 + 256;
        unsigned char *grown = realloc(b->data, wanted);

        if (grown == NULL)
            b->failed = 1;
        else {
            b->data = grown;
            b->capacity = wanted;
        }
    }
    if (b->failed)
        return;
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

static void
put_text(bytes *b, const char *text)
{
    put(b, text, strlen(text));
}

/* Little-endian. */
static void
put_number(bytes *b, uint64_t number, int width)
{
    unsigned char digits[8];
    int i;

    for (i = 0; i < width; i++)
        digits[i] = (unsigned char)(number >> 8 * i);
    put(b, digits, (size_t)width);
}

/* ---- the pickle ----------------------------------------------------------------------------------------------- */

typedef struct element_type {
    d2c_st_dtype dtype;
    const char *storage; /* torch's class */
    size_t size;
} element_type;

static const element_type types[] = {
    {D2C_ST_F32, "FloatStorage", 4},  {D2C_ST_F16, "HalfStorage", 2}, {D2C_ST_BF16, "BFloat16Storage", 2},
    {D2C_ST_F64, "DoubleStorage", 8}, {D2C_ST_I64, "LongStorage", 8}, {D2C_ST_I32, "IntStorage", 4},
    {D2C_ST_U8, "ByteStorage", 1},
};

static const element_type *
type_of(const d2c_st_item *item)
{
    size_t i;

    for (i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].dtype == item->dtype)
            return &types[i];
    return NULL;
}

static void
pickle_string(bytes *b, const char *text)
{
    put_text(b, "X"); /* BINUNICODE */
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

static void
pickle_integer(bytes *b, int64_t value)
{
    if (value < 256) {
        put_text(b, "K"); /* BININT1 */
        put_number(b, (uint64_t)value, 1);
    } else if (value <= INT32_MAX) {
        put_text(b, "J"); /* BININT */
        put_number(b, (uint64_t)value, 4);
    } else {
        put(b, "\x8a\x08", 2); /* LONG1 of 8 bytes */
        put_number(b, (uint64_t)value, 8);
    }
}

static int64_t
elements_of(const d2c_st_item *item)
{
    int64_t count = 1;
    int d;

    for (d = 0; d < item->ndim; d++)
        count *= item->dim[d];
    return count;
}

/* The shape, then the strides of C order. */
static void
pickle_layout(bytes *b, const d2c_st_item *item)
{
    int d, e;

    put_text(b, "(");
    for (d = 0; d < item->ndim; d++)
        pickle_integer(b, item->dim[d]);
    put_text(b, "t(");
    for (d = 0; d < item->ndim; d++) {
        int64_t stride = 1;

        for (e = d + 1; e < item->ndim; e++)
            stride *= item->dim[e] > 0 ? item->dim[e] : 1;
        pickle_integer(b, stride);
    }
    put_text(b, "t");
}

/* torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()) */
static void
pickle_tensor(bytes *b, const d2c_st_item *item, int key)
{
    char text[64];

    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_string(b, "storage");
    snprintf(text, sizeof text, "ctorch\n%s\n", type_of(item)->storage);
    put_text(b, text);
    snprintf(text, sizeof text, "%d", key);
    pickle_string(b, text);
    pickle_string(b, "cpu");
    pickle_integer(b, elements_of(item));
    put_text(b, "tQ"); /* a persistent id: what is stored under that key */
    pickle_integer(b, 0);
    pickle_layout(b, item);
    put_text(b, "\x89"
                "ccollections\nOrderedDict\n)RtR");
}

static void
pickle_state(bytes *b, const d2c_st_item *items, int count)
{
    int i;

    put_text(b, "}(");
    for (i = 0; i < count; i++) {
        pickle_string(b, items[i].name);
        pickle_tensor(b, &items[i], i);
    }
    put_text(b, "u");
}

static void
pickle_all(bytes *b, const d2c_st_item *items, int count, const char *within)
{
    put(b, "\x80\x02", 2);
    if (within != NULL) {
        put_text(b, "}");
        pickle_string(b, within);
    }
    pickle_state(b, items, count);
    put_text(b, within != NULL ? "s." : ".");
}

/* ---- the archive ---------------------------------------------------------------------------------------------- */

typedef struct archive {
    d2c_writer *writer;
    size_t at;
    bytes directory;
    int records;
    d2c_error *err;
} archive;

static d2c_status
too_large(d2c_error *err)
{
    return d2c_fail(err, D2C_TOO_LARGE, "the tensors are too large");
}

static d2c_status
write_out(archive *a, const void *data, size_t length)
{
    size_t end;

    if (d2c_size_add(&end, a->at, length) != 0)
        return too_large(a->err);
    a->at = end;
    return d2c_writer_put(a->writer, data, length, a->err);
}

/* What the header of a record and its entry of the directory have in common; sizes are in the ZIP64 field. */
static void
put_record(bytes *b, uint32_t crc, size_t name_length, size_t extra)
{
    put_number(b, ZIP64_VERSION, 2);
    put_number(b, 0, 2);    /* flags */
    put_number(b, 0, 2);    /* stored */
    put_number(b, 0, 2);    /* time */
    put_number(b, 0x21, 2); /* 1980-01-01 */
    put_number(b, crc, 4);
    put_number(b, FULL32, 4);
    put_number(b, FULL32, 4);
    put_number(b, name_length, 2);
    put_number(b, extra, 2);
}

/* The ZIP64 field: both sizes, and in the directory where the record is. */
static void
put_wide(bytes *b, size_t length, const size_t *at)
{
    put_number(b, 1, 2);
    put_number(b, at != NULL ? 24 : 16, 2);
    put_number(b, length, 8);
    put_number(b, length, 8);
    if (at != NULL)
        put_number(b, *at, 8);
}

/* The local header, filled up by an extra field so that the data begins on the boundary. */
static void
put_local(bytes *b, const char *name, size_t at, size_t length, uint32_t crc)
{
    size_t start = at + LOCAL_HEADER + strlen(name) + 20 + 4,
           padding = (ALIGNMENT - start % ALIGNMENT) % ALIGNMENT;

    put_text(b, "PK\x03\x04");
    put_record(b, crc, strlen(name), 20 + 4 + padding);
    put_text(b, name);
    put_wide(b, length, NULL);
    put_text(b, "FB"); /* the field by which torch pads */
    put_number(b, padding, 2);
    for (; padding > 0; padding--)
        put_text(b, "Z");
}

static void
put_central(bytes *b, const char *name, size_t at, size_t length, uint32_t crc)
{
    put_text(b, "PK\x01\x02");
    put_number(b, ZIP64_VERSION, 2);
    put_record(b, crc, strlen(name), 28);
    put_number(b, 0, 2); /* comment */
    put_number(b, 0, 2); /* disk */
    put_number(b, 0, 2);
    put_number(b, 0, 4);
    put_number(b, FULL32, 4);
    put_text(b, name);
    put_wide(b, length, &at);
}

static d2c_status
write_record(archive *a, const char *name, const void *data, size_t length)
{
    uint32_t crc = (uint32_t)crc32_z(0, data, (z_size_t)length);
    bytes header = {0};
    d2c_status status;

    put_local(&header, name, a->at, length, crc);
    put_central(&a->directory, name, a->at, length, crc);
    a->records++;
    if (header.failed || a->directory.failed)
        status = d2c_fail(a->err, D2C_NO_MEMORY, "out of memory");
    else
        status = write_out(a, header.data, header.length);
    if (status == D2C_OK)
        status = write_out(a, data, length);
    free(header.data);
    return status;
}

/* The record that ends the directory, what points to it, and the end that every reader looks for. */
static void
put_end(bytes *b, size_t start, size_t length, uint64_t records)
{
    put_text(b, "PK\x06\x06");
    put_number(b, ZIP64_END - 12, 8);
    put_number(b, ZIP64_VERSION, 2);
    put_number(b, ZIP64_VERSION, 2);
    put_number(b, 0, 8); /* disks */
    put_number(b, records, 8);
    put_number(b, records, 8);
    put_number(b, length, 8);
    put_number(b, start, 8);
    put_text(b, "PK\x06\x07");
    put_number(b, 0, 4);
    put_number(b, start + length, 8);
    put_number(b, 1, 4);
    put_text(b, "PK\x05\x06");
    put_number(b, 0, 4);
    put_number(b, FULL16, 2);
    put_number(b, FULL16, 2);
    put_number(b, FULL32, 4);
    put_number(b, FULL32, 4);
    put_number(b, 0, 2); /* comment */
}

static d2c_status
write_directory(archive *a)
{
    put_end(&a->directory, a->at, a->directory.length, (uint64_t)a->records);
    if (a->directory.failed)
        return d2c_fail(a->err, D2C_NO_MEMORY, "out of memory");
    return write_out(a, a->directory.data, a->directory.length);
}

static d2c_status
write_archive(archive *a, const bytes *pickle, const d2c_st_item *items, int count)
{
    char name[64];
    int i;

    D2C_TRY(write_record(a, "archive/data.pkl", pickle->data, pickle->length));
    D2C_TRY(write_record(a, "archive/byteorder", "little", 6));
    for (i = 0; i < count; i++) {
        snprintf(name, sizeof name, "archive/data/%d", i);
        D2C_TRY(
            write_record(a, name, items[i].data, (size_t)elements_of(&items[i]) * type_of(&items[i])->size));
    }
    D2C_TRY(write_record(a, "archive/version", "3\n", 2));
    return write_directory(a);
}

/* Types that torch has a storage for, and sizes that have a sum, before anything is written. */
static d2c_status
check_items(const d2c_st_item *items, int count, d2c_error *err)
{
    size_t total = 0, size;
    int i, d;

    for (i = 0; i < count; i++) {
        if (type_of(&items[i]) == NULL)
            return d2c_fail(err, D2C_INVALID_ARGUMENT, "tensor \"%s\" has a dtype that is not written",
                            items[i].name);
        size = type_of(&items[i])->size;
        for (d = 0; d < items[i].ndim; d++)
            if (items[i].dim[d] < 0 || d2c_size_mul(&size, size, (size_t)items[i].dim[d]) != 0)
                return too_large(err);
        if (d2c_size_add(&total, total, size) != 0)
            return too_large(err);
    }
    return D2C_OK;
}

static d2c_status
write_file(const char *path, const bytes *pickle, const d2c_st_item *items, int count, d2c_error *err)
{
    archive a = {.err = err};
    d2c_status status;

    D2C_TRY(d2c_writer_open(&a.writer, path, err));
    status = write_archive(&a, pickle, items, count);
    if (status == D2C_OK)
        status = d2c_writer_commit(a.writer, err);
    else
        d2c_writer_abandon(a.writer);
    free(a.directory.data);
    return status;
}

d2c_status
d2c_torch_write(const char *path, const d2c_st_item *items, int count, const char *within, d2c_error *err)
{
    bytes pickle = {0};
    d2c_status status;

    D2C_TRY(check_items(items, count, err));
    pickle_all(&pickle, items, count, within);
    if (pickle.failed)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    else
        status = write_file(path, &pickle, items, count, err);
    free(pickle.data);
    return status;
}
