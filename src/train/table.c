/* table.c: the columns of the table that is trained on, and its ids and labels. */
#define _GNU_SOURCE
#include "train/table.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "nn/sit.h"
#include "train/copy_out.h"
#include "train/database.h"
#include "train/row.h"
#include "train/tensor_wire.h"

#define BYTEA_OID 17

/* malloc'd text; NULL when there is no memory. */
static char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *
format_text(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    return text;
}

static d2c_status
no_memory(d2c_error *err)
{
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

/* The selection of the rows: the one that is asked for, or as which the table was made. */
static d2c_status
find_selection(d2c_table *table, PGconn *connection, const d2c_table_setting *setting, d2c_error *err)
{
    if (setting->selection == NULL && setting->table == NULL)
        return D2C_OK;
    if (setting->selection == NULL)
        return d2c_selection_of_table(&table->selection, connection, setting->table, err);
    D2C_TRY(d2c_selection_find(&table->selection, connection, setting->selection, setting->selection_schema,
                               err));
    if (table->selection->source == NULL && setting->table == NULL && setting->query == NULL) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "selection \"%s\" names no source", setting->selection);
        d2c_hint(err, "Name the table with --table.");
        return D2C_INVALID_ARGUMENT;
    }
    return D2C_OK;
}

/* A column of the selection's source, unless another one than the standard is asked for. */
static const char *
column_of_source(const char *asked, const char *standard, const char *of_selection)
{
    return strcmp(asked, standard) == 0 && of_selection != NULL ? of_selection : asked;
}

/* The setting with the selection's own source, where no other is given. */
static d2c_table_setting
with_source(const d2c_table_setting *setting, const d2c_selection *selection)
{
    d2c_table_setting settled = *setting;

    if (setting->table != NULL || setting->query != NULL || selection == NULL)
        return settled;
    settled.table = selection->source;
    settled.id = column_of_source(setting->id, "id", selection->id_column);
    settled.label = column_of_source(setting->label, "label", selection->label_column);
    settled.image = column_of_source(setting->image, "image", selection->image_column);
    return settled;
}

/* Compares the selection with the rows that there are; one that is asked for leaves its own rows alone. */
static d2c_status
use_selection(d2c_table *table, PGconn *connection, const d2c_table_setting *setting, d2c_error *err)
{
    const d2c_selection_columns columns = {setting->id, setting->label, setting->image, setting->content};
    char *restricted;

    if (table->selection == NULL || table->selection->id == 0)
        return D2C_OK;
    D2C_TRY(d2c_selection_compare(table->selection, connection, table->source, &columns, err));
    if (setting->selection == NULL)
        return D2C_OK;
    D2C_TRY(
        d2c_selection_restrict(&restricted, table->selection, connection, table->source, setting->id, err));
    free(table->source);
    table->source = restricted;
    return D2C_OK;
}

/* What stands behind FROM: the table's own quoted name, or the query in parentheses. */
static d2c_status
resolve_source(d2c_table *table, PGconn *connection, const d2c_table_setting *setting, d2c_error *err)
{
    const char *parameter[] = {setting->table};
    PGresult *result = NULL;

    if (setting->query != NULL)
        table->source = format_text("(%s) AS d2c_source", setting->query);
    else {
        D2C_TRY(d2c_database_run(connection, &result, err,
                                 "SELECT pg_catalog.to_regclass($1)::pg_catalog.text", 1, parameter));
        if (PQgetisnull(result, 0, 0)) {
            PQclear(result);
            return d2c_fail(err, D2C_NOT_FOUND, "relation \"%s\" does not exist", setting->table);
        }
        table->source = strdup(PQgetvalue(result, 0, 0));
        PQclear(result);
    }
    return table->source != NULL ? D2C_OK : no_memory(err);
}

