/*
 * copy_in.h: rows into a table by COPY ... FROM STDIN (FORMAT binary).
 *
 * After a failure every call returns the first error again, so a row is written without a check between its
 * fields.
 */
#ifndef D2C_TRAIN_COPY_IN_H
#define D2C_TRAIN_COPY_IN_H

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_copy_in {
    PGconn *conn;
    d2c_status status; /* the first failure */
    d2c_error error;
    size_t used;
    char buffer[1 << 16];
} d2c_copy_in;

/* Sends the COPY statement and the format's header. */
d2c_status d2c_copy_in_begin(d2c_copy_in *copy, PGconn *conn, const char *sql, d2c_error *err);

void d2c_copy_in_row(d2c_copy_in *copy, int fields);
void d2c_copy_in_int64(d2c_copy_in *copy, int64_t value);
void d2c_copy_in_bytes(d2c_copy_in *copy, const void *bytes,
                       size_t length); /* text and bytea; NULL: SQL's NULL */

/* Ends the COPY; waits for the server's answer. */
d2c_status d2c_copy_in_end(d2c_copy_in *copy, d2c_error *err);

/* Ends it without rows; the transaction is then aborted. */
void d2c_copy_in_abandon(d2c_copy_in *copy);

#endif
