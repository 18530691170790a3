/* database.c: libpq with d2c's errors. */
#include "train/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libpq's own messages may have several lines and end with a newline; ours are one line. */
static void
one_line(char *text)
{
    size_t length = strlen(text);

    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        text[--length] = '\0';
    for (; *text != '\0'; text++)
        if (*text == '\n' || *text == '\t')
            *text = ' ';
}

d2c_status
d2c_database_fail(PGconn *conn, const PGresult *result, d2c_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    d2c_status status = state != NULL && strcmp(state, "57014") == 0 ? D2C_CANCELLED : D2C_IO;

    if (message != NULL && state != NULL)
        d2c_fail(err, status, "%s (SQLSTATE %s)", message, state);
    else
        d2c_fail(err, status, "%s", PQerrorMessage(conn));
    if (detail != NULL)
        d2c_detail(err, "%s", detail);
    if (hint != NULL)
        d2c_hint(err, "%s", hint);
    if (err != NULL)
        one_line(err->message);
    return status;
}

/* libpq's notices go to stderr by default, and a library does not print. */
static void
drop_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

/* Streaming an epoch takes as long as training on it: what a server, database or role allows a statement is not meant for
 * that.  What the connection string or PGOPTIONS says is. */
static d2c_status
lift_timeouts(PGconn *conn, d2c_error *err)
{
    return d2c_database_run(conn, NULL, err,
                            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings "
                            "WHERE name IN ('statement_timeout', 'transaction_timeout', "
                            "'lock_timeout', 'idle_in_transaction_session_timeout') AND source <> 'client'",
                            0, NULL);
}

d2c_status
d2c_database_open(PGconn **conn, const char *conninfo, d2c_error *err)
{
    const char *const names[] = {"dbname", "fallback_application_name", "client_encoding", NULL};
    const char *const values[] = {conninfo, "d2c", "UTF8", NULL};

    d2c_status status;

    *conn = PQconnectdbParams(names, values, 1);
    if (*conn == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory while connecting to the database");
    if (PQstatus(*conn) != CONNECTION_OK) {
        d2c_database_fail(*conn, NULL, err);
        status = D2C_IO;
    } else {
        PQsetNoticeReceiver(*conn, drop_notice, NULL);
        status = lift_timeouts(*conn, err);
    }
    if (status != D2C_OK) {
        PQfinish(*conn);
        *conn = NULL;
    }
    return status;
}

static d2c_status
run(PGconn *conn, PGresult **result, d2c_error *err, const char *sql, int n, const char *const *params,
    int binary)
{
    PGresult *answer = PQexecParams(conn, sql, n, NULL, params, NULL, NULL, binary);
    ExecStatusType code = PQresultStatus(answer);
    d2c_status status = D2C_OK;

    if (code != PGRES_COMMAND_OK && code != PGRES_TUPLES_OK && code != PGRES_COPY_IN &&
        code != PGRES_COPY_OUT)
        status = d2c_database_fail(conn, answer, err);
    if (result != NULL)
        *result = status == D2C_OK ? answer : NULL;
    if (result == NULL || status != D2C_OK)
        PQclear(answer);
    return status;
}

d2c_status
d2c_database_run(PGconn *conn, PGresult **result, d2c_error *err, const char *sql, int n,
                 const char *const *params)
{
    return run(conn, result, err, sql, n, params, 0);
}

d2c_status
d2c_database_run_binary(PGconn *conn, PGresult **result, d2c_error *err, const char *sql, int n,
                        const char *const *params)
{
    return run(conn, result, err, sql, n, params, 1);
}

/* *quoted gets `before` and the quoted part. */
static d2c_status
append_quoted(char **quoted, PGconn *conn, const char *before, const char *part, size_t length,
              d2c_error *err)
{
    char *identifier, *joined;

    if (length == 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a table's name must not be empty");
    identifier = PQescapeIdentifier(conn, part, length);
    if (identifier == NULL)
        return d2c_database_fail(conn, NULL, err);
    joined = malloc(strlen(before) + strlen(identifier) + 2);
    if (joined != NULL)
        sprintf(joined, "%s%s%s", before, before[0] != '\0' ? "." : "", identifier);
    PQfreemem(identifier);
    *quoted = joined;
    return joined != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory for a table's name");
}

d2c_status
d2c_database_quote_table(char **quoted, PGconn *conn, const char *table, d2c_error *err)
{
    const char *dot = strchr(table, '.');
    char *schema = NULL;
    d2c_status status;

    *quoted = NULL;
    if (dot == NULL)
        return append_quoted(quoted, conn, "", table, strlen(table), err);
    D2C_TRY(append_quoted(&schema, conn, "", table, (size_t)(dot - table), err));
    status = append_quoted(quoted, conn, schema, dot + 1, strlen(dot + 1), err);
    free(schema);
    return status;
}
