/* retry.c: the patience of retry.h. */
#include "train/retry.h"

#include <time.h>

#include "train/database.h"

d2c_status
d2c_patience_wait(d2c_patience *patience, d2c_error *err)
{
    int slice, slices = 5 << (patience->failures < 4 ? patience->failures : 4);

    if (patience->failures++ >= patience->retries) {
        d2c_error_prefix(err, "lost the connection to the database");
        d2c_hint(err, "It was tried again %d times; train with --resume latest when the server is back.",
                 patience->retries);
        return D2C_IO;
    }
    for (slice = 0; slice < slices; slice++) {
        struct timespec pause = {0, 50 * 1000 * 1000};

        if (patience->stop != NULL && *patience->stop)
            return d2c_fail(err, D2C_CANCELLED, "cancelled");
        nanosleep(&pause, NULL);
    }
    return D2C_OK;
}

int
d2c_connection_lost(d2c_status status, PGconn *connection)
{
    if (status != D2C_IO || connection == NULL)
        return status == D2C_IO;
    if (PQtransactionStatus(connection) == PQTRANS_INERROR) /* the server has answered */
        return 0;
    return d2c_database_run(connection, NULL, NULL, "SELECT 1", 0, NULL) != D2C_OK;
}

d2c_status
d2c_retry(const char *conninfo, d2c_patience patience, d2c_database_work work, void *closure, d2c_error *err)
{
    PGconn *connection;
    d2c_status status = d2c_database_open(&connection, conninfo, err);
    int lost;

    if (status != D2C_OK)
        return status;
    for (;;) {
        if (connection != NULL)
            status = work(closure, connection, err);
        lost = d2c_connection_lost(status, connection);
        PQfinish(connection);
        if (!lost)
            return status;
        D2C_TRY(d2c_patience_wait(&patience, err));
        status = d2c_database_open(&connection, conninfo, err);
    }
}
