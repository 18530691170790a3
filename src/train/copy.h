/*
 * copy.h: PostgreSQL's binary COPY format, read from bytes as they arrive.
 *
 * The reader trusts nothing: signature, flags, field counts and every length are checked before they are
 * used, and a stream that stops early is told from one that has ended.
 */
#ifndef D2C_TRAIN_COPY_H
#define D2C_TRAIN_COPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_field {
    const uint8_t *data;
    int32_t length; /* -1: NULL */
} d2c_field;

typedef struct d2c_copy_reader {
    uint8_t *buffer;
    size_t start, end, capacity; /* unread bytes are buffer[start..end) */
    int columns;
    int header_read, ended;
} d2c_copy_reader;

/* A reader of rows of `columns` fields; d2c_copy_close frees what it holds. */
void d2c_copy_open(d2c_copy_reader *reader, int columns);
void d2c_copy_close(d2c_copy_reader *reader);

/* Appends bytes as they came. */
d2c_status d2c_copy_feed(d2c_copy_reader *reader, const void *bytes, size_t length, d2c_error *err);

/* The next row: *found 1 and fields [columns], valid until the next feed; *found 0 when more bytes are needed
 * or the stream has ended (reader->ended). */
d2c_status d2c_copy_row(d2c_copy_reader *reader, d2c_field *fields, int *found, d2c_error *err);

/* Numbers in network byte order. */
uint16_t d2c_get_u16(const uint8_t *at);
uint32_t d2c_get_u32(const uint8_t *at);
uint64_t d2c_get_u64(const uint8_t *at);

/* A bigint field; D2C_BAD_DATA for NULL or another width. */
d2c_status d2c_field_i64(int64_t *value, const d2c_field *field, d2c_error *err);

#endif
