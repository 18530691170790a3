/* selection.c: the queries of selection.h. */
#define _GNU_SOURCE
#include "train/selection.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/database.h"

#define MAKER "d2c_condense "

static d2c_status
no_memory(d2c_error *err)
{
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

/* Identifiers of a query, quoted; those that were not given are NULL. */
typedef struct quoted_names {
    char *name[4];
} quoted_names;

static void
free_names(quoted_names *names)
{
    size_t i;

    for (i = 0; i < 4; i++)
        PQfreemem(names->name[i]);
}

static d2c_status
quote_names(quoted_names *names, PGconn *connection, const char *const name[4], d2c_error *err)
{
    size_t i;

    memset(names, 0, sizeof *names);
    for (i = 0; i < 4; i++) {
        if (name[i] == NULL)
            continue;
        names->name[i] = PQescapeIdentifier(connection, name[i], strlen(name[i]));
        if (names->name[i] == NULL) {
            free_names(names);
            return no_memory(err);
        }
    }
    return D2C_OK;
}

/* Runs a query that was put together by asprintf; takes it. */
static d2c_status
run_made(PGconn *connection, PGresult **result, int length, char *sql, int n, const char *const *parameters,
         d2c_error *err)
{
    d2c_status status;

    if (length < 0)
        return no_memory(err);
    status = d2c_database_run(connection, result, err, sql, n, parameters);
    free(sql);
    return status;
}

/* The schema of the d2c_selections that search_path finds. */
static d2c_status
find_schema(char **schema, PGconn *connection, const char *given, d2c_error *err)
{
    PGresult *result = NULL;

    if (given != NULL)
        *schema = strdup(given);
    else {
        D2C_TRY(d2c_database_run(connection, &result, err,
                                 "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                                 "ON n.oid = c.relnamespace "
                                 "WHERE c.oid = pg_catalog.to_regclass('d2c_selections')",
                                 0, NULL));
        if (PQntuples(result) != 1) {
            PQclear(result);
            d2c_fail(err, D2C_NOT_FOUND, "there are no selections in the schemas of search_path");
            d2c_hint(err, "Name their schema with --selection-schema.");
            return D2C_NOT_FOUND;
        }
        *schema = strdup(PQgetvalue(result, 0, 0));
        PQclear(result);
    }
    return *schema != NULL ? D2C_OK : no_memory(err);
}

static char *
copy_value(const PGresult *result, int column)
{
    return PQgetisnull(result, 0, column) ? NULL : strdup(PQgetvalue(result, 0, column));
}

/* Whether the schema has the table; what is missing is no error here. */
static d2c_status
table_is_there(int *there, PGconn *connection, const char *schema, d2c_error *err)
{
    const char *parameter[] = {schema};
    PGresult *result = NULL;

    D2C_TRY(d2c_database_run(
        connection, &result, err,
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'd2c_selections'",
        1, parameter));
    *there = PQntuples(result) == 1;
    PQclear(result);
    return D2C_OK;
}

/* Reads the selection's row; id stays 0 where there is none. */
static d2c_status
read_row(d2c_selection *made, int *closed, PGconn *connection, d2c_error *err)
{
    const char *const name[4] = {made->schema}, *parameter[] = {made->name};
    quoted_names names;
    PGresult *result = NULL;
    char *sql = NULL;
    d2c_status status;
    int there, length;

    D2C_TRY(table_is_there(&there, connection, made->schema, err));
    if (!there)
        return D2C_OK;
    D2C_TRY(quote_names(&names, connection, name, err));
    length = asprintf(
        &sql,
        "SELECT id, closed IS NOT NULL, items, digest, source, id_column, label_column, image_column "
        "FROM %s.d2c_selections WHERE name = $1",
        names.name[0]);
    free_names(&names);
    status = run_made(connection, &result, length, sql, 1, parameter, err);
    if (status == D2C_OK && PQntuples(result) == 1) {
        made->id = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        *closed = strcmp(PQgetvalue(result, 0, 1), "t") == 0;
        made->items = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
        made->digest = copy_value(result, 3);
        made->source = copy_value(result, 4);
        made->id_column = copy_value(result, 5);
        made->label_column = copy_value(result, 6);
        made->image_column = copy_value(result, 7);
    }
    PQclear(result);
    return status;
}

static d2c_status
require_closed(const d2c_selection *made, int closed, d2c_error *err)
{
    if (made->id == 0) {
        d2c_fail(err, D2C_NOT_FOUND, "selection \"%s\" does not exist", made->name);
        d2c_detail(err, "It was looked for in schema \"%s\".", made->schema);
        return D2C_NOT_FOUND;
    }
    if (!closed) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "selection \"%s\" is still open", made->name);
        d2c_hint(err, "Close it with d2c_selection_close() when it has its items.");
        return D2C_INVALID_ARGUMENT;
    }
    return D2C_OK;
}

