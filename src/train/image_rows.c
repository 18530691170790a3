/* image_rows.c: images, one after the other, from a query, a table or a folder. */
#include "train/image_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "image/folder.h"
#include "train/database.h"

#define BYTEA_OID 17
#define FILE_LIMIT ((size_t)1 << 29)

typedef struct reader {
    d2c_image_visitor visit;
    void *data;
    int64_t row;
} reader;

static d2c_status
visit_row(reader *r, const PGresult *result, d2c_error *err)
{
    size_t length;
    uint8_t *bytes;
    char where[64];
    d2c_status status;

    snprintf(where, sizeof where, "row %lld of the query", (long long)++r->row);
    if (PQnfields(result) < 1 || PQftype(result, 0) != BYTEA_OID)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the query's first column is not a bytea");
    if (PQgetisnull(result, 0, 0))
        return d2c_fail(err, D2C_BAD_DATA, "%s: image is null", where);
    bytes = PQunescapeBytea((const unsigned char *)PQgetvalue(result, 0, 0), &length);
    if (bytes == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for an image");
    status =
        r->visit(r->data, where, bytes, length,
                 PQnfields(result) > 1 && !PQgetisnull(result, 0, 1) ? PQgetvalue(result, 0, 1) : NULL, err);
    PQfreemem(bytes);
    return status;
}

/* What is left of a query that is not wanted any more. */
static void
cancel_query(PGconn *conn)
{
    PGcancel *cancel = PQgetCancel(conn);
    char text[256];

    if (cancel != NULL)
        PQcancel(cancel, text, sizeof text);
    PQfreeCancel(cancel);
}

/* Rows arrive one by one, so a query of any size takes the memory of one image. */
static d2c_status
each_row(PGconn *conn, const char *sql, reader *r, d2c_error *err)
{
    d2c_status status = D2C_OK;
    PGresult *result;

    if (!PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) || !PQsetSingleRowMode(conn))
        return d2c_database_fail(conn, NULL, err);
    while ((result = PQgetResult(conn)) != NULL) {
        ExecStatusType code = PQresultStatus(result);

        if (status == D2C_OK && code == PGRES_SINGLE_TUPLE) {
            status = visit_row(r, result, err);
            if (status != D2C_OK)
                cancel_query(conn);
        } else if (status == D2C_OK && code != PGRES_TUPLES_OK) {
            status = code == PGRES_FATAL_ERROR
                         ? d2c_database_fail(conn, result, err)
                         : d2c_fail(err, D2C_INVALID_ARGUMENT, "the statement returns no rows");
            if (code == PGRES_COPY_OUT || code == PGRES_COPY_IN || code == PGRES_COPY_BOTH) {
                PQclear(result);
                return status;
            }
        }
        PQclear(result);
    }
    return status;
}

static d2c_status
each_of_table(PGconn *conn, const char *table, reader *r, d2c_error *err)
{
    const char *format = "SELECT image FROM %s ORDER BY id";
    char *quoted, *sql;
    size_t size;
    d2c_status status;

    D2C_TRY(d2c_database_quote_table(&quoted, conn, table, err));
    size = strlen(format) + strlen(quoted) + 1;
    sql = malloc(size);
    if (sql != NULL)
        snprintf(sql, size, format, quoted);
    free(quoted);
    status = sql != NULL ? each_row(conn, sql, r, err)
                         : d2c_fail(err, D2C_NO_MEMORY, "out of memory for a statement");
    free(sql);
    return status;
}

static d2c_status
visit_file(reader *r, const char *path, d2c_error *err)
{
    char where[512];
    uint8_t *bytes;
    size_t length;
    d2c_status status;

    snprintf(where, sizeof where, "file \"%s\"", path);
    D2C_TRY(d2c_file_read(&bytes, &length, path, FILE_LIMIT, err));
    status = r->visit(r->data, where, bytes, length, NULL, err);
    free(bytes);
    return status;
}

static d2c_status
each_of_folder(const char *path, reader *r, d2c_error *err)
{
    d2c_folder folder;
    d2c_status status = D2C_OK;
    int64_t i;

    D2C_TRY(d2c_folder_list(&folder, path, err));
    for (i = 0; i < folder.count && status == D2C_OK; i++)
        status = visit_file(r, folder.file[i].path, err);
    d2c_folder_free(&folder);
    return status;
}

/* A table's name has no slash, a query has a blank; a folder may have both. */
static int
is_folder(const char *source, int is_query)
{
    struct stat info;

    return strchr(source, '/') != NULL && (!is_query || (stat(source, &info) == 0 && S_ISDIR(info.st_mode)));
}

d2c_status
d2c_each_image(PGconn *conn, const char *source, d2c_image_visitor visit, void *data, d2c_error *err)
{
    reader r = {visit, data, 0};
    int is_query = strpbrk(source, " \t\r\n") != NULL;

    if (is_folder(source, is_query))
        return each_of_folder(source, &r, err);
    if (conn == NULL) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "no database is given to read \"%s\" from", source);
        d2c_hint(err, "Name the database with --dbname; a folder is written with a slash, such as ./images.");
        return D2C_INVALID_ARGUMENT;
    }
    return is_query ? each_row(conn, source, &r, err) : each_of_table(conn, source, &r, err);
}