/* A column's quoted name with `cast` behind it; the columns there are, are those of an empty result. */
static d2c_status
require_column(char **out, PGconn *connection, const PGresult *columns, const char *cast, const char *name,
               const char *flag, d2c_error *err)
{
    char *quoted = PQescapeIdentifier(connection, name, strlen(name));

    if (quoted == NULL)
        return no_memory(err);
    if (PQfnumber(columns, quoted) < 0) {
        PQfreemem(quoted);
        d2c_fail(err, D2C_NOT_FOUND, "column \"%s\" does not exist", name);
        d2c_hint(err, "Name the column with --%s.", flag);
        return D2C_NOT_FOUND;
    }
    *out = format_text("%s%s", quoted, cast);
    PQfreemem(quoted);
    return *out != NULL ? D2C_OK : no_memory(err);
}

/* Whether any row has a value in the column. */
static d2c_status
has_values(int *has, PGconn *connection, const char *source, const char *column, d2c_error *err)
{
    char *sql = format_text("SELECT EXISTS (SELECT FROM %s WHERE %s IS NOT NULL)", source, column);
    PGresult *result = NULL;
    d2c_status status =
        sql != NULL ? d2c_database_run(connection, &result, err, sql, 0, NULL) : no_memory(err);

    free(sql);
    *has = status == D2C_OK && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    return status;
}

/* An attachment's column is used when it is named, or unnamed, there and not empty. */
static d2c_status
optional_column(char **out, d2c_table *table, PGconn *connection, const PGresult *columns, const char *name,
                const char *standard, const char *flag, d2c_error *err)
{
    int has;

    if (name != NULL && strcmp(name, "off") == 0)
        return D2C_OK;
    if (name != NULL)
        return require_column(out, connection, columns, "", name, flag, err);
    if (PQfnumber(columns, standard) < 0)
        return D2C_OK;
    D2C_TRY(has_values(&has, connection, table->source, standard, err));
    if (has)
        return require_column(out, connection, columns, "", standard, flag, err);
    table->empty[table->empties++] = standard;
    return D2C_OK;
}

static d2c_status
check_type(PGconn *connection, const PGresult *columns, const char *quoted, const char *wanted,
           d2c_error *err)
{
    Oid type;
    char text[32];
    const char *parameter[] = {text};
    PGresult *result = NULL;
    d2c_status status = D2C_OK;

    if (quoted == NULL)
        return D2C_OK;
    type = PQftype(columns, PQfnumber(columns, quoted));
    snprintf(text, sizeof text, "%u", type);
    D2C_TRY(d2c_database_run(connection, &result, err,
                             "SELECT typname FROM pg_catalog.pg_type WHERE oid = $1::pg_catalog.oid", 1,
                             parameter));
    if (PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), wanted) != 0)
        status = d2c_fail(err, D2C_INVALID_ARGUMENT, "column %s is of type %s, expected %s", quoted,
                          PQgetvalue(result, 0, 0), wanted);
    PQclear(result);
    return status;
}

/* The column that is trained on: latents where they are used, else images. */
static d2c_status
find_image(d2c_table *table, PGconn *connection, const PGresult *columns, const d2c_table_setting *setting,
           d2c_error *err)
{
    D2C_TRY(optional_column(&table->image, table, connection, columns, setting->latent, "latent",
                            "latent-column", err));
    table->latents = table->image != NULL;
    if (!table->latents)
        D2C_TRY(require_column(&table->image, connection, columns, "", setting->image, "image-column", err));
    return check_type(connection, columns, table->image, table->latents ? "tensor" : "bytea", err);
}

static d2c_status
find_columns(d2c_table *table, PGconn *connection, const d2c_table_setting *setting, d2c_error *err)
{
    char *sql = format_text("SELECT * FROM %s LIMIT 0", table->source);
    PGresult *columns = NULL;
    d2c_status status =
        sql != NULL ? d2c_database_run(connection, &columns, err, sql, 0, NULL) : no_memory(err);

    free(sql);
    if (status == D2C_OK)
        status = require_column(&table->id, connection, columns, "::pg_catalog.text", setting->id,
                                "id-column", err);
    if (status == D2C_OK)
        status = require_column(&table->label, connection, columns, "::pg_catalog.int8", setting->label,
                                "label-column", err);
    if (status == D2C_OK)
        status = find_image(table, connection, columns, setting, err);
    if (status == D2C_OK)
        status = optional_column(&table->text, table, connection, columns, setting->text, "text_embedding",
                                 "text-column", err);
    if (status == D2C_OK && table->text != NULL)
        status = require_column(&table->text_mask, connection, columns, "",
                                setting->text_mask != NULL ? setting->text_mask : "text_mask",
                                "text-mask-column", err);
    if (status == D2C_OK)
        status = optional_column(&table->visual, table, connection, columns, setting->visual,
                                 "visual_embedding", "visual-column", err);
    if (status == D2C_OK)
        status = check_type(connection, columns, table->text, "tensor", err);
    if (status == D2C_OK)
        status = check_type(connection, columns, table->text_mask, "tensor", err);
    if (status == D2C_OK)
        status = check_type(connection, columns, table->visual, "tensor", err);
    PQclear(columns);
    return status;
}

