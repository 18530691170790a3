/* tensorboard.c: the events of tensorboard.h. */
#define _GNU_SOURCE
#include "train/tensorboard.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* Protobuf's wire types and the fields that are written. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum {
    EVENT_WALL_TIME = 1,
    EVENT_STEP = 2,
    EVENT_FILE_VERSION = 3,
    EVENT_SUMMARY = 5,
    EVENT_SESSION_LOG = 7
};
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2, VALUE_IMAGE = 4 };
enum { IMAGE_HEIGHT = 1, IMAGE_WIDTH = 2, IMAGE_COLORSPACE = 3, IMAGE_ENCODED = 4 };
enum { SESSION_STATUS = 1, SESSION_START = 1 };

#define PNG_HEADER 26 /* signature, length and name of IHDR, width, height, depth, colour type */

struct d2c_tensorboard {
    FILE *file;
    char *path;
    uint32_t crc[256];
};

/* A message being put together; failed: out of memory. */
typedef struct message {
    uint8_t *bytes;
    size_t length, capacity;
    int failed;
} message;

/* ---- protobuf -------------------------------------------------------------------------------------------------- */

static void
put_bytes(message *m, const void *bytes, size_t length)
{
    if (m->length + length > m->capacity && !m->failed) {
        size_t capacity = 2 * (m->length + length);
        uint8_t *grown = realloc(m->bytes, capacity);

        m->failed = grown == NULL;
        m->bytes = grown != NULL ? grown : m->bytes;
        m->capacity = grown != NULL ? capacity : m->capacity;
    }
    if (m->failed)
        return;
    if (length > 0)
        memcpy(m->bytes + m->length, bytes, length);
    m->length += length;
}

static void
put_varint(message *m, uint64_t value)
{
    uint8_t byte;

    for (; value >= 0x80; value >>= 7) {
        byte = (uint8_t)(value | 0x80);
        put_bytes(m, &byte, 1);
    }
    byte = (uint8_t)value;
    put_bytes(m, &byte, 1);
}

/* Little-endian, whatever the machine is. */
static void
put_fixed(message *m, uint64_t value, int bytes)
{
    uint8_t out[8];
    int i;

    for (i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> 8 * i);
    put_bytes(m, out, (size_t)bytes);
}

static void
put_number(message *m, int field, uint64_t value)
{
    put_varint(m, (uint64_t)field << 3 | VARINT);
    put_varint(m, value);
}

static void
put_field(message *m, int field, const void *bytes, size_t length)
{
    put_varint(m, (uint64_t)field << 3 | BYTES);
    put_varint(m, length);
    put_bytes(m, bytes, length);
}

/* A message within a message, which is freed. */
static void
put_message(message *m, int field, message *inner)
{
    put_field(m, field, inner->bytes, inner->length);
    m->failed |= inner->failed;
    free(inner->bytes);
}

static void
put_float(message *m, int field, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    put_varint(m, (uint64_t)field << 3 | FIXED32);
    put_fixed(m, bits, 4);
}

static void
put_double(message *m, int field, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    put_varint(m, (uint64_t)field << 3 | FIXED64);
    put_fixed(m, bits, 8);
}

/* ---- records --------------------------------------------------------------------------------------------------- */

/* The table of CRC-32C, Castagnoli's polynomial reversed. */
static void
make_crc_table(uint32_t table[256])
{
    uint32_t i, value;
    int bit;

    for (i = 0; i < 256; i++) {
        value = i;
        for (bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0);
        table[i] = value;
    }
}