d2c_status
d2c_selection_find(d2c_selection **selection, PGconn *connection, const char *name, const char *schema,
                   d2c_error *err)
{
    d2c_selection *made = calloc(1, sizeof *made);
    d2c_status status = made != NULL ? D2C_OK : no_memory(err);
    int closed = 0;

    *selection = NULL;
    if (status == D2C_OK)
        status = find_schema(&made->schema, connection, schema, err);
    if (status == D2C_OK && (made->name = strdup(name)) == NULL)
        status = no_memory(err);
    if (status == D2C_OK)
        status = read_row(made, &closed, connection, err);
    if (status == D2C_OK)
        status = require_closed(made, closed, err);
    if (status == D2C_OK)
        *selection = made;
    else
        d2c_selection_free(made);
    return status;
}

/* The selection that the parameters in a table's comment name, not yet looked up. */
static d2c_selection *
named_in_comment(const char *comment)
{
    cJSON *parameters =
        strncmp(comment, MAKER, strlen(MAKER)) == 0 ? cJSON_Parse(comment + strlen(MAKER)) : NULL;
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(parameters, "selection");
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(parameters, "selection_schema");
    d2c_selection *made = cJSON_IsString(name) && cJSON_IsString(schema) ? calloc(1, sizeof *made) : NULL;

    if (made != NULL) {
        made->name = strdup(name->valuestring);
        made->schema = strdup(schema->valuestring);
    }
    cJSON_Delete(parameters);
    return made;
}

d2c_status
d2c_selection_of_table(d2c_selection **selection, PGconn *connection, const char *table, d2c_error *err)
{
    const char *parameter[] = {table};
    PGresult *result = NULL;
    d2c_selection *made;
    d2c_status status = D2C_OK;
    int closed = 0;

    *selection = NULL;
    D2C_TRY(d2c_database_run(connection, &result, err,
                             "SELECT pg_catalog.obj_description(pg_catalog.to_regclass($1), 'pg_class')", 1,
                             parameter));
    made = named_in_comment(PQgetvalue(result, 0, 0));
    PQclear(result);
    if (made == NULL)
        return D2C_OK;
    if (made->name == NULL || made->schema == NULL)
        status = no_memory(err);
    if (status == D2C_OK)
        status = read_row(made, &closed, connection, err);
    if (status == D2C_OK)
        *selection = made;
    else
        d2c_selection_free(made);
    return status;
}

void
d2c_selection_free(d2c_selection *selection)
{
    if (selection == NULL)
        return;
    free(selection->name);
    free(selection->schema);
    free(selection->digest);
    free(selection->source);
    free(selection->id_column);
    free(selection->label_column);
    free(selection->image_column);
    free(selection);
}

/* The type of a source's column as SQL names it; NULL, and no error, when the source has no such column. */
static d2c_status
column_type(char **type, PGconn *connection, const char *source, const char *column, d2c_error *err)
{
    PGresult *columns = NULL, *result = NULL;
    char *sql = NULL, oid[32], *quoted = PQescapeIdentifier(connection, column, strlen(column));
    const char *parameter[] = {oid};
    d2c_status status;
    int at, length;

    *type = NULL;
    if (quoted == NULL)
        return no_memory(err);
    length = asprintf(&sql, "SELECT * FROM %s LIMIT 0", source);
    status = run_made(connection, &columns, length, sql, 0, NULL, err);
    at = status == D2C_OK ? PQfnumber(columns, quoted) : -1;
    snprintf(oid, sizeof oid, "%u", at >= 0 ? PQftype(columns, at) : 0);
    PQfreemem(quoted);
    PQclear(columns);
    if (status == D2C_OK && at >= 0)
        status = d2c_database_run(connection, &result, err,
                                  "SELECT pg_catalog.format_type($1::pg_catalog.oid, NULL)", 1, parameter);
    if (status == D2C_OK && at >= 0 && (*type = copy_value(result, 0)) == NULL)
        status = no_memory(err);
    PQclear(result);
    return status;
}