#define SCAN_COLUMNS (3 + D2C_CONTENT_PARTS)

_Static_assert(D2C_TABLE_COLUMNS == 2 + D2C_CONTENT_PARTS, "every value of a row is hashed");

/* What the scan over ids and labels has seen so far. */
typedef struct id_scan {
    d2c_table *table;
    EVP_MD_CTX *digest;
    char previous[D2C_ID_LIMIT + 1];
} id_scan;

/* One row of (id, label, image is null, hashes): everything that can be wrong without looking at the image. */
static d2c_status
scan_row(id_scan *scan, const d2c_field fields[SCAN_COLUMNS], d2c_error *err)
{
    d2c_table *table = scan->table;
    char id[D2C_ID_LIMIT + 1], line[D2C_ID_LIMIT + 32];
    int64_t label;
    int length;

    if (fields[0].length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "an id is null");
    if (fields[0].length > D2C_ID_LIMIT)
        return d2c_fail(err, D2C_TOO_LARGE, "an id has more than %d bytes", D2C_ID_LIMIT);
    memcpy(id, fields[0].data, (size_t)fields[0].length);
    id[fields[0].length] = '\0';
    if (table->rows > 0 && strcmp(id, scan->previous) == 0)
        return d2c_fail(err, D2C_BAD_DATA, "row %.70s: the id occurs twice", id);
    if (fields[1].length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "row %.70s: the label is null", id);
    D2C_TRY(d2c_field_i64(&label, &fields[1], err));
    if (label < 0 || label >= D2C_SIT_CLASSES_LIMIT)
        return d2c_fail(err, D2C_BAD_DATA, "row %.70s: label %" PRId64 " is out of range", id, label);
    if (fields[2].length != 1 || fields[2].data[0] != 0)
        return d2c_fail(err, D2C_BAD_DATA, "row %.70s: the image is null", id);
    if (table->rows == 0)
        snprintf(table->first_id, sizeof table->first_id, "%s", id);
    if (label >= table->classes) {
        table->classes = label + 1;
        snprintf(table->greatest_label_id, sizeof table->greatest_label_id, "%s", id);
    }
    length = snprintf(line, sizeof line, "%s\t%" PRId64 "\n", id, label);
    EVP_DigestUpdate(scan->digest, line, (size_t)length);
    memcpy(scan->previous, id, sizeof id);
    table->rows++;
    if (table->content != NULL)
        return d2c_content_add(table->content, id, label, fields + 3, err);
    return D2C_OK;
}

/* The statement of the scan; hashes that nobody asked for are NULL. */
static char *
scan_sql(const d2c_table *table)
{
    const char *const part[D2C_CONTENT_PARTS] = {table->image, table->text, table->text_mask, table->visual};
    char *hash[D2C_CONTENT_PARTS], *sql = NULL;
    int p, ready = 1;

    for (p = 0; p < D2C_CONTENT_PARTS; p++) {
        hash[p] = d2c_content_sql(table->content != NULL ? part[p] : NULL);
        ready &= hash[p] != NULL;
    }
    if (ready)
        sql = format_text("COPY (SELECT %s, %s, %s IS NULL, %s, %s, %s, %s FROM %s "
                          "ORDER BY %s COLLATE pg_catalog.\"C\") TO STDOUT (FORMAT binary)",
                          table->id, table->label, table->image, hash[0], hash[1], hash[2], hash[3],
                          table->source, table->id);
    for (p = 0; p < D2C_CONTENT_PARTS; p++)
        free(hash[p]);
    return sql;
}

