/*
 * stream.h: the rows of a table in the order of each epoch, one after the other, from a connection of its
 * own; or a process's share of them.
 *
 * A lost connection is made again, with waits that double, and reading goes on behind the last row's key: no row is skipped
 * or repeated.  So it does when a standby cancels the statement because its primary has removed what it reads.
 */
#ifndef D2C_TRAIN_STREAM_H
#define D2C_TRAIN_STREAM_H

#include "train/retry.h"
#include "train/row.h"

typedef struct d2c_stream d2c_stream;

typedef struct d2c_stream_setting {
    const char *conninfo;
    const d2c_table *table;
    const d2c_row_shape *shape;
    d2c_share share;
    uint64_t seed;
    int retries;              /* connections tried in a row before it gives up */
    const volatile int *stop; /* non-zero: waits end with D2C_CANCELLED; may be NULL */
} d2c_stream_setting;

d2c_status d2c_stream_open(d2c_stream **stream, const d2c_stream_setting *setting, d2c_error *err);
void d2c_stream_close(d2c_stream *stream);

/* The next row is the share's first from the epoch's row at `place` on, the first one behind the key `after` (NULL for
 * place 0). */
void d2c_stream_seek(d2c_stream *stream, int64_t epoch, int64_t place, const d2c_order_key *after);

/* The next row, of the next epoch after the last; valid until the next call.  */
d2c_status d2c_stream_next(d2c_stream *stream, const d2c_row **row, d2c_error *err);

/* Whatever waits for the server in d2c_stream_next, in another thread, ends; nothing more comes. */
void d2c_stream_interrupt(d2c_stream *stream);

/* What has come so far; any thread may ask. */
typedef struct d2c_stream_counters {
    int64_t rows, bytes; /* bytes of the fields, as they came */
    int reconnects;      /* how often the connection was made again */
} d2c_stream_counters;

void d2c_stream_count(const d2c_stream *stream, d2c_stream_counters *counters);

#endif
