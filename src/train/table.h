/*
 * table.h: the table or query that is trained on: which columns are used, how many rows there are, and what
 * one row looks like.
 */
#ifndef D2C_TRAIN_TABLE_H
#define D2C_TRAIN_TABLE_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/status.h"
#include "train/content.h"
#include "train/order.h"
#include "train/selection.h"

/* Column names as the user gave them.  The last four: NULL is "used when the column is there and some row has a value in it", "off"
 * is not used.  Where latents are used images are not.  With a selection its rows alone are used, of the table or query, else of its
 * own source, whose columns it names. */
typedef struct d2c_table_setting {
    const char *table; /* name, perhaps with schema; or: */
    const char *query;
    const char *id, *label, *image;
    const char *text, *text_mask, *visual, *latent;
    const char *selection, *selection_schema; /* schema NULL: search_path finds it */
    int content;                              /* hash what the rows hold */
} d2c_table_setting;

typedef struct d2c_table {
    char *source;                                  /* what stands behind FROM */
    const char *id_name, *label_name, *image_name; /* the columns' own, of the setting or the selection */
    char *id, *label, *image;        /* SQL expressions: text, bigint, bytea or a latent's tensor */
    int latents;                     /* image is the column of latents */
    char *text, *text_mask, *visual; /* NULL when not used */
    const char *empty[3];            /* columns that are there and not used, as no row has a value */
    int empties;
    d2c_selection *selection;                 /* which the rows are, or should be; NULL: none */
    int64_t rows, classes;                    /* classes: the greatest label and one */
    char digest[65];                          /* sha256 over the lines "id<tab>label" in order of the ids */
    d2c_content *content;                     /* NULL unless asked for */
    char *content_digest;                     /* d2c_content_finish's, or NULL */
    char first_id[D2C_ID_LIMIT + 1];          /* the least id */
    char greatest_label_id[D2C_ID_LIMIT + 1]; /* a row with the greatest label */
    int image_width, image_height, image_channels; /* of that first row; channels 1 or 3, or a latent's */
    int text_tokens, text_width;                   /* 0: no text */
    int visual_tokens, visual_width;               /* 0: no features */
} d2c_table;

/* Reads what the table holds.  Bad ids and labels, missing columns and wrong types are errors that say which.
 */
d2c_status d2c_table_open(d2c_table **table, PGconn *connection, const d2c_table_setting *setting,
                          d2c_error *err);
void d2c_table_close(d2c_table *table);

/* The rows of every batch that a process takes: `rows` of them from `first` on.  Row p of the endless sequence of epochs
 * is row p % batch of its batch. */
typedef struct d2c_share {
    int64_t batch, first, rows;
} d2c_share;

/* The COPY statement that reads all rows, in no order: id, label, image and the attachments in use, D2C_TABLE_COLUMNS
 * fields of which unused ones are NULL.  malloc'd. */
#define D2C_TABLE_COLUMNS 6
char *d2c_table_copy(const d2c_table *table);

/* The same for a share of the epoch's rows, in their order, from its row at `place` on, the first one behind the key
 * `after` (NULL for place 0). */
char *d2c_table_copy_epoch(const d2c_table *table, uint64_t seed, int64_t epoch, int64_t place,
                           const d2c_order_key *after, const d2c_share *share);

/* The id at a place in the order of the ids, for messages; "" when it cannot be had. */
void d2c_table_id_at(const d2c_table *table, PGconn *connection, int64_t place, char *id, size_t size);

/* The text of each class, that of its least id: text [classes, L, W] and mask [classes, L], malloc'd; classes
 * without rows keep zeroes. */
d2c_status d2c_table_class_texts(const d2c_table *table, PGconn *connection, float **text, float **mask,
                                 int64_t classes, d2c_error *err);

#endif