/* Reads every id and label once, in order of the ids, into counts, digest and the rows' hashes. */
static d2c_status
scan_ids(d2c_table *table, PGconn *connection, d2c_error *err)
{
    char *sql = scan_sql(table);
    id_scan scan = {table, EVP_MD_CTX_new(), ""};
    uint8_t digest[EVP_MAX_MD_SIZE];
    d2c_field fields[SCAN_COLUMNS];
    d2c_copy_out out;
    d2c_status status = D2C_OK;
    int found = 1, i;

    if (sql == NULL || scan.digest == NULL || EVP_DigestInit_ex(scan.digest, EVP_sha256(), NULL) != 1)
        status = no_memory(err);
    else {
        status = d2c_copy_out_start(&out, connection, sql, SCAN_COLUMNS, err);
        while (status == D2C_OK && found) {
            status = d2c_copy_out_row(&out, fields, &found, err);
            if (status == D2C_OK && found)
                status = scan_row(&scan, fields, err);
        }
        d2c_copy_out_stop(&out);
    }
    if (status == D2C_OK) {
        EVP_DigestFinal_ex(scan.digest, digest, NULL);
        for (i = 0; i < 32; i++)
            snprintf(table->digest + 2 * i, 3, "%02x", digest[i]);
    }
    EVP_MD_CTX_free(scan.digest);
    free(sql);
    if (status == D2C_OK && table->rows == 0)
        return d2c_fail(err, D2C_NOT_FOUND, "there are no rows to train on");
    if (status == D2C_OK && table->content != NULL)
        status = d2c_content_finish(table->content, &table->content_digest, err);
    return status;
}

/* One value of a binary result as a field. */
static d2c_field
result_field(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return (d2c_field){NULL, -1};
    return (d2c_field){(const uint8_t *)PQgetvalue(result, row, column), PQgetlength(result, row, column)};
}

static d2c_status
matrix_shape(int *rows, int *width, const d2c_field *field, const char *what, d2c_error *err)
{
    d2c_wire_tensor tensor;

    if (field->length < 0) {
        d2c_fail(err, D2C_BAD_DATA, "the %s embedding is null", what);
        d2c_hint(err, "d2c_attach() fills in what is missing; --%s off trains without.", what);
        return D2C_BAD_DATA;
    }
    D2C_TRY(d2c_wire_tensor_read(&tensor, field, err));
    if (tensor.ndim != 2 || tensor.dim[0] > 65536 || tensor.dim[1] > 65536)
        return d2c_fail(err, D2C_BAD_DATA, "the %s embedding has %d dimensions, expected tokens x width",
                        what, tensor.ndim);
    *rows = (int)tensor.dim[0];
    *width = (int)tensor.dim[1];
    return D2C_OK;
}

/* A latent is [2c, h, w]: mean, then standard deviation. */
static d2c_status
latent_shape(d2c_table *table, const d2c_field *field, d2c_error *err)
{
    d2c_wire_tensor tensor;

    if (field->length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "the latent is null");
    D2C_TRY(d2c_wire_tensor_read(&tensor, field, err));
    if (tensor.ndim != 3 || tensor.dim[0] % 2 != 0 || tensor.dim[0] > 256 || tensor.dim[1] != tensor.dim[2] ||
        tensor.dim[1] > 1024) {
        d2c_fail(err, D2C_BAD_DATA, "the latent has not the shape of one");
        d2c_detail(err, "Expected [2c,h,h]: mean and standard deviation, as d2c_latent() gives them.");
        return D2C_BAD_DATA;
    }
    table->image_width = table->image_height = (int)tensor.dim[1];
    table->image_channels = (int)tensor.dim[0] / 2;
    return D2C_OK;
}

static d2c_status
image_shape(d2c_table *table, const d2c_field *field, d2c_error *err)
{
    d2c_image_info info;

    D2C_TRY(d2c_image_probe(&info, field->data, (size_t)(field->length > 0 ? field->length : 0), err));
    table->image_width = info.width;
    table->image_height = info.height;
    table->image_channels = info.channels >= 3 ? 3 : 1;
    return D2C_OK;
}

