/* metrics.c: the tables and the writing thread of metrics.h. */
#define _GNU_SOURCE
#include "train/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/database.h"
#include "train/retry.h"

#define FLUSH_SECONDS 1
#define FLUSH_PATIENCE 1      /* seconds that a training waits for what is queued to be written */
#define LOCK_PATIENCE "'3 s'" /* that a statement waits for someone's lock on the tables */

typedef struct entry {
    struct entry *next;
    int64_t step;
    char *json;    /* a row of d2c_run_metrics; or: */
    char *picture; /* a bytea literal, "\x..." */
} entry;

struct d2c_metrics {
    char *conninfo, *schema;
    int64_t run;
    int retries;
    int old_tables; /* made by an earlier d2c, and someone else's: without the columns of `additions` */
    int without_selections; /* the same of `selection_additions` */
    PGconn *connection;     /* the thread's while it runs; NULL after a failure, until the next try */
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t changed;
    entry *first, **last;
    int64_t asked, answered; /* flushes; the thread has tried the first `answered` of them */
    int stop;
};

static const char *const definitions[] = {
    "CREATE TABLE IF NOT EXISTS d2c_runs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT "
    "NULL, "
    "status text NOT NULL DEFAULT 'running', steps bigint NOT NULL DEFAULT 0, images bigint, "
    "seconds double precision NOT NULL DEFAULT 0, started timestamptz NOT NULL DEFAULT now(), finished "
    "timestamptz, "
    "table_digest text, config jsonb)",
    "CREATE TABLE IF NOT EXISTS d2c_run_metrics (run_id bigint NOT NULL REFERENCES d2c_runs ON DELETE "
    "CASCADE, "
    "step bigint NOT NULL, epoch bigint, loss double precision, denoise_loss double precision, "
    "projection_loss double precision, validation_loss double precision, nearest_distance double precision, "
    "grad_norm double precision, learning_rate double precision, images_per_second double precision, "
    "data_wait double precision, recorded timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (run_id, step))",
    "CREATE TABLE IF NOT EXISTS d2c_samples (run_id bigint NOT NULL REFERENCES d2c_runs ON DELETE CASCADE, "
    "step bigint NOT NULL, image bytea NOT NULL, recorded timestamptz NOT NULL DEFAULT now(), "
    "PRIMARY KEY (run_id, step))",
    "COMMENT ON TABLE d2c_runs IS 'Trainings by d2c train'",
    "COMMENT ON COLUMN d2c_runs.status IS 'running, finished, stopped (by the user) or failed; running "
    "without a "
    "process means that it was killed'",
    "COMMENT ON COLUMN d2c_runs.images IS 'rows of the table it trains on'",
    "COMMENT ON COLUMN d2c_runs.seconds IS 'time spent in training, over all its parts when it was resumed'",
    "COMMENT ON COLUMN d2c_runs.table_digest IS 'sha256 over the lines id, tab, label in order of the ids'",
    "COMMENT ON COLUMN d2c_runs.config IS 'the resolved options'",
    "COMMENT ON TABLE d2c_run_metrics IS 'One row for every --log-every steps of a run; losses are means "
    "over them'",
    "COMMENT ON COLUMN d2c_run_metrics.loss IS 'denoise_loss plus projection_loss'",
    "COMMENT ON COLUMN d2c_run_metrics.denoise_loss IS 'mean squared error of the velocity; of DiT that "
    "of the noise, and the bound on its variance'",
    "COMMENT ON COLUMN d2c_run_metrics.projection_loss IS '--proj-coeff times the mean negative cosine "
    "similarity to "
    "the visual embedding; 0 without one'",
    "COMMENT ON COLUMN d2c_run_metrics.validation_loss IS 'denoise_loss on the rows of --validation-query'",
    "COMMENT ON COLUMN d2c_run_metrics.nearest_distance IS 'median distance of the sampled images to their "
    "nearest "
    "training image: root mean square over pixels, 0 to 1'",
    "COMMENT ON COLUMN d2c_run_metrics.grad_norm IS 'norm of the gradient of the newest step before "
    "clipping'",
    "COMMENT ON COLUMN d2c_run_metrics.data_wait IS 'share of the time spent waiting for rows, 0 to 1'",
    "COMMENT ON TABLE d2c_samples IS 'Pictures of samples with fixed noise and labels, every --sample-every "
    "steps'",
    "COMMENT ON COLUMN d2c_samples.image IS 'a PNG grid'",
};

