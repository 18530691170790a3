/*
 * loader.h: batches of rows, put together ahead of the training loop by a thread of their own.
 *
 * Row p of the endless sequence of epochs belongs to step p / batch: batches go on across the ends of epochs
 * and no row is left out.  Of several processes each loads its share of every batch.  Rows come from memory when the
 * decoded set fits, otherwise from a stream.
 */
#ifndef D2C_TRAIN_LOADER_H
#define D2C_TRAIN_LOADER_H

#include "train/row.h"
#include "train/stream.h"

#define D2C_BATCH_ID 72 /* bytes that a batch keeps of a row's id, for messages */

/* Host memory; B rows are those of the share. */
typedef struct d2c_batch {
    int64_t step;
    int size;            /* B */
    int texts;           /* K: distinct texts, the zero text at index 0, padding to a multiple of 8 */
    float *x;            /* [B, channels, size, size] */
    int64_t *label;      /* [B] */
    int64_t *number;     /* [B] the ids as Philox takes them */
    int64_t *epoch;      /* [B] */
    float *text;         /* [K, L, W] */
    float *text_mask;    /* [K, L] */
    int64_t *text_index; /* [B] */
    uint64_t *text_hash; /* [K] */
    uint16_t *visual;    /* f16 [B, T, width] */
    char (*id)[D2C_BATCH_ID];
    d2c_order_key last; /* of the batch's last row */
    int mixed_texts;    /* a row's text was not its class's */
} d2c_batch;

d2c_status d2c_batch_allocate(d2c_batch *batch, const d2c_row_shape *shape, int size, d2c_error *err);
void d2c_batch_free(d2c_batch *batch);
/* The most distinct texts that a batch of this size has, padding included. */
int d2c_batch_text_limit(int size);

/* Starts a batch, and puts a row into it.  Of a latent it takes the draw from its posterior that seed, row and epoch give:
 * (mean + deviation * normal) * latent_scale. */
void d2c_batch_clear(d2c_batch *batch, const d2c_row_shape *shape, int64_t step);
void d2c_batch_put(d2c_batch *batch, int place, const d2c_row *row, uint64_t seed, int64_t epoch,
                   const d2c_row_shape *shape);
/* Whether a row is mirrored in that epoch, which is so in half of all; and the row at its place, mirrored left to right. */
int d2c_row_flips(uint64_t seed, int64_t number, int64_t epoch);
void d2c_batch_mirror(d2c_batch *batch, int place, const d2c_row_shape *shape);

typedef struct d2c_loader_setting {
    const char *conninfo;
    const d2c_table *table;
    d2c_row_shape shape;
    uint64_t seed;
    d2c_share share;
    int flip;                   /* 1: rows are mirrored by d2c_row_flips */
    int64_t step;               /* the first batch's */
    const d2c_order_key *after; /* key of the row before it; NULL when step is 0 */
    const uint64_t *class_hash; /* [classes] of the class's text, or NULL */
    size_t cache_memory;        /* bytes; 0: always stream */
    int threads;                /* for decoding a set into memory */
    int retries;                /* of a lost connection */
    const volatile int *stop;   /* non-zero: waits end; may be NULL */
} d2c_loader_setting;

typedef struct d2c_loader d2c_loader;

d2c_status d2c_loader_open(d2c_loader **loader, const d2c_loader_setting *setting, d2c_error *err);
void d2c_loader_close(d2c_loader *loader);

/* The next step's batch, waiting for it; valid until the call after the next.  D2C_CANCELLED when there is none yet and
 * `stop` is set, so that a run can end while the server is away. */
d2c_status d2c_loader_next(d2c_loader *loader, const d2c_batch **batch, d2c_error *err);

double d2c_loader_waited(const d2c_loader *loader); /* seconds spent waiting in d2c_loader_next */
void d2c_loader_count(const d2c_loader *loader, d2c_stream_counters *counters); /* zeroes unless it streams */
size_t d2c_loader_cached(const d2c_loader *loader); /* bytes of the set in memory; 0: it is streamed */
/* The set's pixels [rows, size, size, channels], in no order; NULL when it is streamed, or latents. */
const uint8_t *d2c_loader_pixels(const d2c_loader *loader, int64_t *rows);

#endif
