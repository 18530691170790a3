/* copy_out.c: libpq's side of a binary COPY. */
#include "train/copy_out.h"

#include <string.h>

#include "train/database.h"

#define SERIALIZATION_FAILURE "40001"

d2c_status
d2c_copy_out_start(d2c_copy_out *out, PGconn *connection, const char *sql, int columns, d2c_error *err)
{
    out->connection = connection;
    out->finished = out->conflicts = 0;
    d2c_copy_open(&out->reader, columns);
    return d2c_database_run(connection, NULL, err, sql, 0, NULL);
}

void
d2c_copy_out_stop(d2c_copy_out *out)
{
    d2c_copy_close(&out->reader);
}

/* The statement's own result, after its last byte. */
static d2c_status
finish(d2c_copy_out *out, d2c_error *err)
{
    PGresult *result;
    d2c_status status = D2C_OK;

    while ((result = PQgetResult(out->connection)) != NULL) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK && status == D2C_OK) {
            const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

            out->conflicts = state != NULL && strcmp(state, SERIALIZATION_FAILURE) == 0;
            status = d2c_database_fail(out->connection, result, err);
        }
        PQclear(result);
    }
    return status;
}

d2c_status
d2c_copy_out_fill(d2c_copy_out *out, size_t bytes, int *more, d2c_error *err)
{
    *more = 0;
    while (!out->finished && (!*more || out->reader.end - out->reader.start < bytes)) {
        char *message = NULL;
        int length = PQgetCopyData(out->connection, &message, 0);
        d2c_status status;

        if (length == -1) {
            out->finished = 1;
            return finish(out, err);
        }
        if (length < 0)
            return d2c_database_fail(out->connection, NULL, err);
        status = d2c_copy_feed(&out->reader, message, (size_t)length, err);
        PQfreemem(message);
        D2C_TRY(status);
        *more = 1;
    }
    return D2C_OK;
}

d2c_status
d2c_copy_out_row(d2c_copy_out *out, d2c_field *fields, int *found, d2c_error *err)
{
    int more;

    for (;;) {
        D2C_TRY(d2c_copy_row(&out->reader, fields, found, err));
        if (*found)
            return D2C_OK;
        D2C_TRY(d2c_copy_out_fill(out, 1, &more, err));
        if (!more && !out->reader.ended)
            return d2c_fail(err, D2C_BAD_DATA, "binary COPY data ends in the middle of a row");
        if (!more)
            return D2C_OK;
    }
}