/* As TFRecord keeps it: rotated, and a constant added. */
static uint32_t
masked_crc(const uint32_t table[256], const uint8_t *bytes, size_t length)
{
    uint32_t crc = 0xffffffffu;
    size_t i;

    for (i = 0; i < length; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Length, its checksum, the event, its checksum; the event is freed. */
static d2c_status
write_event(d2c_tensorboard *board, message *event, d2c_error *err)
{
    message record = {0};
    d2c_status status = D2C_OK;

    put_fixed(&record, event->length, 8);
    if (!record.failed)
        put_fixed(&record, masked_crc(board->crc, record.bytes, 8), 4);
    put_bytes(&record, event->bytes, event->length);
    put_fixed(&record, event->failed ? 0 : masked_crc(board->crc, event->bytes, event->length), 4);
    if (record.failed || event->failed)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory for an event");
    else if (fwrite(record.bytes, 1, record.length, board->file) != record.length || fflush(board->file) != 0)
        status = d2c_fail(err, D2C_IO, "could not write file \"%s\": %s", board->path, strerror(errno));
    free(record.bytes);
    free(event->bytes);
    return status;
}

static message
begin_event(double now, int64_t step)
{
    message event = {0};

    put_double(&event, EVENT_WALL_TIME, now);
    if (step != 0)
        put_number(&event, EVENT_STEP, (uint64_t)step);
    return event;
}

/* ---- the interface --------------------------------------------------------------------------------------------- */

static d2c_status
write_start(d2c_tensorboard *board, int64_t first_step, double now, d2c_error *err)
{
    static const char version[] = "brain.Event:2";
    message event = begin_event(now, 0), log = {0};

    put_field(&event, EVENT_FILE_VERSION, version, sizeof version - 1);
    D2C_TRY(write_event(board, &event, err));
    event = begin_event(now, first_step);
    put_number(&log, SESSION_STATUS, SESSION_START);
    put_message(&event, EVENT_SESSION_LOG, &log);
    return write_event(board, &event, err);
}

/* The number of event files in the folder, and the greatest time in their names: the new name must come after all others,
 * for that is the order in which they are read. */
static int
count_files(const char *folder, int64_t *newest)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    int64_t seconds;
    int count = 0;

    if (directory == NULL)
        return 0;
    while ((entry = readdir(directory)) != NULL)
        if (sscanf(entry->d_name, "events.out.tfevents.%" SCNd64, &seconds) == 1) {
            *newest = seconds > *newest ? seconds : *newest;
            count++;
        }
    closedir(directory);
    return count;
}

d2c_status
d2c_tensorboard_open(d2c_tensorboard **board, const char *folder, int64_t first_step, double now,
                     d2c_error *err)
{
    d2c_tensorboard *made;
    int64_t newest = (int64_t)now;
    int count;
    d2c_status status;

    *board = NULL;
    D2C_TRY(d2c_make_directory(folder, err));
    count = count_files(folder, &newest);
    made = calloc(1, sizeof *made);
    if (made == NULL ||
        asprintf(&made->path, "%s/events.out.tfevents.%010" PRId64 ".d2c.%04d", folder, newest, count) < 0) {
        free(made);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    make_crc_table(made->crc);
    made->file = fopen(made->path, "wbxe");
    if (made->file == NULL)
        status = d2c_fail(err, D2C_IO, "could not create file \"%s\": %s", made->path, strerror(errno));
    else
        status = write_start(made, first_step, now, err);
    if (status == D2C_OK)
        *board = made;
    else
        d2c_tensorboard_close(made, NULL);
    return status;
}

d2c_status
d2c_tensorboard_close(d2c_tensorboard *board, d2c_error *err)
{
    d2c_status status = D2C_OK;

    if (board == NULL)
        return D2C_OK;
    if (board->file != NULL && fclose(board->file) != 0)
        status = d2c_fail(err, D2C_IO, "could not write file \"%s\": %s", board->path, strerror(errno));
    free(board->path);
    free(board);
    return status;
}

d2c_status
d2c_tensorboard_scalars(d2c_tensorboard *board, double now, int64_t step, const char *const *tag,
                        const float *value, int count, d2c_error *err)
{
    message event = begin_event(now, step), summary = {0};
    int i;

    for (i = 0; i < count; i++) {
        message one = {0};

        put_field(&one, VALUE_TAG, tag[i], strlen(tag[i]));
        put_float(&one, VALUE_SIMPLE, value[i]);
        put_message(&summary, SUMMARY_VALUE, &one);
    }
    put_message(&event, EVENT_SUMMARY, &summary);
    return write_event(board, &event, err);
}

static uint32_t
big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

d2c_status
d2c_tensorboard_png(d2c_tensorboard *board, double now, int64_t step, const char *tag, const void *png,
                    size_t length, d2c_error *err)
{
    static const int channels[] = {1, 0, 3, 3, 2, 0, 4}; /* of PNG's colour types */
    const uint8_t *header = png;
    message event, summary = {0}, value = {0}, image = {0};

    if (length < PNG_HEADER || header[25] > 6)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the picture is not a PNG");
    event = begin_event(now, step);
    put_number(&image, IMAGE_HEIGHT, big_endian(header + 20));
    put_number(&image, IMAGE_WIDTH, big_endian(header + 16));
    put_number(&image, IMAGE_COLORSPACE, (uint64_t)channels[header[25]]);
    put_field(&image, IMAGE_ENCODED, png, length);
    put_field(&value, VALUE_TAG, tag, strlen(tag));
    put_message(&value, VALUE_IMAGE, &image);
    put_message(&summary, SUMMARY_VALUE, &value);
    put_message(&event, EVENT_SUMMARY, &summary);
    return write_event(board, &event, err);
}
