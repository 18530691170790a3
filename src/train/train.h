/*
 * train.h: training a SiT, DiT or REPA on the rows of a table.
 *
 * d2c_train_open reads the table and settles everything that the user left open; the settings then hold what is used.
 * d2c_train_run trains, or goes on where a checkpoint stands, and writes into results_dir,
 * which is this run's own folder:
 *   NAME.safetensors                the EMA weights as a plain network of its kind
 *   checkpoints/0000100.safetensors, metrics.jsonl, config.json, samples/0000100.png, tensorboard/
 *   rows.hash                       64 bits for every row, to say which one has changed
 *
 * Several processes share a training (ranks.h): each computes its part of every batch and takes the same steps, with the
 * same bits.  The first alone writes and tells; which rows are in a batch does not depend on how many there are.
 */
#ifndef D2C_TRAIN_TRAIN_H
#define D2C_TRAIN_TRAIN_H

#include <stdint.h>

#include "base/status.h"
#include "ranks/ranks.h"
#include "train/table.h"

/* Numbers that are 0, and texts that are NULL, are settled by d2c_train_open where a comment says so. */
typedef struct d2c_train_setting {
    const char *conninfo;
    d2c_table_setting table;
    const char *validation_query; /* with the table's column names; NULL: none */

    const char *kind;  /* "sit", "dit", "repa" */
    const char *model; /* a public size, or "custom": the four below; NULL: S/2 of the kind */
    int64_t hidden, depth, heads, patch;
    int64_t image_size;  /* 0: the first image's short side, down to a multiple of the patch */
    int64_t channels;    /* 0: the first image's */
    int64_t num_classes; /* 0: the greatest label and one */
    const char *path_type;
    const char *time_sampling; /* "uniform", "lognormal" */
    int qk_norm;               /* queries and keys are normalised: REPA's option */
    const char *init;          /* file whose weights are those to start with; NULL: drawn */
    int64_t encoder_depth;     /* 0: block 8, half the depth in networks of less than 12 blocks */
    int64_t proj_hidden;       /* 0: 2048, twice the hidden size in custom networks */

    int64_t batch, steps;
    int64_t
        micro_batch; /* 0: the checkpoint's, or as many rows as fit: the batch, halved as often as need be */
    const char *
        recompute; /* what is computed again to save memory: "none", "mlp", "block", or "auto": as the plan says */
    const char *optimizer; /* "adamw", "adam" */
    double learning_rate;
    int64_t warmup_steps;
    double beta1, beta2, weight_decay, max_grad_norm, ema_decay;
    int ema_warmup;
    double cfg_prob, proj_coeff;
    int horizontal_flip; /* of half the rows in every epoch; not with visual features, not of latents */
    const char *vae; /* that made the latents, in model_directory: what trains on them names it; or NULL */
    double latent_scale; /* 0: the autoencoder's scaling factor, or 0.18215 */
    int64_t seed;

    const char *device;      /* "auto": cuda:0 where it opens, otherwise cpu */
    const char *precision;   /* "no", "bf16", or "auto": bf16 where the hardware has it */
    int64_t threads;         /* 0: all cores, shared among the processes of a machine */
    d2c_ranks *ranks;        /* NULL: one process */
    int64_t cache_memory;    /* MiB */
    int64_t retries;         /* of a lost connection */
    int accept_changed_rows; /* what rows hold may differ from the checkpoint's, and change under way */

    int64_t log_every, ckpt_every, sample_every; /* 0: never, but for the end */
    int64_t checkpoints_limit;
    const char *results_dir;     /* NULL: results/NAME */
    const char *name;            /* NULL: from model and table */
    const char *model_directory; /* where the result becomes a model by name; NULL: nowhere */
    int replace;
    const char *resume; /* NULL, "latest" (a new run when there is none), or a file */
    int metrics;        /* rows in the database */
    const char *metrics_schema;
    int tensorboard;          /* event files in results_dir/tensorboard */
    double divergence_factor; /* of divergence.h */
    const char *build;        /* the program's build id, for the checkpoint */
} d2c_train_setting;

/* How a training tells what happens; every function may be called from the thread that runs it only. */
typedef struct d2c_train_events {
    void *closure;
    void (*line)(void *closure, const char *line);   /* the log: equal runs have equal lines */
    void (*notice)(void *closure, const char *line); /* news and warnings */
    void (*progress)(void *closure, int64_t step, const char *note);
    const volatile int *stop; /* non-zero: checkpoint and end after this step */
} d2c_train_events;

typedef struct d2c_train d2c_train;

d2c_status d2c_train_open(d2c_train **train, d2c_train_setting *setting, const d2c_train_events *events,
                          d2c_error *err);
void d2c_train_close(d2c_train *train);

/* Closes a training that has failed, once the other ranks have been told why: their messages may still come to its memory.
 * Where they may wait on their devices nothing is freed, for freeing a device's memory would wait for them. */
void d2c_train_fail(d2c_train *train, const d2c_error *why);

/* config: the resolved options as a JSON object, which is stored with the run. */
d2c_status d2c_train_run(d2c_train *train, const char *config, d2c_error *err);

int64_t d2c_train_step(const d2c_train *train); /* steps done, those of earlier parts included */

#endif