/* Columns that the tables did not have at first. */
static const char *const additions[] = {
    "ALTER TABLE d2c_runs ADD COLUMN IF NOT EXISTS error text",
    "ALTER TABLE d2c_run_metrics ADD COLUMN IF NOT EXISTS rows_per_second double precision, "
    "ADD COLUMN IF NOT EXISTS megabytes_per_second double precision, ADD COLUMN IF NOT EXISTS reconnects "
    "bigint",
    "COMMENT ON COLUMN d2c_runs.error IS 'why it failed'",
    "COMMENT ON COLUMN d2c_run_metrics.rows_per_second IS 'rows read from the database; NULL when the set is "
    "in memory'",
    "COMMENT ON COLUMN d2c_run_metrics.megabytes_per_second IS 'their bytes, in 10^6'",
    "COMMENT ON COLUMN d2c_run_metrics.reconnects IS 'connections that were lost and made again since the "
    "run was "
    "started or resumed'",
};

/* And others that came later. */
static const char *const selection_additions[] = {
    "ALTER TABLE d2c_runs ADD COLUMN IF NOT EXISTS selection text",
    "ALTER TABLE d2c_runs ADD COLUMN IF NOT EXISTS selection_schema text",
    "ALTER TABLE d2c_runs ADD COLUMN IF NOT EXISTS selection_id bigint",
    "ALTER TABLE d2c_runs ADD COLUMN IF NOT EXISTS selection_digest text",
    "COMMENT ON COLUMN d2c_runs.selection IS 'name of the selection that it trains on; NULL: of none'",
    "COMMENT ON COLUMN d2c_runs.selection_schema IS 'schema of the d2c_selections that it is in'",
    "COMMENT ON COLUMN d2c_runs.selection_id IS 'its id there'",
    "COMMENT ON COLUMN d2c_runs.selection_digest IS 'its digest, by which it is known wherever it is'",
};

/* Whether a query gives true. */
static d2c_status
ask(PGconn *connection, const char *sql, int *yes, d2c_error *err)
{
    PGresult *result = NULL;

    D2C_TRY(d2c_database_run(connection, &result, err, sql, 0, NULL));
    *yes = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    return D2C_OK;
}

/* One transaction; an advisory lock keeps two first runs from each other's way. */
static d2c_status
run_all(PGconn *connection, const char *const *sql, size_t count, d2c_error *err)
{
    d2c_status status;
    size_t i;

    D2C_TRY(d2c_database_run(connection, NULL, err, "BEGIN", 0, NULL));
    status = d2c_database_run(connection, NULL, err, "SELECT pg_catalog.pg_advisory_xact_lock(6822251019)", 0,
                              NULL);
    for (i = 0; i < count && status == D2C_OK; i++)
        status = d2c_database_run(connection, NULL, err, sql[i], 0, NULL);
    if (status == D2C_OK)
        return d2c_database_run(connection, NULL, err, "COMMIT", 0, NULL);
    d2c_database_run(connection, NULL, NULL, "ROLLBACK", 0, NULL);
    return status;
}

/* Adds columns where the query says that they are missing; *missing: it was not allowed. */
static d2c_status
add_columns(d2c_metrics *m, int *missing, const char *question, const char *const *sql, size_t count,
            d2c_error *err)
{
    d2c_status status;
    int there;

    *missing = 0;
    D2C_TRY(ask(m->connection, question, &there, err));
    if (there)
        return D2C_OK;
    status = run_all(m->connection, sql, count, err);
    *missing = status != D2C_OK;
    return d2c_connection_lost(status, m->connection) ? status : D2C_OK;
}

/* Makes the schema's tables.  Those of an earlier d2c get the columns that they lack; where that is not allowed they are
 * used as they are. */
