/* batch.c: the memory of a batch, and a row's place in it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "image/image.h"
#include "train/loader.h"

int
d2c_batch_text_limit(int size)
{
    return (size + 1 + 7) / 8 * 8;
}

d2c_status
d2c_batch_allocate(d2c_batch *batch, const d2c_row_shape *shape, int size, d2c_error *err)
{
    size_t rows = (size_t)size, texts = shape->text_tokens > 0 ? (size_t)d2c_batch_text_limit(size) : 1;

    memset(batch, 0, sizeof *batch);
    batch->size = size;
    batch->x = calloc(rows, d2c_row_pixels(shape) * sizeof(float));
    batch->label = calloc(rows, sizeof(int64_t));
    batch->number = calloc(rows, sizeof(int64_t));
    batch->epoch = calloc(rows, sizeof(int64_t));
    batch->text = calloc(texts, d2c_row_text(shape) * sizeof(float) + 1);
    batch->text_mask = calloc(texts, (size_t)shape->text_tokens * sizeof(float) + 1);
    batch->text_index = calloc(rows, sizeof(int64_t));
    batch->text_hash = calloc(texts, sizeof(uint64_t));
    batch->visual = calloc(rows, d2c_row_visual(shape) * sizeof(uint16_t) + 1);
    batch->id = calloc(rows, sizeof *batch->id);
    if (batch->x != NULL && batch->label != NULL && batch->number != NULL && batch->epoch != NULL &&
        batch->text != NULL && batch->text_mask != NULL && batch->text_index != NULL &&
        batch->text_hash != NULL && batch->visual != NULL && batch->id != NULL)
        return D2C_OK;
    d2c_batch_free(batch);
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a batch of %d rows", size);
}

void
d2c_batch_free(d2c_batch *batch)
{
    free(batch->x);
    free(batch->label);
    free(batch->number);
    free(batch->epoch);
    free(batch->text);
    free(batch->text_mask);
    free(batch->text_index);
    free(batch->text_hash);
    free(batch->visual);
    free(batch->id);
    memset(batch, 0, sizeof *batch);
}

void
d2c_batch_clear(d2c_batch *batch, const d2c_row_shape *shape, int64_t step)
{
    size_t texts = (size_t)batch->texts;

    batch->step = step;
    batch->mixed_texts = 0;
    memset(batch->text, 0, texts * d2c_row_text(shape) * sizeof(float));
    memset(batch->text_mask, 0, texts * (size_t)shape->text_tokens * sizeof(float));
    memset(batch->text_hash, 0, texts * sizeof(uint64_t));
    batch->texts = shape->text_tokens > 0 ? 8 : 0;
}

/* The index of the row's text among those of the batch.  Index 0 is the zero text; an index whose hash is 0
 * is free. */
static int64_t
place_text(d2c_batch *batch, const d2c_row *row, const d2c_row_shape *shape)
{
    size_t count = d2c_row_text(shape), length = (size_t)shape->text_tokens, i;
    uint64_t hash = d2c_text_hash(row->text, row->mask, shape);

    for (i = 1; i < (size_t)batch->texts && batch->text_hash[i] != 0; i++)
        if (batch->text_hash[i] == hash &&
            memcmp(batch->text + i * count, row->text, count * sizeof(float)) == 0 &&
            memcmp(batch->text_mask + i * length, row->mask, length * sizeof(float)) == 0)
            return (int64_t)i;
    batch->text_hash[i] = hash;
    memcpy(batch->text + i * count, row->text, count * sizeof(float));
    memcpy(batch->text_mask + i * length, row->mask, length * sizeof(float));
    if (i >= (size_t)batch->texts)
        batch->texts += 8;
    return (int64_t)i;
}

/* x [channels, size, size] = (mean + deviation * normal) * scale. */
static void
draw_latent(float *x, const d2c_row *row, uint64_t seed, int64_t epoch, const d2c_row_shape *shape)
{
    size_t count = d2c_row_pixels(shape), i;
    uint32_t stream = d2c_philox_stream(epoch, D2C_PURPOSE_POSTERIOR);
    float normal[4];

    for (i = 0; i < count; i++) {
        if (i % 4 == 0)
            d2c_philox_normal4(normal, d2c_philox(seed, (uint32_t)(i / 4), (uint64_t)row->number, stream));
        x[i] = fmaf(row->latent[count + i], normal[i % 4], row->latent[i]) * shape->latent_scale;
    }
}

void
d2c_batch_put(d2c_batch *batch, int place, const d2c_row *row, uint64_t seed, int64_t epoch,
              const d2c_row_shape *shape)
{
    d2c_image image = {shape->size, shape->size, shape->channels, row->pixels};
    size_t at = (size_t)place;

    if (shape->latent_scale > 0)
        draw_latent(batch->x + at * d2c_row_pixels(shape), row, seed, epoch, shape);
    else
        d2c_image_to_planes(batch->x + at * d2c_row_pixels(shape), &image, shape->channels);
    batch->label[at] = row->label;
    batch->number[at] = row->number;
    batch->epoch[at] = epoch;
    snprintf(batch->id[at], D2C_BATCH_ID, "%s", row->id);
    if (shape->text_tokens > 0)
        batch->text_index[at] = place_text(batch, row, shape);
    if (shape->visual_tokens > 0)
        memcpy(batch->visual + at * d2c_row_visual(shape), row->visual,
               d2c_row_visual(shape) * sizeof(uint16_t));
}

int
d2c_row_flips(uint64_t seed, int64_t number, int64_t epoch)
{
    d2c_philox_block block =
        d2c_philox(seed, 0, (uint64_t)number, d2c_philox_stream(epoch, D2C_PURPOSE_FLIP));

    return d2c_philox_uniform(block.w[0]) < 0.5f;
}

void
d2c_batch_mirror(d2c_batch *batch, int place, const d2c_row_shape *shape)
{
    float *line = batch->x + (size_t)place * d2c_row_pixels(shape);
    int lines = shape->channels * shape->size, i, j;

    for (i = 0; i < lines; i++, line += shape->size)
        for (j = 0; j < shape->size / 2; j++) {
            float left = line[j];

            line[j] = line[shape->size - 1 - j];
            line[shape->size - 1 - j] = left;
        }
}
