/* import.c: images from any source into a table, in one transaction. */
#include "train/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/copy_in.h"
#include "train/database.h"

/* Images prepared together: enough for every thread, few enough to stay in the cache. */
#define BLOCK 256

typedef struct import_job {
    const d2c_import_target *target;
    const d2c_import_source *source;
    d2c_import_result *result;
    d2c_copy_in *copy;
    int64_t next_id;
    int64_t *label; /* [source->classes] in the table */
    d2c_import_item item[BLOCK];
    d2c_status status[BLOCK];
    d2c_error error[BLOCK];
} import_job;

static d2c_status
run_formatted(PGconn *conn, d2c_error *err, const char *format, const char *table, const char *extra)
{
    size_t size = strlen(format) + strlen(table) + strlen(extra) + 1;
    char *sql = malloc(size);
    d2c_status status;

    if (sql == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a statement");
    snprintf(sql, size, format, table, extra);
    status = d2c_database_run(conn, NULL, err, sql, 0, NULL);
    free(sql);
    return status;
}

/* Images are compressed already, so they are stored out of line as they are. */
static d2c_status
prepare_table(PGconn *conn, const char *table, const d2c_import_target *target, d2c_error *err)
{
    if (target->create) {
        PGresult *found;
        int missing;

        D2C_TRY(d2c_database_run(conn, &found, err, "SELECT to_regclass($1) IS NULL", 1, &table));
        missing = PQgetvalue(found, 0, 0)[0] == 't';
        PQclear(found);
        if (missing) {
            D2C_TRY(run_formatted(
                conn, err,
                "CREATE TABLE %s (id bigint PRIMARY KEY, label bigint NOT NULL, class text NOT NULL, "
                "image bytea NOT NULL%s)",
                table, target->split != NULL ? ", split text" : ""));
            D2C_TRY(run_formatted(conn, err, "ALTER TABLE %s ALTER COLUMN image SET STORAGE EXTERNAL%s",
                                  table, ""));
        }
    }
    return run_formatted(conn, err, "LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE%s", table, "");
}

/* The result of a SELECT whose format has a place for the table. */
static d2c_status
ask(PGresult **answer, PGconn *conn, const char *format, const char *table, d2c_error *err)
{
    size_t size = strlen(format) + strlen(table) + 1;
    char *sql = malloc(size);
    d2c_status status;

    if (sql == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a statement");
    snprintf(sql, size, format, table);
    status = d2c_database_run(conn, answer, err, sql, 0, NULL);
    free(sql);
    return status;
}

static d2c_status
find_next_id(int64_t *next, PGconn *conn, const char *table, d2c_error *err)
{
    PGresult *answer;

    D2C_TRY(ask(&answer, conn, "SELECT coalesce(max(id), 0) + 1 FROM %s", table, err));
    *next = strtoll(PQgetvalue(answer, 0, 0), NULL, 10);
    PQclear(answer);
    return D2C_OK;
}

/* ---- classes that the table has already ------------------------------------------------------------------------ */

/* The class's row in (class, least label, greatest label); -1: it is new. */
static int
find_class(const PGresult *known, const char *name)
{
    int row;

    for (row = 0; row < PQntuples(known); row++)
        if (strcmp(PQgetvalue(known, row, 0), name) == 0)
            return row;
    return -1;
}

static d2c_status
two_labels(const char *name, const char *in_table, const char *other, d2c_error *err)
{
    d2c_fail(err, D2C_INVALID_ARGUMENT, "class \"%s\" has more than one label", name);
    d2c_detail(err, "In the table it has label %s, %s.", in_table, other);
    d2c_hint(err, "Import into another table, or correct the labels or names.");
    return D2C_INVALID_ARGUMENT;
}

/* A class's label in the table: the one that it has there, or *next, which then is the one after it. */
static d2c_status
settle_label(import_job *job, int class, const PGresult *known, int64_t *next, d2c_error *err)
{
    const char *name = job->source->class_name[class];
    int row = find_class(known, name);
    char other[48];

    job->label[class] = job->source->by_place && row < 0 ? (*next)++ : class;
    if (row < 0)
        return D2C_OK;
    snprintf(other, sizeof other, "and label %s", PQgetvalue(known, row, 2));
    if (strcmp(PQgetvalue(known, row, 1), PQgetvalue(known, row, 2)) != 0)
        return two_labels(name, PQgetvalue(known, row, 1), other, err);
    snprintf(other, sizeof other, "in the files %d", class);
    if (!job->source->by_place && strtoll(PQgetvalue(known, row, 1), NULL, 10) != class)
        return two_labels(name, PQgetvalue(known, row, 1), other, err);
    job->label[class] = strtoll(PQgetvalue(known, row, 1), NULL, 10);
    return D2C_OK;
}

static d2c_status
settle_labels(import_job *job, PGconn *conn, const char *table, d2c_error *err)
{
    PGresult *known;
    d2c_status status = D2C_OK;
    int64_t next = 0;
    int i;

    job->label = calloc((size_t)job->source->classes + 1, sizeof *job->label);
    if (job->label == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for labels");
    D2C_TRY(ask(&known, conn, "SELECT class, min(label), max(label) FROM %s GROUP BY class", table, err));
    for (i = 0; i < PQntuples(known); i++) {
        int64_t greatest = strtoll(PQgetvalue(known, i, 2), NULL, 10);

        next = greatest >= next ? greatest + 1 : next;
    }
    for (i = 0; i < job->source->classes && status == D2C_OK; i++)
        status = settle_label(job, i, known, &next, err);
    PQclear(known);
    return status;
}

/* ---- images ---------------------------------------------------------------------------------------------------- */

static void
load_block(import_job *job, int64_t start, int count)
{
    int i;

#pragma omp parallel for schedule(dynamic, 8)
    for (i = 0; i < count; i++) {
        memset(&job->item[i], 0, sizeof job->item[i]);
        job->status[i] = job->source->load(job->source->data, start + i, &job->item[i], &job->error[i]);
    }
}

static void
write_item(import_job *job, const d2c_import_item *item)
{
    const char *split = job->target->split, *name = job->source->class_name[item->label];

    d2c_copy_in_row(job->copy, split != NULL ? 5 : 4);
    d2c_copy_in_int64(job->copy, job->next_id++);
    d2c_copy_in_int64(job->copy, job->label[item->label]);
    d2c_copy_in_bytes(job->copy, name, strlen(name));
    d2c_copy_in_bytes(job->copy, item->bytes, item->length);
    if (split != NULL)
        d2c_copy_in_bytes(job->copy, split, strlen(split));
    job->result->loaded++;
}

/* Writes what loaded; the first failure ends the import, or is kept and counted with the others.  Frees the
 * items. */
static d2c_status
write_block(import_job *job, int count, d2c_error *err)
{
    d2c_status status = D2C_OK;
    int i;

    for (i = 0; i < count; i++) {
        if (status == D2C_OK && job->status[i] == D2C_OK)
            write_item(job, &job->item[i]);
        else if (status == D2C_OK && job->target->skip_errors && job->status[i] != D2C_NO_MEMORY) {
            if (job->result->skipped++ == 0)
                job->result->first_skipped = job->error[i];
        } else if (status == D2C_OK) {
            status = job->status[i];
            if (err != NULL)
                *err = job->error[i];
        }
        free(job->item[i].bytes);
    }
    return status;
}

static d2c_status
copy_images(import_job *job, PGconn *conn, const char *table, d2c_progress *progress, d2c_error *err)
{
    const char *format = "COPY %s (id, label, class, image%s) FROM STDIN (FORMAT binary)";
    size_t size = strlen(format) + strlen(table) + 16;
    char *sql = malloc(size);
    d2c_status status;
    int64_t start;

    if (sql == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a statement");
    snprintf(sql, size, format, table, job->target->split != NULL ? ", split" : "");
    status = d2c_copy_in_begin(job->copy, conn, sql, err);
    free(sql);
    if (status != D2C_OK)
        return status;
    for (start = 0; start < job->source->count && status == D2C_OK && job->copy->status == D2C_OK;
         start += BLOCK) {
        int64_t left = job->source->count - start;
        int count = left < BLOCK ? (int)left : BLOCK;

        load_block(job, start, count);
        status = write_block(job, count, err);
        if (progress != NULL)
            d2c_progress_update(progress, start + count, NULL);
    }
    if (status == D2C_OK)
        return d2c_copy_in_end(job->copy, err);
    d2c_copy_in_abandon(job->copy);
    return status;
}

static d2c_status
import_within(import_job *job, PGconn *conn, const char *table, d2c_progress *progress, d2c_error *err)
{
    D2C_TRY(prepare_table(conn, table, job->target, err));
    D2C_TRY(find_next_id(&job->next_id, conn, table, err));
    D2C_TRY(settle_labels(job, conn, table, err));
    D2C_TRY(copy_images(job, conn, table, progress, err));
    if (job->result->loaded == 0 && job->result->skipped > 0) {
        d2c_fail(err, D2C_BAD_DATA, "none of the images could be read");
        d2c_detail(err, "The first: %s.", job->result->first_skipped.message);
        return D2C_BAD_DATA;
    }
    return run_formatted(conn, err, "ANALYZE %s%s", table, "");
}

d2c_status
d2c_import_run(d2c_import_result *result, PGconn *conn, const d2c_import_target *target,
               const d2c_import_source *source, d2c_progress *progress, d2c_error *err)
{
    import_job *job = calloc(1, sizeof *job);
    d2c_copy_in *copy = calloc(1, sizeof *copy);
    char *table = NULL;
    d2c_status status;

    memset(result, 0, sizeof *result);
    if (job == NULL || copy == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory for an import");
    else {
        *job = (import_job){.target = target, .source = source, .result = result, .copy = copy};
        status = d2c_database_quote_table(&table, conn, target->table, err);
        if (status == D2C_OK)
            status = d2c_database_run(conn, NULL, err, "BEGIN", 0, NULL);
        if (status == D2C_OK) {
            status = import_within(job, conn, table, progress, err);
            if (status == D2C_OK)
                status = d2c_database_run(conn, NULL, err, "COMMIT", 0, NULL);
            else
                d2c_database_run(conn, NULL, NULL, "ROLLBACK", 0, NULL);
        }
    }
    free(table);
    free(copy);
    if (job != NULL)
        free(job->label);
    free(job);
    return status;
}