static d2c_status
make_tables(d2c_metrics *m, d2c_error *err)
{
    int there;

    D2C_TRY(ask(m->connection, "SELECT pg_catalog.to_regclass('d2c_samples') IS NOT NULL", &there, err));
    if (!there)
        D2C_TRY(run_all(m->connection, definitions, sizeof definitions / sizeof *definitions, err));
    D2C_TRY(
        add_columns(m, &m->old_tables,
                    "SELECT pg_catalog.count(*) = 2 FROM pg_catalog.pg_attribute WHERE NOT attisdropped AND "
                    "((attrelid = pg_catalog.to_regclass('d2c_runs') AND attname = 'error') OR "
                    "(attrelid = pg_catalog.to_regclass('d2c_run_metrics') AND attname = 'reconnects'))",
                    additions, sizeof additions / sizeof *additions, err));
    return add_columns(
        m, &m->without_selections,
        "SELECT pg_catalog.count(*) = 1 FROM pg_catalog.pg_attribute WHERE NOT attisdropped AND "
        "attrelid = pg_catalog.to_regclass('d2c_runs') AND attname = 'selection_digest'",
        selection_additions, sizeof selection_additions / sizeof *selection_additions, err);
}

static d2c_status
set_search_path(PGconn *connection, const char *schema, d2c_error *err)
{
    char *quoted = PQescapeIdentifier(connection, schema, strlen(schema)), *sql = NULL;
    d2c_status status;

    if (quoted == NULL || asprintf(&sql, "SET search_path = %s", quoted) < 0)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    else
        status = d2c_database_run(connection, NULL, err, sql, 0, NULL);
    PQfreemem(quoted);
    free(sql);
    return status;
}

/* A connection whose search path begins with the schema. */
static d2c_status
connect_to_schema(d2c_metrics *m, d2c_error *err)
{
    d2c_status status;

    D2C_TRY(d2c_database_open(&m->connection, m->conninfo, err));
    status = m->schema != NULL ? set_search_path(m->connection, m->schema, err) : D2C_OK;
    if (status != D2C_OK) {
        PQfinish(m->connection);
        m->connection = NULL;
    }
    return status;
}

/* From now on a training is under way, or ending, that no lock is to hold up. */
static d2c_status
limit_waits(d2c_metrics *m, d2c_error *err)
{
    return d2c_database_run(m->connection, NULL, err, "SET lock_timeout = " LOCK_PATIENCE, 0, NULL);
}

static d2c_status
reconnect(d2c_metrics *m, d2c_error *err)
{
    if (m->connection != NULL)
        return D2C_OK;
    D2C_TRY(connect_to_schema(m, err));
    return limit_waits(m, err);
}

#define INSERT_RUN(columns, values)                                                                          \
    "INSERT INTO d2c_runs (name, images, table_digest, config" columns ") VALUES ($1, $2, $3, $4" values     \
    ") RETURNING id"

static d2c_status
insert_run(d2c_metrics *m, const d2c_metrics_setting *setting, d2c_error *err)
{
    const d2c_selection *selection = m->without_selections ? NULL : setting->selection;
    char rows[32], id[32];
    const char *value[8] = {setting->name, rows, setting->digest, setting->config};
    PGresult *result = NULL;

    snprintf(rows, sizeof rows, "%" PRId64, setting->rows);
    if (selection != NULL) {
        snprintf(id, sizeof id, "%" PRId64, selection->id);
        value[4] = selection->name;
        value[5] = selection->schema;
        value[6] = id;
        value[7] = selection->digest;
    }
    D2C_TRY(d2c_database_run(
        m->connection, &result, err,
        selection == NULL
            ? INSERT_RUN("", "")
            : INSERT_RUN(", selection, selection_schema, selection_id, selection_digest", ", $5, $6, $7, $8"),
        selection == NULL ? 4 : 8, value));
    m->run = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return D2C_OK;
}

/* Whether the id is this run's: in another database or schema it may be that of another one. */
static d2c_status
is_own_run(d2c_metrics *m, int *own, const char *run, const d2c_metrics_setting *setting, d2c_error *err)
{
    const char *value[] = {run, setting->name, setting->digest};
    PGresult *result = NULL;

    D2C_TRY(d2c_database_run(m->connection, &result, err,
                             "SELECT FROM d2c_runs WHERE id = $1 AND name = $2 AND table_digest = $3", 3,
                             value));
    *own = PQntuples(result) == 1;
    PQclear(result);
    return D2C_OK;
}

