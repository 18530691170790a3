/* copy_in.c: the binary COPY format, sent in blocks. */
#include "train/copy_in.h"

#include <string.h>

#include "train/database.h"

static void
send_buffer(d2c_copy_in *copy, const char *bytes, size_t length)
{
    if (copy->status == D2C_OK && PQputCopyData(copy->conn, bytes, (int)length) != 1)
        copy->status = d2c_database_fail(copy->conn, NULL, &copy->error);
}

static void
put(d2c_copy_in *copy, const void *bytes, size_t length)
{
    const char *at = bytes;

    if (copy->used + length > sizeof copy->buffer) {
        send_buffer(copy, copy->buffer, copy->used);
        copy->used = 0;
    }
    if (length > sizeof copy->buffer) {
        send_buffer(copy, at, length);
        return;
    }
    memcpy(copy->buffer + copy->used, at, length);
    copy->used += length;
}

/* A big-endian number of `size` bytes. */
static void
put_number(d2c_copy_in *copy, int64_t value, int size)
{
    uint8_t bytes[8];
    int i;

    for (i = 0; i < size; i++)
        bytes[i] = (uint8_t)((uint64_t)value >> 8 * (size - 1 - i));
    put(copy, bytes, (size_t)size);
}

d2c_status
d2c_copy_in_begin(d2c_copy_in *copy, PGconn *conn, const char *sql, d2c_error *err)
{
    copy->conn = conn;
    copy->status = D2C_OK;
    copy->used = 0;
    memset(&copy->error, 0, sizeof copy->error);
    D2C_TRY(d2c_database_run(conn, NULL, err, sql, 0, NULL));
    put(copy, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
    return D2C_OK;
}

void
d2c_copy_in_row(d2c_copy_in *copy, int fields)
{
    put_number(copy, fields, 2);
}

void
d2c_copy_in_int64(d2c_copy_in *copy, int64_t value)
{
    put_number(copy, 8, 4);
    put_number(copy, value, 8);
}

void
d2c_copy_in_bytes(d2c_copy_in *copy, const void *bytes, size_t length)
{
    if (bytes == NULL) {
        put_number(copy, -1, 4);
        return;
    }
    if (length > 0x3fffffff) {
        if (copy->status == D2C_OK)
            copy->status =
                d2c_fail(&copy->error, D2C_TOO_LARGE, "a value of %zu bytes does not fit a row", length);
        return;
    }
    put_number(copy, (int64_t)length, 4);
    put(copy, bytes, length);
}

/* Takes the server's last word and leaves the connection ready for the next statement. */
static d2c_status
finish(d2c_copy_in *copy, d2c_error *err)
{
    PGresult *result;
    d2c_status status = D2C_OK;

    while ((result = PQgetResult(copy->conn)) != NULL) {
        if (status == D2C_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
            status = d2c_database_fail(copy->conn, result, err);
        PQclear(result);
    }
    return status;
}

d2c_status
d2c_copy_in_end(d2c_copy_in *copy, d2c_error *err)
{
    put_number(copy, -1, 2);
    send_buffer(copy, copy->buffer, copy->used);
    if (copy->status != D2C_OK) {
        if (err != NULL)
            *err = copy->error;
        d2c_copy_in_abandon(copy);
        return copy->status;
    }
    if (PQputCopyEnd(copy->conn, NULL) != 1)
        return d2c_database_fail(copy->conn, NULL, err);
    return finish(copy, err);
}

void
d2c_copy_in_abandon(d2c_copy_in *copy)
{
    PQputCopyEnd(copy->conn, "abandoned");
    finish(copy, NULL);
}
