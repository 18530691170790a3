/* copy_out.h: a COPY ... TO STDOUT (FORMAT binary) under way on a connection. */
#ifndef D2C_TRAIN_COPY_OUT_H
#define D2C_TRAIN_COPY_OUT_H

#include <libpq-fe.h>

#include "train/copy.h"

typedef struct d2c_copy_out {
    PGconn *connection;
    d2c_copy_reader reader;
    int finished;  /* the statement has ended */
    int conflicts; /* as one that may be sent again: a standby's rows were removed under it */
} d2c_copy_out;

/* Sends the statement.  d2c_copy_out_stop frees what the reader holds; the connection stays the caller's. */
d2c_status d2c_copy_out_start(d2c_copy_out *out, PGconn *connection, const char *sql, int columns,
                              d2c_error *err);
void d2c_copy_out_stop(d2c_copy_out *out);

/* Reads on until at least `bytes` wait in out->reader or the data has ended; then d2c_copy_row takes rows
 * from there. *more 0: nothing came, the statement has ended well. */
d2c_status d2c_copy_out_fill(d2c_copy_out *out, size_t bytes, int *more, d2c_error *err);

/* The next row, waiting for it; *found 0 at the end.  Fields are valid until the next call. */
d2c_status d2c_copy_out_row(d2c_copy_out *out, d2c_field *fields, int *found, d2c_error *err);

#endif
