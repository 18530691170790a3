/* retry.h: work on a connection that is done again, on a new one, when the connection was lost. */
#ifndef D2C_TRAIN_RETRY_H
#define D2C_TRAIN_RETRY_H

#include <libpq-fe.h>

#include "base/status.h"

/* How often and how long to wait. */
typedef struct d2c_patience {
    int retries;              /* in a row before it is given up */
    const volatile int *stop; /* non-zero: waits end with D2C_CANCELLED; may be NULL */
    int failures;             /* so far; 0 after a success */
} d2c_patience;

/* Waits before the next try, twice as long each time; the error that was, with a hint, when there have been enough. */
d2c_status d2c_patience_wait(d2c_patience *patience, d2c_error *err);

/* Whether a failure lost the connection: the server is asked, for libpq's own status may still say OK right after it has
 * read the end of the connection. */
int d2c_connection_lost(d2c_status status, PGconn *connection);

/* Work that can be begun again after a failure. */
typedef d2c_status (*d2c_database_work)(void *closure, PGconn *connection, d2c_error *err);

/* Does the work on a connection of its own.  The first connection is tried once, for who cannot connect at all has a
 * setting to correct; a connection that was lost is made again. */
d2c_status d2c_retry(const char *conninfo, d2c_patience patience, d2c_database_work work, void *closure,
                     d2c_error *err);

#endif
