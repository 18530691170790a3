/* row.h: one row of the table as the trainer takes it: cropped pixels, label, text condition, features. */
#ifndef D2C_TRAIN_ROW_H
#define D2C_TRAIN_ROW_H

#include <stdint.h>

#include "base/status.h"
#include "train/copy.h"
#include "train/table.h"

/* What the model wants of a row. */
typedef struct d2c_row_shape {
    int size;                    /* images are ADM-cropped to size x size */
    int channels;                /* 1 or 3, or a latent's */
    float latent_scale;          /* 0: images; else rows have latents, a draw of which is multiplied by it */
    int64_t classes;             /* labels are below this */
    int text_tokens, text_width; /* 0: no text */
    int visual_tokens, visual_width; /* 0: no features; the first tokens of what the row has */
} d2c_row_shape;

/* The buffers have the shape's sizes and belong to whoever made the row. */
typedef struct d2c_row {
    char *id;              /* [D2C_ID_LIMIT + 1] */
    int64_t number, label; /* number: what Philox takes for the id */
    uint8_t *pixels;       /* [size, size, channels]; of images */
    float *latent;         /* [2, channels, size, size]: mean, standard deviation; of latents */
    float *text;           /* [text_tokens, text_width] */
    float *mask;           /* [text_tokens] */
    uint16_t *visual;      /* f16 [visual_tokens, visual_width] */
} d2c_row;

/* Numbers of what a network takes, bytes of pixels, numbers of a latent, of a text, of features. */
size_t d2c_row_pixels(const d2c_row_shape *shape);
size_t d2c_row_image(const d2c_row_shape *shape);
size_t d2c_row_latent(const d2c_row_shape *shape);
size_t d2c_row_text(const d2c_row_shape *shape);
size_t d2c_row_visual(const d2c_row_shape *shape);

d2c_status d2c_row_allocate(d2c_row *row, const d2c_row_shape *shape, d2c_error *err);
void d2c_row_free(d2c_row *row);

/* Fills the row from the fields of d2c_table_copy's statement; the error names the row. */
d2c_status d2c_row_decode(d2c_row *row, const d2c_row_shape *shape, const d2c_field fields[D2C_TABLE_COLUMNS],
                          d2c_error *err);

/* A text condition: embedding [tokens, width] and its mask [tokens], from tensors of exactly those shapes. */
d2c_status d2c_text_read(float *text, float *mask, const d2c_field *embedding, const d2c_field *mask_field,
                         int tokens, int width, d2c_error *err);

/* A hash of a text condition, for finding equal ones; never 0. */
uint64_t d2c_text_hash(const float *text, const float *mask, const d2c_row_shape *shape);

#endif