/* Continues the run's row; rows behind the step are removed, for they come again. */
static d2c_status
continue_run(d2c_metrics *m, int64_t *last, const char *run, const d2c_metrics_setting *setting,
             d2c_error *err)
{
    char step[32];
    const char *old[] = {run, step};
    PGresult *result = NULL;

    snprintf(step, sizeof step, "%" PRId64, setting->step);
    D2C_TRY(d2c_database_run(m->connection, NULL, err, "BEGIN", 0, NULL));
    D2C_TRY(d2c_database_run(m->connection, NULL, err,
                             "DELETE FROM d2c_run_metrics WHERE run_id = $1 AND step > $2", 2, old));
    D2C_TRY(d2c_database_run(m->connection, NULL, err,
                             "DELETE FROM d2c_samples WHERE run_id = $1 AND step > $2", 2, old));
    D2C_TRY(
        d2c_database_run(m->connection, &result, err,
                         "UPDATE d2c_runs SET status = 'running', finished = NULL, steps = $2 WHERE id = $1 "
                         "RETURNING (SELECT coalesce(max(step), 0) FROM d2c_run_metrics WHERE run_id = id)",
                         2, old));
    m->run = PQntuples(result) == 1 ? setting->run : 0;
    *last = m->run > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    return d2c_database_run(m->connection, NULL, err, "COMMIT", 0, NULL);
}

