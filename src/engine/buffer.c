/* buffer.c: payloads being written. */
#include "engine/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/protocol.h"

/* Makes room for `length` more bytes; doubles, so that many small writes cost little. */
static int
reserve(d2c_buffer *buffer, size_t length)
{
    size_t wanted, capacity = buffer->capacity < 256 ? 256 : buffer->capacity;
    char *data;

    if (buffer->failed || length > D2C_FRAME_LIMIT - buffer->length) {
        buffer->failed = 1;
        return -1;
    }
    wanted = buffer->length + length;
    if (wanted <= buffer->capacity)
        return 0;
    while (capacity < wanted)
        capacity *= 2;
    data = realloc(buffer->data, capacity);
    if (data == NULL) {
        buffer->failed = 1;
        return -1;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return 0;
}

void
d2c_put_raw(d2c_buffer *buffer, const void *bytes, size_t length)
{
    if (reserve(buffer, length) != 0 || length == 0)
        return;
    memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
}

void
d2c_put_u32(d2c_buffer *buffer, uint32_t value)
{
    d2c_put_raw(buffer, &value, sizeof value);
}

void
d2c_put_i64(d2c_buffer *buffer, int64_t value)
{
    d2c_put_raw(buffer, &value, sizeof value);
}

void
d2c_put_f64(d2c_buffer *buffer, double value)
{
    d2c_put_raw(buffer, &value, sizeof value);
}

void
d2c_put_bytes(d2c_buffer *buffer, const void *bytes, size_t length)
{
    if (length > D2C_FRAME_LIMIT) {
        buffer->failed = 1;
        return;
    }
    d2c_put_u32(buffer, (uint32_t)length);
    d2c_put_raw(buffer, bytes, length);
}

void
d2c_put_string(d2c_buffer *buffer, const char *text)
{
    d2c_put_bytes(buffer, text, strlen(text));
}

void
d2c_put_tensor(d2c_buffer *buffer, int dtype, int ndim, const int64_t *dims, const void *data, size_t bytes)
{
    int i;

    d2c_put_u32(buffer, (uint32_t)dtype);
    d2c_put_u32(buffer, (uint32_t)ndim);
    for (i = 0; i < ndim; i++)
        d2c_put_i64(buffer, dims[i]);
    d2c_put_bytes(buffer, data, bytes);
}

void
d2c_buffer_reset(d2c_buffer *buffer)
{
    buffer->length = 0;
    buffer->failed = 0;
}

void
d2c_buffer_free(d2c_buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}
