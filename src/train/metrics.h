/*
 * metrics.h: a run's rows in the database, as they happen, from a thread and a connection of its own.
 *
 * Tables d2c_runs, d2c_run_metrics and d2c_samples are made on first use.  Reporting never stops a training: when the
 * database does not take the rows, they wait for the next try, and what is left at the end is told.
 */
#ifndef D2C_TRAIN_METRICS_H
#define D2C_TRAIN_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "train/selection.h"

typedef struct d2c_metrics d2c_metrics;

typedef struct d2c_metrics_setting {
    const char *conninfo;
    const char *schema;             /* NULL: the connection's own */
    const char *name;               /* of the run */
    const char *config;             /* JSON object */
    const char *digest;             /* of the table's ids and labels */
    const d2c_selection *selection; /* that the rows are; NULL: none */
    int64_t rows;                   /* of the table */
    int64_t run;                    /* the run's id when it is continued; 0, or another run's: a new one */
    int64_t step;                   /* where it starts; later rows of a continued run are removed */
    int retries;                    /* of a lost connection, when the run's row is made and at the end */
} d2c_metrics_setting;

/* Makes the tables and the run's row; *run is its id, *last the newest step of the rows that it has, 0 without any. */
d2c_status d2c_metrics_open(d2c_metrics **metrics, int64_t *run, int64_t *last,
                            const d2c_metrics_setting *setting, d2c_error *err);

/* Queues one row: a JSON object with the columns of d2c_run_metrics; and a picture. */
void d2c_metrics_put(d2c_metrics *metrics, const char *json);
void d2c_metrics_put_sample(d2c_metrics *metrics, int64_t step, const void *png, size_t length);

/* Has what is queued written, once, and waits for that a second: what the database does not take now still waits for
 * the next try.  A checkpoint comes after it, for a run that goes on from there does not report the steps before it again. */
void d2c_metrics_flush(d2c_metrics *metrics);

/* How a run ended: "finished", "stopped" or "failed"; of a failure the message. */
typedef struct d2c_metrics_end {
    const char *outcome, *message; /* message: NULL without one */
    int64_t steps;
    double seconds;
} d2c_metrics_end;

/* Writes what is queued, closes the run's row, and frees. */
d2c_status d2c_metrics_close(d2c_metrics *metrics, const d2c_metrics_end *end, d2c_error *err);

#endif