d2c_status
d2c_selection_restrict(char **restricted, const d2c_selection *selection, PGconn *connection,
                       const char *source, const char *id_column, d2c_error *err)
{
    const char *const name[4] = {selection->schema, id_column};
    quoted_names names;
    char *type;
    d2c_status status;

    D2C_TRY(column_type(&type, connection, source, id_column, err));
    status = quote_names(&names, connection, name, err);
    if (status != D2C_OK) {
        free(type);
        return status;
    }
    /* The ids in the key's own type, so that its index is of use. */
    if (asprintf(restricted,
                 "(SELECT * FROM %s WHERE %s IN (SELECT i.id::%s FROM %s.d2c_selection_items i "
                 "WHERE i.selection = %" PRId64 ")) AS d2c_selected",
                 source, names.name[1], type != NULL ? type : "pg_catalog.text", names.name[0],
                 selection->id) < 0) {
        *restricted = NULL;
        status = no_memory(err);
    }
    free_names(&names);
    free(type);
    return status;
}

/* The statement that counts items by what became of their rows.  Images are looked at above the join: of the rows of the
 * selection alone. */
static int
comparison(char **sql, const d2c_selection *selection, const quoted_names *names, const char *source,
           const char *type, int images)
{
    char *image = NULL, *id = names->name[1];
    int length =
        images ? asprintf(&image,
                          " OR i.digest IS DISTINCT FROM pg_catalog.substr(pg_catalog.sha256(o.%s), 1, 16)"
                          " AND i.digest IS NOT NULL",
                          names->name[3])
               : 0;

    if (length < 0)
        return -1;
    length =
        asprintf(sql,
                 "SELECT count(*) FILTER (WHERE gone), count(*) FILTER (WHERE changed AND NOT gone), "
                 "min(id COLLATE pg_catalog.\"C\") FILTER (WHERE gone OR changed) "
                 "FROM (SELECT i.id, o.%s IS NULL AS gone, o.%s::pg_catalog.int8 IS DISTINCT FROM i.label "
                 "AND i.label IS NOT NULL%s AS changed "
                 "FROM %s.d2c_selection_items i LEFT JOIN (SELECT * FROM %s) o ON o.%s = i.id::%s "
                 "WHERE i.selection = %" PRId64 ") AS d2c_compared",
                 id, names->name[2], images ? image : "", names->name[0], source, id, type, selection->id);
    free(image);
    return length;
}

d2c_status
d2c_selection_compare(d2c_selection *selection, PGconn *connection, const char *source,
                      const d2c_selection_columns *columns, d2c_error *err)
{
    const char *const name[4] = {selection->schema, columns->id, columns->label, columns->image};
    char *type = NULL, *image_type = NULL, *sql = NULL;
    quoted_names names = {0};
    PGresult *result = NULL;
    d2c_status status = column_type(&type, connection, source, columns->id, err);
    int images, length;

    if (status == D2C_OK)
        status = column_type(&image_type, connection, source, columns->image, err);
    if (status == D2C_OK)
        status = quote_names(&names, connection, name, err);
    if (status == D2C_OK) {
        images = columns->images && image_type != NULL && strcmp(image_type, "bytea") == 0;
        length = comparison(&sql, selection, &names, source, type != NULL ? type : "pg_catalog.text", images);
        status = run_made(connection, &result, length, sql, 0, NULL, err);
    }
    if (status == D2C_OK) {
        selection->gone = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        selection->changed = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
        snprintf(selection->first, sizeof selection->first, "%s", PQgetvalue(result, 0, 2));
    }
    PQclear(result);
    free_names(&names);
    free(type);
    free(image_type);
    return status;
}

char *
d2c_selection_json(const d2c_selection *selection)
{
    cJSON *object = cJSON_CreateObject();
    char *text;

    cJSON_AddStringToObject(object, "name", selection->name);
    cJSON_AddStringToObject(object, "schema", selection->schema);
    cJSON_AddNumberToObject(object, "id", (double)selection->id);
    cJSON_AddStringToObject(object, "digest", selection->digest != NULL ? selection->digest : "");
    cJSON_AddNumberToObject(object, "gone", (double)selection->gone);
    cJSON_AddNumberToObject(object, "changed", (double)selection->changed);
    text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    return text;
}
