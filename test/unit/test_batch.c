/* test_batch.c: rows into batches: decoding, crops, texts that are shared, positions; and the schedule of a step. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "image/image.h"
#include "train/loader.h"
#include "train/schedule.h"

static const d2c_row_shape shape = {.size = 4,
                                    .channels = 1,
                                    .classes = 3,
                                    .text_tokens = 2,
                                    .text_width = 2,
                                    .visual_tokens = 2,
                                    .visual_width = 1};

/* The fields of one row: a PNG of one grey, a text [2, 2] and its mask, features [3, 1] of which two are wanted. */
typedef struct row_bytes {
    uint8_t label[8], *png;
    size_t png_length;
    uint8_t text[12 + 16], mask[8 + 2], visual[12 + 6];
    d2c_field field[D2C_TABLE_COLUMNS];
} row_bytes;

static void
make_row(row_bytes *row, const char *id, int label, int grey, float first)
{
    static const uint8_t text[12] = {1, D2C_F32, 2, 0, 0, 0, 0, 2, 0, 0, 0, 2};
    static const uint8_t mask[10] = {1, D2C_U8, 1, 0, 0, 0, 0, 2, 1, 0};
    static const uint8_t visual[18] = {1, D2C_F16, 2, 0,    0,    0,    0,    3, 0,
                                       0, 0,       1, 0x00, 0x3c, 0x00, 0xbc, 0, 0x40};
    float values[4] = {first, 2, 3, 4};
    d2c_image image = {0};
    d2c_error err;

    memset(row, 0, sizeof *row);
    CHECK_OK(d2c_image_allocate(&image, 6, 4, 1, &err), &err);
    memset(image.pixels, grey, 24);
    CHECK_OK(d2c_image_encode_png(&row->png, &row->png_length, &image, &err), &err);
    d2c_image_free(&image);
    row->label[7] = (uint8_t)label;
    memcpy(row->text, text, sizeof text);
    memcpy(row->text + 12, values, sizeof values);
    memcpy(row->mask, mask, sizeof mask);
    memcpy(row->visual, visual, sizeof visual);
    row->field[0] = (d2c_field){(const uint8_t *)id, (int)strlen(id)};
    row->field[1] = (d2c_field){row->label, 8};
    row->field[2] = (d2c_field){row->png, (int)row->png_length};
    row->field[3] = (d2c_field){row->text, sizeof row->text};
    row->field[4] = (d2c_field){row->mask, sizeof row->mask};
    row->field[5] = (d2c_field){row->visual, sizeof row->visual};
}

static void
put(d2c_batch *batch, int place, const char *id, int label, int grey, float first, int64_t epoch)
{
    row_bytes bytes;
    d2c_row row;
    d2c_error err;

    make_row(&bytes, id, label, grey, first);
    CHECK_OK(d2c_row_allocate(&row, &shape, &err), &err);
    CHECK_OK(d2c_row_decode(&row, &shape, bytes.field, &err), &err);
    d2c_batch_put(batch, place, &row, 1, epoch, &shape);
    d2c_row_free(&row);
    free(bytes.png);
}

