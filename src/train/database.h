/*
 * database.h: libpq with d2c's errors.
 *
 * What the server says arrives as d2c_error: its message with the SQLSTATE behind it, its detail and its
 * hint.
 */
#ifndef D2C_TRAIN_DATABASE_H
#define D2C_TRAIN_DATABASE_H

#include <libpq-fe.h>

#include "base/status.h"

/* Connects by a conninfo string, a URI or a database's name; what it leaves out comes from libpq's
 * environment.  The session speaks UTF-8, is called d2c unless the string names it, and no statement or transaction in it has
 * a time limit but one that string or environment set.  On failure *conn is NULL. */
d2c_status d2c_database_open(PGconn **conn, const char *conninfo, d2c_error *err);

/* Runs one statement with n text parameters (NULL: SQL's NULL), text results.  *result, if wanted, is the
 * caller's to PQclear, and is NULL on failure.  COPY statements come back in PGRES_COPY_IN or PGRES_COPY_OUT.
 */
d2c_status d2c_database_run(PGconn *conn, PGresult **result, d2c_error *err, const char *sql, int n,
                            const char *const *params);

/* The same with results in binary form. */
d2c_status d2c_database_run_binary(PGconn *conn, PGresult **result, d2c_error *err, const char *sql, int n,
                                   const char *const *params);

/* "table" or "schema.table", split at the first dot, each part quoted and taken to the letter; malloc'd. */
d2c_status d2c_database_quote_table(char **quoted, PGconn *conn, const char *table, d2c_error *err);

/* Turns a failed result (NULL: the connection's own message) into an error; D2C_CANCELLED for a cancelled
 * query, D2C_IO for all else.  Does not clear the result. */
d2c_status d2c_database_fail(PGconn *conn, const PGresult *result, d2c_error *err);

#endif