/* Continues the run's row, or makes one. */
static d2c_status
register_run(d2c_metrics *m, int64_t *last, const d2c_metrics_setting *setting, d2c_error *err)
{
    char run[32];
    int own = 0;

    snprintf(run, sizeof run, "%" PRId64, setting->run);
    if (setting->run > 0)
        D2C_TRY(is_own_run(m, &own, run, setting, err));
    if (own)
        D2C_TRY(continue_run(m, last, run, setting, err));
    return m->run > 0 ? D2C_OK : insert_run(m, setting, err);
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static void
free_entries(entry *e)
{
    entry *next;

    for (; e != NULL; e = next) {
        next = e->next;
        free(e->json);
        free(e->picture);
        free(e);
    }
}

#define OLD_COLUMNS                                                                                          \
    "step, epoch, loss, denoise_loss, projection_loss, validation_loss, nearest_distance, grad_norm, "       \
    "learning_rate, images_per_second, data_wait"
#define NEW_COLUMNS ", rows_per_second, megabytes_per_second, reconnects"
#define INSERT_METRICS(columns)                                                                              \
    "WITH given AS (SELECT r.* FROM jsonb_populate_record(NULL::d2c_run_metrics, $2::jsonb) r), "            \
    "progress AS (UPDATE d2c_runs SET steps = given.step FROM given WHERE id = $1) "                         \
    "INSERT INTO d2c_run_metrics (run_id, " columns ") SELECT $1, " columns                                  \
    " FROM given ON CONFLICT (run_id, step) DO NOTHING"

static d2c_status
write_entry(d2c_metrics *m, const entry *e, d2c_error *err)
{
    char run[32], step[32];
    const char *metric[] = {run, e->json}, *sample[] = {run, step, e->picture};

    snprintf(run, sizeof run, "%" PRId64, m->run);
    snprintf(step, sizeof step, "%" PRId64, e->step);
    if (e->picture != NULL)
        return d2c_database_run(m->connection, NULL, err,
                                "INSERT INTO d2c_samples (run_id, step, image) VALUES ($1, $2, $3) "
                                "ON CONFLICT (run_id, step) DO UPDATE SET image = excluded.image",
                                3, sample);
    return d2c_database_run(
        m->connection, NULL, err,
        m->old_tables ? INSERT_METRICS(OLD_COLUMNS) : INSERT_METRICS(OLD_COLUMNS NEW_COLUMNS), 2, metric);
}

/* After a failure: ready for the next try. */
static void
recover(d2c_metrics *m, d2c_status status)
{
    if (!d2c_connection_lost(status, m->connection)) {
        d2c_database_run(m->connection, NULL, NULL, "ROLLBACK", 0, NULL);
        return;
    }
    PQfinish(m->connection);
    m->connection = NULL;
}

/* All entries in one transaction. */
static d2c_status
write_entries(d2c_metrics *m, const entry *first, d2c_error *err)
{
    const entry *e;
    d2c_status status;

    D2C_TRY(reconnect(m, err));
    status = d2c_database_run(m->connection, NULL, err, "BEGIN", 0, NULL);
    for (e = first; e != NULL && status == D2C_OK; e = e->next)
        status = write_entry(m, e, err);
    if (status == D2C_OK)
        status = d2c_database_run(m->connection, NULL, err, "COMMIT", 0, NULL);
    if (status != D2C_OK)
        recover(m, status);
    return status;
}

/* Takes the queue, writes it, and puts it back in front when that fails. */
static d2c_status
write_queue(d2c_metrics *m, d2c_error *err)
{
    entry *taken, **end;
    d2c_status status;

    pthread_mutex_lock(&m->lock);
    taken = m->first;
    m->first = NULL;
    m->last = &m->first;
    pthread_mutex_unlock(&m->lock);
    if (taken == NULL)
        return D2C_OK;
    status = write_entries(m, taken, err);
    if (status == D2C_OK) {
        free_entries(taken);
        return D2C_OK;
    }
    pthread_mutex_lock(&m->lock);
    for (end = &taken; *end != NULL; end = &(*end)->next)
        continue;
    *end = m->first;
    if (m->first == NULL)
        m->last = end;
    m->first = taken;
    pthread_mutex_unlock(&m->lock);
    return status;
}

/* The moment on the condition's clock so many seconds from now. */
static struct timespec
in_seconds(int seconds)
{
    struct timespec moment;

    clock_gettime(CLOCK_MONOTONIC, &moment);
    moment.tv_sec += seconds;
    return moment;
}

void
d2c_metrics_flush(d2c_metrics *metrics)
{
    struct timespec until = in_seconds(FLUSH_PATIENCE);
    int64_t turn;

    pthread_mutex_lock(&metrics->lock);
    turn = ++metrics->asked;
    pthread_cond_broadcast(&metrics->changed);
    while (metrics->answered < turn && pthread_cond_timedwait(&metrics->changed, &metrics->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&metrics->lock);
}

/* The thread: writes what has come, once a second and when it is asked to. */
static void *
write_metrics(void *argument)
{
    d2c_metrics *m = argument;

    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        struct timespec until = in_seconds(FLUSH_SECONDS);
        int64_t asked;

        while (!m->stop && m->asked == m->answered &&
               pthread_cond_timedwait(&m->changed, &m->lock, &until) == 0)
            continue;
        asked = m->asked;
        if (m->stop)
            break;
        pthread_mutex_unlock(&m->lock);
        write_queue(m, NULL);
        pthread_mutex_lock(&m->lock);
        m->answered = asked;
        pthread_cond_broadcast(&m->changed);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* Waits for it are not disturbed by whoever sets the time. */
static void
open_queue(d2c_metrics *m)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&m->lock, NULL);
}

static void
free_metrics(d2c_metrics *m)
{
    PQfinish(m->connection);
    free_entries(m->first);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    free(m->conninfo);
    free(m->schema);
    free(m);
}

/* Connects and finds the run its row; begun again, on a new connection, when the connection is lost. */
static d2c_status
begin(d2c_metrics *m, int64_t *last, const d2c_metrics_setting *setting, d2c_error *err)
{
    d2c_patience patience = {setting->retries, NULL, 0};
    d2c_status status;

    for (;;) {
        status = connect_to_schema(m, err);
        if (status == D2C_OK)
            status = make_tables(m, err);
        if (status == D2C_OK)
            status = register_run(m, last, setting, err);
        if (status == D2C_OK)
            status = limit_waits(m, err);
        if (!d2c_connection_lost(status, m->connection))
            return status;
        PQfinish(m->connection);
        m->connection = NULL;
        D2C_TRY(d2c_patience_wait(&patience, err));
    }
}

d2c_status
d2c_metrics_open(d2c_metrics **metrics, int64_t *run, int64_t *last, const d2c_metrics_setting *setting,
                 d2c_error *err)
{
    d2c_metrics *m = calloc(1, sizeof *m);
    d2c_status status;

    *metrics = NULL;
    *last = 0;
    if (m == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    m->retries = setting->retries;
    m->last = &m->first;
    open_queue(m);
    m->conninfo = setting->conninfo != NULL ? strdup(setting->conninfo) : NULL;
    m->schema = setting->schema != NULL ? strdup(setting->schema) : NULL;
    status = begin(m, last, setting, err);
    if (status == D2C_OK && pthread_create(&m->thread, NULL, write_metrics, m) != 0)
        status = d2c_fail(err, D2C_IO, "could not start a thread");
    if (status != D2C_OK) {
        free_metrics(m);
        return status;
    }
    *run = m->run;
    *metrics = m;
    return D2C_OK;
}

static void
enqueue(d2c_metrics *m, entry *e)
{
    pthread_mutex_lock(&m->lock);
    *m->last = e;
    m->last = &e->next;
    pthread_mutex_unlock(&m->lock);
}

void
d2c_metrics_put(d2c_metrics *metrics, const char *json)
{
    entry *e = calloc(1, sizeof *e);

    if (e != NULL && (e->json = strdup(json)) != NULL)
        enqueue(metrics, e);
    else
        free(e);
}

void
d2c_metrics_put_sample(d2c_metrics *metrics, int64_t step, const void *png, size_t length)
{
    static const char digit[] = "0123456789abcdef";
    const unsigned char *bytes = png;
    entry *e = calloc(1, sizeof *e);
    size_t i;

    if (e == NULL || length > SIZE_MAX / 2 - 3 || (e->picture = malloc(2 * length + 3)) == NULL) {
        free(e);
        return;
    }
    e->step = step;
    memcpy(e->picture, "\\x", 2);
    for (i = 0; i < length; i++) {
        e->picture[2 + 2 * i] = digit[bytes[i] >> 4];
        e->picture[3 + 2 * i] = digit[bytes[i] & 15];
    }
    e->picture[2 + 2 * length] = '\0';
    enqueue(metrics, e);
}

#define CLOSE_RUN                                                                                            \
    "UPDATE d2c_runs SET status = $2, steps = $3, seconds = seconds + $4::float8, finished = now()"

static d2c_status
close_run(d2c_metrics *m, const d2c_metrics_end *end, d2c_error *err)
{
    char run[32], done[32], spent[32];
    const char *parameter[] = {run, end->outcome, done, spent, end->message};

    snprintf(run, sizeof run, "%" PRId64, m->run);
    snprintf(done, sizeof done, "%" PRId64, end->steps);
    snprintf(spent, sizeof spent, "%.3f", end->seconds);
    D2C_TRY(reconnect(m, err));
    return d2c_database_run(m->connection, NULL, err,
                            m->old_tables ? CLOSE_RUN " WHERE id = $1"
                                          : CLOSE_RUN ", error = $5 WHERE id = $1",
                            m->old_tables ? 4 : 5, parameter);
}

d2c_status
d2c_metrics_close(d2c_metrics *metrics, const d2c_metrics_end *end, d2c_error *err)
{
    d2c_patience patience = {metrics->retries, NULL, 0};
    d2c_status status;

    pthread_mutex_lock(&metrics->lock);
    metrics->stop = 1;
    pthread_cond_broadcast(&metrics->changed);
    pthread_mutex_unlock(&metrics->lock);
    pthread_join(metrics->thread, NULL);
    for (;;) {
        status = write_queue(metrics, err);
        if (status == D2C_OK)
            status = close_run(metrics, end, err);
        if (!d2c_connection_lost(status, metrics->connection) || d2c_patience_wait(&patience, err) != D2C_OK)
            break;
        PQfinish(metrics->connection);
        metrics->connection = NULL;
    }
    free_metrics(metrics);
    return status;
}
