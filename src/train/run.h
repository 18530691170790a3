/* run.h: a training's inner state, shared by the files that make it up. */
#ifndef D2C_TRAIN_RUN_H
#define D2C_TRAIN_RUN_H

#include <stdio.h>

#include "nn/sit.h"
#include "train/checkpoint.h"
#include "train/loader.h"
#include "train/metrics.h"
#include "train/schedule.h"
#include "train/step.h"
#include "train/tensorboard.h"
#include "train/train.h"

#define D2C_RUN_PATH 4096
#define D2C_PREVIEW_SAMPLES 50 /* pictures in a grid, at most */

typedef struct d2c_preview d2c_preview;
typedef struct d2c_word d2c_word;

struct d2c_train {
    d2c_train_setting *setting;
    d2c_train_events events;
    char name[128]; /* setting->name, when it was left open */
    d2c_table *table;
    d2c_row_shape shape;
    d2c_sit_config config;
    d2c_dtype precision;
    d2c_backend *be;
    char gpu[16];     /* its name, where each process takes its own */
    d2c_ranks *ranks; /* setting->ranks, on the backend's memory */
    d2c_share share;
    d2c_word *words;              /* [ranks] what each told last */
    d2c_stream_counters streamed; /* by all */
    int stopped;                  /* all have agreed to end */
    d2c_sit *sit;
    char init_sha256[65]; /* of setting->init; "": none */
    d2c_step_setting step;
    d2c_stepper *stepper;
    d2c_loader *loader;
    d2c_schedule schedule;
    d2c_position position;
    float *class_text, *class_mask; /* [classes, L, W], [classes, L]; NULL without text */
    uint64_t *class_hash;           /* [classes] */
    char *required, *exact;         /* the checkpoint's facts */
    int chosen;                     /* all ranks have the same choices of algorithms */
    char folder[D2C_RUN_PATH];      /* results_dir */
    int lock;                       /* the open folder, locked; -1 before, and in ranks that do not write */
    char checkpoints[D2C_RUN_PATH + 16];
    char resumed[D2C_RUN_PATH + 64]; /* the checkpoint that the run goes on from; "": none */
    d2c_checkpoint_head head;        /* of it */
    FILE *log;                       /* metrics.jsonl */
    d2c_metrics *metrics;
    d2c_tensorboard *board;
    d2c_preview *preview;
};

/* settle.c: the network's configuration and the rows' shape from settings and table. */
d2c_status d2c_train_settle(d2c_train *train, d2c_error *err);
/* The checkpoint's facts, as things are now. */
d2c_status d2c_train_facts(d2c_train *train, d2c_error *err);

/* changes.c: whether the rows are still those of the checkpoint; keeps their hashes in the folder. */
d2c_status d2c_train_check_rows(d2c_train *train, d2c_error *err);
/* Whether the rows are those of the selection; a table that is no longer the one it was made as is not called so. */
d2c_status d2c_train_check_selection(d2c_train *train, d2c_error *err);

/* latents.c: scale and autoencoder of the table's latents; and PATH, NAME.json, which tells the trained model's. */
d2c_status d2c_latents_settle(d2c_train *train, d2c_error *err);
d2c_status d2c_latents_describe(const d2c_train *train, const char *path, d2c_error *err);

/* init.c: whether setting->init is of this network, and its sha256; and its weights in place of those that are drawn. */
d2c_status d2c_init_settle(d2c_train *train, d2c_error *err);
d2c_status d2c_init_load(d2c_train *train, d2c_error *err);

/* plan.c: chooses the micro-batch that was left open, and tells the memory plan. */
d2c_status d2c_train_plan(d2c_train *train, d2c_error *err);

/* report.c: the log of lines, the JSONL file, the rows in the database. */
typedef struct d2c_report {
    int64_t step, epoch;
    int with_losses, with_validation, with_nearest;
    double loss, denoise, projection, grad_norm, learning_rate, images_per_second, data_wait;
    double validation, nearest;
    int with_stream; /* the next three are of rows that were streamed */
    double rows_per_second, megabytes_per_second;
    int reconnects;
} d2c_report;

d2c_status d2c_report_open(d2c_train *train, const char *config, d2c_error *err);
void d2c_report_put(d2c_train *train, const d2c_report *report);
/* The rows [global batch] of the step at which a training stopped. */
void d2c_report_rows(d2c_train *train, int64_t step, const char (*id)[D2C_BATCH_ID], const char *reason);
/* A grid of samples of the present step. */
void d2c_report_grid(d2c_train *train, const void *png, size_t length);
/* D2C_OK where something along the way could not be had for want of space, memory or numbers: then a notice tells why.  Any
 * other status is returned. */
d2c_status d2c_report_missing(const d2c_train *train, d2c_status status, const char *what,
                              const d2c_error *err);
/* message: why it failed, or NULL. */
void d2c_report_close(d2c_train *train, const char *outcome, const char *message, double seconds);
void d2c_notice(const d2c_train *train, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* publish.c: the EMA weights as a plain network of its kind. */
/* Why there can be none, or NULL. */
const char *d2c_publish_obstacle(const d2c_train *train);
/* The label table with the classes' texts folded in, values from `range`; malloc'd, NULL without a text condition. */
d2c_status d2c_train_label_table(d2c_train *train, float **table, const float *range, d2c_error *err);
/* A network of its own for sampling; the caller destroys it. */
d2c_status d2c_publish_network(d2c_train *train, d2c_sit **plain, d2c_error *err);
/* results_dir/NAME.safetensors; when `done`, the model directory too. */
d2c_status d2c_publish(d2c_train *train, int done, d2c_error *err);

/* preview.c: sample grids with fixed noise and labels, held-out loss, distance to the training images. */
d2c_status d2c_preview_open(d2c_preview **preview, d2c_train *train, d2c_error *err);
void d2c_preview_close(d2c_preview *preview);
d2c_status d2c_preview_run(d2c_preview *preview, d2c_train *train, d2c_report *report, d2c_error *err);

/* loop.c */
d2c_status d2c_train_loop(d2c_train *train, d2c_error *err);

#endif
