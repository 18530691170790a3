/* buffer.h: payloads being written; the counterpart of protocol.h's reader. */
#ifndef D2C_ENGINE_BUFFER_H
#define D2C_ENGINE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

/* Malloc'd bytes that grow; after a failed growth, or past D2C_FRAME_LIMIT, `failed` is set and writes do nothing. */
typedef struct d2c_buffer {
    char *data;
    size_t length, capacity;
    int failed;
} d2c_buffer;

void d2c_put_raw(d2c_buffer *buffer, const void *bytes, size_t length);
void d2c_put_u32(d2c_buffer *buffer, uint32_t value);
void d2c_put_i64(d2c_buffer *buffer, int64_t value);
void d2c_put_f64(d2c_buffer *buffer, double value);
void d2c_put_bytes(d2c_buffer *buffer, const void *bytes, size_t length);
void d2c_put_string(d2c_buffer *buffer, const char *text);
/* dtype: ops.h's d2c_dtype, the numbers of the SQL type as well. */
void d2c_put_tensor(d2c_buffer *buffer, int dtype, int ndim, const int64_t *dims, const void *data,
                    size_t bytes);

/* Forgets what was written, and a failure. */
void d2c_buffer_reset(d2c_buffer *buffer);
void d2c_buffer_free(d2c_buffer *buffer);

#endif
