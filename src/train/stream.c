/* stream.c: the epochs of stream.h. */
#include "train/stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "train/copy_out.h"
#include "train/database.h"

struct d2c_stream {
    d2c_stream_setting setting;
    PGconn *connection; /* or NULL */
    pthread_mutex_t lock;
    int interrupted; /* under the lock, as is what `connection` points at */
    int copying;     /* a COPY is under way on it */
    d2c_copy_out out;
    int64_t epoch, place; /* the rows of the epoch before `place` are behind the stream */
    d2c_order_key last;   /* of the row before `place`, when place > 0 */
    d2c_row row;
    d2c_patience patience;
    _Atomic int64_t rows, bytes;
    _Atomic int reconnects;
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
    made->patience = (d2c_patience){setting->retries, setting->stop, 0};
    pthread_mutex_init(&made->lock, NULL);
    status = d2c_row_allocate(&made->row, setting->shape, err);
    if (status == D2C_OK)
        *stream = made;
    else {
        pthread_mutex_destroy(&made->lock);
        free(made);
    }
    return status;
}

static void
disconnect(d2c_stream *stream)
{
    d2c_copy_out_stop(&stream->out);
    pthread_mutex_lock(&stream->lock);
    PQfinish(stream->connection);
    stream->connection = NULL;
    pthread_mutex_unlock(&stream->lock);
    stream->copying = 0;
}

static d2c_status
connect_stream(d2c_stream *stream, d2c_error *err)
{
    PGconn *connection;
    d2c_status status = D2C_OK;

    D2C_TRY(d2c_database_open(&connection, stream->setting.conninfo, err));
    pthread_mutex_lock(&stream->lock);
    stream->connection = connection;
    if (stream->interrupted)
        status = d2c_fail(err, D2C_CANCELLED, "cancelled");
    pthread_mutex_unlock(&stream->lock);
    return status;
}

void
d2c_stream_interrupt(d2c_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->interrupted = 1;
    if (stream->connection != NULL && PQsocket(stream->connection) >= 0)
        shutdown(PQsocket(stream->connection), SHUT_RDWR);
    pthread_mutex_unlock(&stream->lock);
}

void
d2c_stream_close(d2c_stream *stream)
{
    if (stream == NULL)
        return;
    disconnect(stream);
    d2c_row_free(&stream->row);
    pthread_mutex_destroy(&stream->lock);
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

void
d2c_stream_count(const d2c_stream *stream, d2c_stream_counters *counters)
{
    *counters = (d2c_stream_counters){stream->rows, stream->bytes, stream->reconnects};
}

static void
count(d2c_stream *stream, const d2c_field *fields)
{
    int64_t bytes = 0;
    int i;

    for (i = 0; i < D2C_TABLE_COLUMNS; i++)
        bytes += fields[i].length > 0 ? fields[i].length : 0;
    stream->rows++;
    stream->bytes += bytes;
}

/* Connects where need be and sends the statement that continues at the present place. */
static d2c_status
begin(d2c_stream *stream, d2c_error *err)
{
    char *sql;
    d2c_status status;

    if (stream->connection == NULL)
        D2C_TRY(connect_stream(stream, err));
    sql = d2c_table_copy_epoch(stream->setting.table, stream->setting.seed, stream->epoch, stream->place,
                               stream->place > 0 ? &stream->last : NULL, &stream->setting.share);
    if (sql == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    stream->copying = 1;
    status = d2c_copy_out_start(&stream->out, stream->connection, sql, D2C_TABLE_COLUMNS, err);
    free(sql);
    return status;
}

/* Reads one row's fields; *lost tells a connection that went away, or rows that went away under the statement, from every
 * other failure. */
static d2c_status
fetch(d2c_stream *stream, d2c_field *fields, int *found, int *lost, d2c_error *err)
{
    d2c_status status = D2C_OK;

    if (!stream->copying)
        status = begin(stream, err);
    if (status == D2C_OK)
        status = d2c_copy_out_row(&stream->out, fields, found, err);
    *lost = d2c_connection_lost(status, stream->connection) || (status == D2C_IO && stream->out.conflicts);
    return status;
}

static d2c_status
wait_to_retry(d2c_stream *stream, d2c_error *err)
{
    disconnect(stream);
    D2C_TRY(d2c_patience_wait(&stream->patience, err));
    stream->reconnects++;
    return D2C_OK;
}

/* The place of the share's next row in the epoch, which may lie behind the epoch's end. */
static int64_t
next_place(const d2c_stream *stream)
{
    const d2c_share *share = &stream->setting.share;
    int64_t position = stream->epoch * stream->setting.table->rows + stream->place;
    int64_t in_batch = position % share->batch;

    if (in_batch >= share->first + share->rows)
        in_batch -= share->batch;
    return stream->place + (in_batch < share->first ? share->first - in_batch : 0);
}

static d2c_status
other_rows(const d2c_stream *stream, const char *how_many, d2c_error *err)
{
    d2c_fail(err, D2C_BAD_DATA, "the table has changed during training");
    d2c_detail(err, "Epoch %" PRId64 " has %s rows than the %" PRId64 " that there were at the start.",
               stream->epoch, how_many, stream->setting.table->rows);
    return D2C_BAD_DATA;
}

static d2c_status
next_epoch(d2c_stream *stream, d2c_error *err)
{
    if (next_place(stream) < stream->setting.table->rows)
        return other_rows(stream, "fewer", err);
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
    D2C_TRY(d2c_content_check(stream->setting.table->content, fields, err));
    if (next_place(stream) >= stream->setting.table->rows)
        return other_rows(stream, "more", err);
    count(stream, fields);
    d2c_order_key_of(&stream->last, stream->row.id, stream->setting.seed, stream->epoch);
    stream->place = next_place(stream) + 1;
    stream->patience.failures = 0;
    *row = &stream->row;
    return D2C_OK;
}