static d2c_status
first_shapes(d2c_table *table, const PGresult *result, d2c_error *err)
{
    d2c_field image = result_field(result, 0, 0), text = result_field(result, 0, 1);
    d2c_field visual = result_field(result, 0, 2);

    D2C_TRY((table->latents ? latent_shape : image_shape)(table, &image, err));
    if (table->text != NULL)
        D2C_TRY(matrix_shape(&table->text_tokens, &table->text_width, &text, "text", err));
    if (table->visual != NULL)
        D2C_TRY(matrix_shape(&table->visual_tokens, &table->visual_width, &visual, "visual", err));
    return D2C_OK;
}

/* The shapes that the first row has; all others must agree with it. */
static d2c_status
probe_first(d2c_table *table, PGconn *connection, d2c_error *err)
{
    char *sql = format_text("SELECT %s, %s, %s FROM %s WHERE %s = $1 LIMIT 1", table->image,
                            table->text != NULL ? table->text : "NULL",
                            table->visual != NULL ? table->visual : "NULL", table->source, table->id);
    const char *parameter[] = {table->first_id};
    PGresult *result = NULL;
    d2c_status status = no_memory(err);

    if (sql != NULL)
        status = d2c_database_run_binary(connection, &result, err, sql, 1, parameter);
    free(sql);
    if (status == D2C_OK && PQntuples(result) != 1)
        status = d2c_fail(err, D2C_BAD_DATA, "the table has changed while it was read: rows are missing");
    else if (status == D2C_OK && (status = first_shapes(table, result, err)) != D2C_OK)
        d2c_error_prefix(err, "row %.70s", table->first_id);
    PQclear(result);
    return status;
}

d2c_status
d2c_table_open(d2c_table **table, PGconn *connection, const d2c_table_setting *setting, d2c_error *err)
{
    d2c_table *made = calloc(1, sizeof *made);
    d2c_table_setting settled = *setting;
    d2c_status status;

    *table = NULL;
    if (made == NULL)
        return no_memory(err);
    status = find_selection(made, connection, setting, err);
    settled = with_source(setting, made->selection);
    made->id_name = settled.id;
    made->label_name = settled.label;
    made->image_name = settled.image;
    if (status == D2C_OK)
        status = resolve_source(made, connection, &settled, err);
    if (status == D2C_OK)
        status = find_columns(made, connection, &settled, err);
    if (status == D2C_OK)
        status = use_selection(made, connection, &settled, err);
    if (status == D2C_OK && setting->content)
        status = d2c_content_create(&made->content, err);
    if (status == D2C_OK)
        status = scan_ids(made, connection, err);
    if (status == D2C_OK)
        status = probe_first(made, connection, err);
    if (status == D2C_OK)
        *table = made;
    else
        d2c_table_close(made);
    return status;
}

void
d2c_table_close(d2c_table *table)
{
    if (table == NULL)
        return;
    free(table->source);
    d2c_selection_free(table->selection);
    free(table->id);
    free(table->label);
    free(table->image);
    free(table->text);
    free(table->text_mask);
    free(table->visual);
    free(table->content_digest);
    d2c_content_free(table->content);
    free(table);
}