static void
rows_become_a_batch(void)
{
    d2c_batch batch;
    d2c_error err;

    CHECK_OK(d2c_batch_allocate(&batch, &shape, 3, &err), &err);
    d2c_batch_clear(&batch, &shape, 9);
    put(&batch, 0, "17", 2, 255, 1, 4);
    put(&batch, 1, "-5", 0, 0, 7, 4);
    put(&batch, 2, "18", 2, 51, 1, 5);
    CHECK(batch.step == 9);
    CHECK(batch.label[0] == 2 && batch.label[1] == 0 && batch.label[2] == 2);
    CHECK(batch.number[0] == 17 && batch.number[1] == -5 && strcmp(batch.id[2], "18") == 0);
    CHECK(batch.epoch[1] == 4 && batch.epoch[2] == 5);
    CHECK(batch.x[0] == 1.0f && batch.x[16] == -1.0f && batch.x[32] == 51 / 127.5f - 1);
    CHECK(batch.text_index[0] == 1 && batch.text_index[1] == 2 && batch.text_index[2] == 1);
    CHECK(batch.texts == 8);
    CHECK(batch.text[0] == 0 && batch.text[4] == 1 && batch.text[8] == 7 && batch.text[12] == 0);
    CHECK(batch.text_mask[0] == 0 && batch.text_mask[2] == 1 && batch.text_mask[3] == 0);
    CHECK(batch.visual[0] == 0x3c00 && batch.visual[1] == 0xbc00 && batch.visual[2] == 0x3c00);
    d2c_batch_clear(&batch, &shape, 10);
    put(&batch, 0, "19", 1, 0, 9, 5);
    CHECK(batch.text_index[0] == 1 && batch.text[4] == 9 && batch.text[8] == 0);
    d2c_batch_free(&batch);
}

/* The normals are those of test/golden/philox.py: normals(3, 4, 17, 5, 4), of which the purpose is the second. */
static void
a_latent_is_drawn(void)
{
    static const d2c_row_shape latents = {.size = 2, .channels = 1, .classes = 1, .latent_scale = 0.5f};
    static const double normal[4] = {0.424731463, -0.393013954, 0.320649981, 1.38796723};
    float latent[8] = {1, 2, 3, -4, 0.5f, 0, 2, 1};
    d2c_row row = {.id = (char[]){"17"}, .number = 17, .latent = latent};
    d2c_batch batch;
    d2c_error err;
    int i;

    CHECK_OK(d2c_batch_allocate(&batch, &latents, 2, &err), &err);
    d2c_batch_clear(&batch, &latents, 0);
    d2c_batch_put(&batch, 0, &row, 3, 4, &latents);
    d2c_batch_put(&batch, 1, &row, 3, 5, &latents);
    for (i = 0; i < 4; i++)
        CHECK(fabs(batch.x[4 + i] - 0.5 * (latent[i] + latent[4 + i] * normal[i])) < 1e-6);
    CHECK(batch.x[0] != batch.x[4] && batch.x[1] == 1.0f);
    d2c_batch_free(&batch);
}

/* The row is mirrored, its neighbours are not. */
static void
a_row_is_mirrored(void)
{
    static const d2c_row_shape odd = {.size = 3, .channels = 3, .classes = 1};
    d2c_batch batch;
    d2c_error err;
    int i;

    CHECK_OK(d2c_batch_allocate(&batch, &odd, 3, &err), &err);
    for (i = 0; i < 81; i++)
        batch.x[i] = (float)i;
    d2c_batch_mirror(&batch, 1, &odd);
    for (i = 0; i < 81; i++)
        CHECK(batch.x[i] == (float)(i / 27 == 1 ? i + 2 - 2 * (i % 3) : i));
    d2c_batch_free(&batch);
}

/* Half of the rows are mirrored, which ones differs from epoch to epoch and from seed to seed. */
static void
half_of_the_rows_flip(void)
{
    int flipped = 0, other_epoch = 0, other_seed = 0, i;

    for (i = 0; i < 4000; i++) {
        int flips = d2c_row_flips(1, i, 0);

        flipped += flips;
        other_epoch += flips != d2c_row_flips(1, i, 1);
        other_seed += flips != d2c_row_flips(2, i, 0);
    }
    CHECK(abs(flipped - 2000) < 130 && abs(other_epoch - 2000) < 130 && abs(other_seed - 2000) < 130);
}

/* As many texts as rows, and the zero text, fit. */
static void
texts_of_their_own(void)
{
    d2c_batch batch;
    d2c_error err;
    char id[16];
    int i;

    CHECK_OK(d2c_batch_allocate(&batch, &shape, 23, &err), &err);
    CHECK(d2c_batch_text_limit(23) == 24 && d2c_batch_text_limit(24) == 32);
    d2c_batch_clear(&batch, &shape, 0);
    for (i = 0; i < 23; i++) {
        snprintf(id, sizeof id, "%d", i);
        put(&batch, i, id, 0, 0, (float)i, 0);
    }
    CHECK(batch.texts == 24 && batch.text_index[22] == 23 && batch.text[4 * 23] == 22);
    d2c_batch_free(&batch);
}

