/* copy.c: the binary COPY format of copy.h (PostgreSQL documentation, COPY, "Binary Format"). */
#include "train/copy.h"

#include <stdlib.h>
#include <string.h>

#define FIELD_LIMIT (1u << 30) /* PostgreSQL's own limit of a value */

static const uint8_t signature[11] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};

void
d2c_copy_open(d2c_copy_reader *reader, int columns)
{
    memset(reader, 0, sizeof *reader);
    reader->columns = columns;
}

void
d2c_copy_close(d2c_copy_reader *reader)
{
    free(reader->buffer);
    memset(reader, 0, sizeof *reader);
}

uint16_t
d2c_get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

uint32_t
d2c_get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

uint64_t
d2c_get_u64(const uint8_t *at)
{
    return (uint64_t)d2c_get_u32(at) << 32 | d2c_get_u32(at + 4);
}

d2c_status
d2c_field_i64(int64_t *value, const d2c_field *field, d2c_error *err)
{
    if (field->length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "unexpected null value");
    if (field->length != 8)
        return d2c_fail(err, D2C_BAD_DATA, "a bigint has %d bytes", (int)field->length);
    *value = (int64_t)d2c_get_u64(field->data);
    return D2C_OK;
}

d2c_status
d2c_copy_feed(d2c_copy_reader *reader, const void *bytes, size_t length, d2c_error *err)
{
    size_t unread = reader->end - reader->start;

    if (reader->start > 0 && unread > 0)
        memmove(reader->buffer, reader->buffer + reader->start, unread);
    reader->start = 0;
    reader->end = unread;
    if (length > SIZE_MAX / 2 - unread)
        return d2c_fail(err, D2C_TOO_LARGE, "binary COPY data is too large");
    if (unread + length > reader->capacity) {
        size_t capacity = (unread + length) * 2;
        uint8_t *buffer = realloc(reader->buffer, capacity);

        if (buffer == NULL)
            return d2c_fail(err, D2C_NO_MEMORY, "out of memory while reading rows");
        reader->buffer = buffer;
        reader->capacity = capacity;
    }
    if (length > 0)
        memcpy(reader->buffer + unread, bytes, length);
    reader->end += length;
    return D2C_OK;
}

/* Signature, 32 flag bits of which the upper half must be known, and an extension to be skipped. */
static d2c_status
read_header(d2c_copy_reader *reader, d2c_error *err)
{
    const uint8_t *at = reader->buffer + reader->start;
    size_t available = reader->end - reader->start;
    uint32_t extension;

    if (available > 0 && memcmp(at, signature, available < 11 ? available : 11) != 0)
        return d2c_fail(err, D2C_BAD_DATA, "binary COPY data has no valid signature");
    if (available < 19)
        return D2C_OK;
    if (d2c_get_u32(at + 11) >> 16 != 0)
        return d2c_fail(err, D2C_UNSUPPORTED, "binary COPY data has unknown flags");
    extension = d2c_get_u32(at + 15);
    if (extension > FIELD_LIMIT)
        return d2c_fail(err, D2C_BAD_DATA, "binary COPY header extension is too long");
    if (available - 19 < extension)
        return D2C_OK;
    reader->start += 19 + extension;
    reader->header_read = 1;
    return D2C_OK;
}

/* Walks the row at the mark; *size is its length in bytes, or 0 when it is not here as a whole. */
static d2c_status
scan_row(const d2c_copy_reader *reader, d2c_field *fields, size_t *size, d2c_error *err)
{
    const uint8_t *start = reader->buffer + reader->start, *at = start + 2;
    const uint8_t *end = reader->buffer + reader->end;
    int i;

    *size = 0;
    for (i = 0; i < reader->columns; i++) {
        uint32_t length;

        if (end - at < 4)
            return D2C_OK;
        length = d2c_get_u32(at);
        at += 4;
        fields[i] = (d2c_field){NULL, -1};
        if (length == UINT32_MAX)
            continue;
        if (length > FIELD_LIMIT)
            return d2c_fail(err, D2C_BAD_DATA, "binary COPY field has the impossible length %u", length);
        if ((size_t)(end - at) < length)
            return D2C_OK;
        fields[i] = (d2c_field){at, (int32_t)length};
        at += length;
    }
    *size = (size_t)(at - start);
    return D2C_OK;
}

d2c_status
d2c_copy_row(d2c_copy_reader *reader, d2c_field *fields, int *found, d2c_error *err)
{
    size_t size = 0;
    int count;

    *found = 0;
    if (!reader->header_read)
        D2C_TRY(read_header(reader, err));
    if (!reader->header_read || reader->ended || reader->end - reader->start < 2)
        return D2C_OK;
    count = (int16_t)d2c_get_u16(reader->buffer + reader->start);
    if (count == -1) {
        reader->ended = 1;
        reader->start += 2;
        return D2C_OK;
    }
    if (count != reader->columns)
        return d2c_fail(err, D2C_BAD_DATA, "binary COPY row has %d fields, expected %d", count,
                        reader->columns);
    D2C_TRY(scan_row(reader, fields, &size, err));
    if (size == 0)
        return D2C_OK;
    reader->start += size;
    *found = 1;
    return D2C_OK;
}