void
d2c_table_id_at(const d2c_table *table, PGconn *connection, int64_t place, char *id, size_t size)
{
    char *sql = format_text("SELECT %s FROM %s ORDER BY %s COLLATE pg_catalog.\"C\" LIMIT 1 OFFSET %" PRId64,
                            table->id, table->source, table->id, place);
    PGresult *result = NULL;

    id[0] = '\0';
    if (sql != NULL && d2c_database_run(connection, &result, NULL, sql, 0, NULL) == D2C_OK &&
        PQntuples(result) == 1)
        snprintf(id, size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    free(sql);
}

/* The fields of a row as the list of a SELECT. */
static char *
fields_sql(const d2c_table *table)
{
    return format_text("%s, %s, %s, %s, %s, %s", table->id, table->label, table->image,
                       table->text != NULL ? table->text : "NULL",
                       table->text_mask != NULL ? table->text_mask : "NULL",
                       table->visual != NULL ? table->visual : "NULL");
}

char *
d2c_table_copy(const d2c_table *table)
{
    char *fields = fields_sql(table), *sql = NULL;

    if (fields != NULL)
        sql = format_text("COPY (SELECT %s FROM %s) TO STDOUT (FORMAT binary)", fields, table->source);
    free(fields);
    return sql;
}

/* The rows in order, and of a share only its own: numbered in the order that they are sorted in anyway, and left out before
 * anything of them is read but where it lies. */
static char *
epoch_sql(const d2c_table *table, const char *fields, const char *key, const char *where, int64_t position,
          const d2c_share *share)
{
    if (share->rows == share->batch)
        return format_text("COPY (SELECT %s FROM %s%s ORDER BY %s, 1) TO STDOUT (FORMAT binary)", fields,
                           table->source, where, key);
    return format_text(
        "COPY (SELECT d2c_id, d2c_label, d2c_image, d2c_text, d2c_mask, d2c_visual FROM (SELECT %s, %s, "
        "pg_catalog.row_number() OVER (ORDER BY %s) FROM %s%s) AS d2c_rows (d2c_id, d2c_label, d2c_image, "
        "d2c_text, d2c_mask, d2c_visual, d2c_key, d2c_number) WHERE (d2c_number + %" PRId64 ") %% %" PRId64
        " BETWEEN %" PRId64 " AND %" PRId64 " ORDER BY d2c_key) TO STDOUT (FORMAT binary)",
        fields, key, key, table->source, where, (position + share->batch - 1) % share->batch, share->batch,
        share->first, share->first + share->rows - 1);
}

char *
d2c_table_copy_epoch(const d2c_table *table, uint64_t seed, int64_t epoch, int64_t place,
                     const d2c_order_key *after, const d2c_share *share)
{
    char key[512], hex[2 * D2C_ORDER_BYTES + 1], *fields = fields_sql(table), *where, *sql = NULL;

    d2c_order_sql(key, sizeof key, table->id, seed, epoch);
    if (after != NULL)
        d2c_order_key_print(hex, after);
    where = after != NULL ? format_text(" WHERE %s > '\\x%s'::pg_catalog.bytea", key, hex) : strdup("");
    if (where != NULL && fields != NULL)
        sql = epoch_sql(table, fields, key, where, (epoch * table->rows + place) % share->batch, share);
    free(fields);
    free(where);
    return sql;
}

/* One row of (label, text, mask) into its class's place; labels beyond the model's classes are told
 * elsewhere. */
static d2c_status
place_class_text(const d2c_table *table, float *text, float *mask, int64_t classes, const d2c_field fields[3],
                 d2c_error *err)
{
    int64_t label, length = table->text_tokens, count = length * table->text_width;

    D2C_TRY(d2c_field_i64(&label, &fields[0], err));
    if (label < 0 || label >= classes)
        return D2C_OK;
    return d2c_text_read(text + label * count, mask + label * length, &fields[1], &fields[2],
                         table->text_tokens, table->text_width, err);
}

d2c_status
d2c_table_class_texts(const d2c_table *table, PGconn *connection, float **text, float **mask, int64_t classes,
                      d2c_error *err)
{
    char *sql = format_text(
        "COPY (SELECT DISTINCT ON (1) %s, %s, %s FROM %s ORDER BY 1, %s COLLATE pg_catalog.\"C\") "
        "TO STDOUT (FORMAT binary)",
        table->label, table->text, table->text_mask, table->source, table->id);
    size_t length = (size_t)table->text_tokens, count = length * (size_t)table->text_width;
    d2c_field fields[3];
    d2c_copy_out out;
    d2c_status status;
    int found = 1;

    *text = calloc((size_t)classes, count * sizeof(float));
    *mask = calloc((size_t)classes, length * sizeof(float));
    if (sql == NULL || *text == NULL || *mask == NULL) {
        free(sql);
        return no_memory(err);
    }
    status = d2c_copy_out_start(&out, connection, sql, 3, err);
    while (status == D2C_OK && found) {
        status = d2c_copy_out_row(&out, fields, &found, err);
        if (status == D2C_OK && found)
            status = place_class_text(table, *text, *mask, classes, fields, err);
    }
    d2c_copy_out_stop(&out);
    free(sql);
    return status;
}
