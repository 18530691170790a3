/*
 * checkpoint.h: a run's state as one safetensors file.
 *
 * Tensors model.*, ema.*, opt.m.*, opt.v.*, and with one text a class folded.model and folded.ema; metadata: the network's configuration, the position, two JSON objects of
 * facts: those that must be the same for a resume, and those on which exactness depends; and the algorithms of matrix
 * products that were chosen by measurement.  No time, host or path is in it, so equal runs have equal bytes.
 */
#ifndef D2C_TRAIN_CHECKPOINT_H
#define D2C_TRAIN_CHECKPOINT_H

#include "nn/sit.h"
#include "train/divergence.h"
#include "train/order.h"

/* Where a run is, after `step` steps; sums go over the steps since the last log line. */
typedef struct d2c_position {
    int64_t step;
    int64_t epoch, row; /* of the next row, for the reader of the file: step and batch say the same */
    d2c_order_key last; /* of the last row that was consumed */
    double loss_sum, denoise_sum, projection_sum;
    int64_t loss_count;
    int mixed_texts;
    d2c_divergence divergence;
} d2c_position;

typedef struct d2c_checkpoint_facts {
    const char *required;  /* JSON object: a resume with other values is an error */
    const char *exact;     /* JSON object: with other values exactness ends */
    const char *choices;   /* d2c_tuned's text, for writing; NULL: none */
    const char *content;   /* d2c_content_finish's text, for writing; NULL: none */
    const char *vae;       /* name of the autoencoder of the latents, for writing; NULL: none */
    const char *selection; /* d2c_selection_json's text, for writing; NULL: none */
} d2c_checkpoint_facts;

/* The label tables [classes + null, hidden] with the classes' texts folded in (d2c_sit_fold_text), on the host: with them
 * a checkpoint can be exported without the rows that it was trained on.  NULL: none. */
typedef struct d2c_checkpoint_tables {
    const float *model, *ema;
} d2c_checkpoint_tables;

/* What a run that goes on from a checkpoint has to know before its weights are read. */
typedef struct d2c_checkpoint_head {
    int64_t step;
    int micro_batch;     /* among the exact facts; 0: not given */
    int mixed_texts;     /* the rows of a class did not share one text */
    char arithmetic[64]; /* among the exact facts; "" */
    char *choices;       /* malloc'd */
    char *content;       /* the rows' contents, "" when not given; malloc'd */
    char table_digest[65];
} d2c_checkpoint_head;

d2c_status d2c_checkpoint_save(const char *path, const d2c_sit *sit, d2c_backend *be,
                               const d2c_position *position, const d2c_checkpoint_facts *facts,
                               const d2c_checkpoint_tables *tables, d2c_error *err);

d2c_status d2c_checkpoint_peek(d2c_checkpoint_head *head, const char *path, d2c_error *err);

/* Restores network and position.  Another model or other required facts are an error that names the first difference;
 * `difference` [size] receives the first one among the exact facts, empty when there is none. */
d2c_status d2c_checkpoint_load(const char *path, d2c_sit *sit, d2c_backend *be, d2c_position *position,
                               const d2c_checkpoint_facts *facts, char *difference, size_t size,
                               d2c_error *err);

/* folder/0000100.safetensors */
void d2c_checkpoint_path(char *path, size_t size, const char *folder, int64_t step);

/* The newest checkpoint in the folder; -1 when there is none (or no folder). */
int64_t d2c_checkpoint_latest(const char *folder);

/* Removes what a process left that was killed while it wrote a checkpoint. */
void d2c_checkpoint_clean(const char *folder);

/* Removes all but the newest `keep`; 0 keeps all. */
void d2c_checkpoint_prune(const char *folder, int keep);

#endif
