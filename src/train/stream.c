/* stream.c: the epochs of stream.h. */
#include "train/stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "train/copy_out.h"
#include "train/database.h"

struct d2c_stream {
    d2c_stream_setting setting;
    PGconn *connection; /* or NULL */
    int copying;        /* a COPY is under way on it */
    d2c_copy_out out;
    int64_t epoch, place;
    d2c_order_key last; /* of the row before `place`, when place > 0 */
    d2c_row row;
    int failures, reconnects;
};

d2c_status
d2c_stream_open(d2c_stream **stream, const d2c_stream_setting *setting, d2c_error *err)
{
    d2c_stream *made = calloc(1, sizeof *made);
    d2c_status status;

    *stream = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->setting = *setting;
    status = d2c_row_allocate(&made->row, setting->shape, err);
    if (status == D2C_OK)
        *stream = made;
    else
        free(made);
    return status;
}

static void
disconnect(d2c_stream *stream)
{
    d2c_copy_out_stop(&stream->out);
    PQfinish(stream->connection);
    stream->connection = NULL;
    stream->copying = 0;
}

void
d2c_stream_close(d2c_stream *stream)
{
    if (stream == NULL)
        return;
    disconnect(stream);
    d2c_row_free(&stream->row);
    free(stream);
}

void
d2c_stream_seek(d2c_stream *stream, int64_t epoch, int64_t place, const d2c_order_key *after)
{
    if (stream->copying)
        disconnect(stream);
    stream->epoch = epoch;
    stream->place = place;
    if (after != NULL)
        stream->last = *after;
}

int
d2c_stream_reconnects(const d2c_stream *stream)
{
    return stream->reconnects;
}

/* Connects where need be and sends the statement that continues at the present place. */
static d2c_status
begin(d2c_stream *stream, d2c_error *err)
{
    char *sql;
    d2c_status status;

    if (stream->connection == NULL)
        D2C_TRY(d2c_database_open(&stream->connection, stream->setting.conninfo, err));
    sql = d2c_table_copy(stream->setting.table, stream->setting.seed, stream->epoch,
                         stream->place > 0 ? &stream->last : NULL);
    if (sql == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    stream->copying = 1;
    status = d2c_copy_out_start(&stream->out, stream->connection, sql, D2C_TABLE_COLUMNS, err);
    free(sql);
    return status;
}

/* Asks the server: libpq's own status may still say OK right after it has read the end of the connection. */
static int
is_alive(PGconn *connection)
{
    return connection != NULL && d2c_database_run(connection, NULL, NULL, "SELECT 1", 0, NULL) == D2C_OK;
}

/* Reads one row's fields; *lost tells a connection that went away from every other failure. */
static d2c_status
fetch(d2c_stream *stream, d2c_field *fields, int *found, int *lost, d2c_error *err)
{
    d2c_status status = D2C_OK;

    if (!stream->copying)
        status = begin(stream, err);
    if (status == D2C_OK)
        status = d2c_copy_out_row(&stream->out, fields, found, err);
    *lost = status == D2C_IO && !is_alive(stream->connection);
    return status;
}

/* Waits before the next try; an error when there have been enough. */
static d2c_status
wait_to_retry(d2c_stream *stream, d2c_error *err)
{
    int slice, slices = 5 << (stream->failures < 4 ? stream->failures : 4);

    disconnect(stream);
    if (stream->failures++ >= stream->setting.retries) {
        d2c_error_prefix(err, "lost the connection to the database");
        d2c_hint(err, "It was tried again %d times; train with --resume latest when the server is back.",
                 stream->setting.retries);
        return D2C_IO;
    }
    for (slice = 0; slice < slices; slice++) {
        struct timespec pause = {0, 50 * 1000 * 1000};

        if (stream->setting.stop != NULL && *stream->setting.stop)
            return d2c_fail(err, D2C_CANCELLED, "cancelled");
        nanosleep(&pause, NULL);
    }
    stream->reconnects++;
    return D2C_OK;
}

static d2c_status
next_epoch(d2c_stream *stream, d2c_error *err)
{
    if (stream->place != stream->setting.table->rows) {
        d2c_fail(err, D2C_BAD_DATA, "the table has changed during training");
        d2c_detail(err, "Epoch %" PRId64 " had %" PRId64 " rows, at the start there were %" PRId64 ".",
                   stream->epoch, stream->place, stream->setting.table->rows);
        return D2C_BAD_DATA;
    }
    d2c_copy_out_stop(&stream->out);
    stream->copying = 0;
    d2c_stream_seek(stream, stream->epoch + 1, 0, NULL);
    return D2C_OK;
}

d2c_status
d2c_stream_next(d2c_stream *stream, const d2c_row **row, d2c_error *err)
{
    d2c_field fields[D2C_TABLE_COLUMNS];
    int found = 0, lost;

    while (!found) {
        d2c_status status = fetch(stream, fields, &found, &lost, err);

        if (status != D2C_OK && lost)
            status = wait_to_retry(stream, err);
        else if (status == D2C_OK && !found)
            status = next_epoch(stream, err);
        D2C_TRY(status);
    }
    D2C_TRY(d2c_row_decode(&stream->row, stream->setting.shape, fields, err));
    d2c_order_key_of(&stream->last, stream->row.id, stream->setting.seed, stream->epoch);
    stream->place++;
    stream->failures = 0;
    *row = &stream->row;
    return D2C_OK;
}