/* Decodes a damaged row; its message. */
static const char *
refusal(row_bytes *bytes, d2c_error *err)
{
    d2c_row row;
    d2c_status status;

    CHECK_OK(d2c_row_allocate(&row, &shape, err), err);
    status = d2c_row_decode(&row, &shape, bytes->field, err);
    CHECK(status == D2C_BAD_DATA || status == D2C_NOT_FINITE || status == D2C_UNSUPPORTED);
    d2c_row_free(&row);
    return err->message;
}

static void
bad_rows_are_named(void)
{
    static const uint8_t nan[4] = {0, 0, 0xc0, 0x7f};
    row_bytes bytes, bad;
    d2c_error err;
    int column;

    make_row(&bytes, "a1", 1, 9, 1);
    for (column = 1; column < D2C_TABLE_COLUMNS; column++) {
        bad = bytes;
        bad.field[column].length = -1;
        CHECK(strncmp(refusal(&bad, &err), "row a1: ", 8) == 0);
        bad.field[column].length = bytes.field[column].length - 1;
        CHECK(strncmp(refusal(&bad, &err), "row a1: ", 8) == 0);
    }
    bad = bytes;
    bad.label[7] = 3;
    bad.field[1].data = bad.label;
    CHECK(strcmp(refusal(&bad, &err), "row a1: label 3 is out of range") == 0);
    bad = bytes;
    memcpy(bad.text + 16, nan, 4);
    bad.field[3].data = bad.text;
    CHECK(strcmp(refusal(&bad, &err), "row a1: the text embedding holds a value that is not finite") == 0);
    bad = bytes;
    bad.visual[13] = 0x7c;
    bad.field[5].data = bad.visual;
    CHECK(strcmp(refusal(&bad, &err),
                 "row a1: the visual embedding holds a value that is not finite as f16") == 0);
    bad = bytes;
    bad.field[5] = bytes.field[3];
    CHECK(strcmp(refusal(&bad, &err),
                 "row a1: the visual embedding does not have the shape that is needed") == 0);
    free(bytes.png);
}

static void
schedule(void)
{
    d2c_schedule s = {.learning_rate = 0.5,
                      .warmup_steps = 10,
                      .beta1 = 0.9,
                      .beta2 = 0.99,
                      .ema_decay = 0.9999,
                      .ema_warmup = 1,
                      .max_grad_norm = 2,
                      .batch = 4};
    d2c_step_record record;

    d2c_schedule_record(&record, &s, 1);
    CHECK_NEAR(record.learning_rate, 0.05, 1e-8);
    CHECK_NEAR(record.bias_correction1, 0.1, 1e-7);
    CHECK_NEAR(record.bias_correction2, 0.01, 1e-8);
    CHECK_NEAR(record.ema_decay, 2.0 / 11, 1e-7);
    CHECK(record.max_grad_norm == 2 && record.loss_scale == 0.25f && record.loss == 0);
    d2c_schedule_record(&record, &s, 10);
    CHECK(record.learning_rate == 0.5f);
    CHECK_NEAR(record.bias_correction2, 1 - 0.904382075, 1e-7);
    d2c_schedule_record(&record, &s, 1000000);
    CHECK(record.ema_decay == 0.9999f);
    s.ema_warmup = 0;
    d2c_schedule_record(&record, &s, 1);
    CHECK(record.ema_decay == 0.9999f);
}

int
main(void)
{
    RUN(rows_become_a_batch);
    RUN(a_latent_is_drawn);
    RUN(a_row_is_mirrored);
    RUN(half_of_the_rows_flip);
    RUN(texts_of_their_own);
    RUN(bad_rows_are_named);
    RUN(schedule);
    return check_report();
}
