/* preview.c: what a training shows of itself: samples, their distance to the training images, a held-out loss. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "image/image.h"
#include "nn/model.h"
#include "nn/sampler.h"
#include "train/cache.h"
#include "train/generate.h"
#include "train/retry.h"
#include "train/together.h"

#define HEUN_STEPS 25         /* of a velocity */
#define ANCESTRAL_STEPS 50    /* of a DiT, which has no other sampler: as many passes */
#define VALIDATION_BATCHES 16 /* at most */

struct d2c_preview {
    int count;
    int64_t label[D2C_PREVIEW_SAMPLES];
    uint64_t seed[D2C_PREVIEW_SAMPLES];
    d2c_table *validation; /* the held-out rows; NULL: none */
    d2c_cache *held_out;
    d2c_row_shape shape; /* of its rows: visual features are not needed, the batch has zeroes */
    d2c_batch batch;
    d2c_model *vae; /* decodes samples that are latents; NULL: they are pictures, or there is none */
    d2c_scratch scratch;
    d2c_backend *be; /* that has both */
};

/* ---- held-out loss --------------------------------------------------------------------------------------------- */

typedef struct held_out_work {
    d2c_preview *preview;
    d2c_train *train;
} held_out_work;

static d2c_status
read_held_out(void *closure, PGconn *connection, d2c_error *err)
{
    d2c_preview *preview = ((held_out_work *)closure)->preview;
    d2c_train *train = ((held_out_work *)closure)->train;
    const d2c_train_setting *setting = train->setting;
    d2c_table_setting table = setting->table;

    preview->shape = train->shape;
    preview->shape.visual_tokens = preview->shape.visual_width = 0;
    table.table = NULL;
    table.query = setting->validation_query;
    table.selection = NULL;
    table.id = train->table->id_name;
    table.label = train->table->label_name;
    table.image = train->table->image_name;
    table.text = train->shape.text_tokens == 0 ? "off" : table.text != NULL ? table.text : "text_embedding";
    table.visual = "off";
    table.latent = !train->table->latents ? "off" : table.latent != NULL ? table.latent : "latent";
    table.content = 0;
    d2c_table_close(preview->validation);
    D2C_TRY(d2c_table_open(&preview->validation, connection, &table, err));
    if (preview->validation->rows < setting->batch)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "--validation-query gives %" PRId64 " rows, less than one batch",
                        preview->validation->rows);
    D2C_TRY(d2c_cache_open(&preview->held_out, connection, preview->validation, &preview->shape, SIZE_MAX,
                           (int)setting->threads, err));
    return d2c_batch_allocate(&preview->batch, &train->shape, (int)train->share.rows, err);
}

/* The denoising loss on the held-out rows, always with the same times and noise: those of epoch 0. */
static d2c_status
held_out_loss(d2c_preview *preview, d2c_train *train, double *loss, d2c_error *err)
{
    int64_t batches = preview->validation->rows / train->share.batch, b;
    uint64_t seed = (uint64_t)train->setting->seed;

    batches = batches < VALIDATION_BATCHES ? batches : VALIDATION_BATCHES;
    *loss = 0;
    for (b = 0; b < batches; b++) {
        d2c_step_result result;
        int place;

        d2c_batch_clear(&preview->batch, &preview->shape, b);
        for (place = 0; place < preview->batch.size; place++) {
            d2c_row row;

            D2C_TRY(d2c_cache_row(preview->held_out, &row, seed, 0,
                                  b * train->share.batch + train->share.first + place, err));
            d2c_batch_put(&preview->batch, place, &row, seed, 0, &preview->shape);
        }
        D2C_TRY(d2c_stepper_measure(train->stepper, &result, &preview->batch, err));
        *loss += result.denoise / (double)batches;
    }
    return D2C_OK;
}

/* ---- samples --------------------------------------------------------------------------------------------------- */

/* The picture that a sample is or stands for. */
static d2c_status
picture_of(d2c_preview *preview, const d2c_train *train, d2c_image *image, float *x, d2c_error *err)
{
    const d2c_row_shape *shape = &train->shape;

    if (preview->vae != NULL)
        return d2c_picture_of_latent(image, preview->vae->network, train->be, &preview->scratch,
                                     &train->config, x, shape->latent_scale, err);
    D2C_TRY(d2c_image_allocate(image, shape->size, shape->size, shape->channels, err));
    d2c_round_to_bytes(image, x, train->config.kind);
    return D2C_OK;
}

static d2c_status
draw_samples(d2c_preview *preview, d2c_train *train, d2c_image *image, d2c_error *err)
{
    const d2c_row_shape *shape = &train->shape;
    int dit = train->config.kind == D2C_SIT_KIND_DIT;
    d2c_sampler sampler = {.kind = dit ? D2C_SAMPLER_ANCESTRAL : D2C_SAMPLER_HEUN,
                           .steps = dit ? ANCESTRAL_STEPS : HEUN_STEPS,
                           .guidance = 1,
                           .guide_to = 1};
    float *x = malloc((size_t)preview->count * d2c_row_pixels(shape) * sizeof(float));
    d2c_sit *plain = NULL;
    d2c_status status = x != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    int i;

    if (status == D2C_OK)
        status = d2c_publish_network(train, &plain, err);
    if (status == D2C_OK)
        status = d2c_sample(x, plain, train->be, &sampler, preview->count, preview->label, preview->seed,
                            preview->count, NULL, NULL, err);
    for (i = 0; i < preview->count && status == D2C_OK; i++)
        status = picture_of(preview, train, &image[i], x + (size_t)i * d2c_row_pixels(shape), err);
    if (plain != NULL)
        d2c_sit_destroy(plain, train->be);
    free(x);
    return status;
}

static d2c_status
write_grid(d2c_train *train, const d2c_image *image, int count, d2c_error *err)
{
    d2c_sheet sheet = {.columns = 10, .edge = d2c_sheet_edge(image), .count = count, .image = image};
    char path[D2C_RUN_PATH + 64];
    uint8_t *png;
    size_t length;
    d2c_status status = d2c_contact_sheet_png(&png, &length, &sheet, err);

    snprintf(path, sizeof path, "%s/samples", train->folder);
    if (status == D2C_OK)
        status = d2c_make_directory(path, err);
    snprintf(path, sizeof path, "%s/samples/%07" PRId64 ".png", train->folder, train->position.step);
    if (status == D2C_OK)
        status = d2c_file_write(path, png, length, err);
    if (status == D2C_OK)
        d2c_report_grid(train, png, length);
    free(png);
    return status;
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median over the samples of the root mean square distance, in units of the pixel range, to the nearest of the rows. */
static double
nearest_distance(const d2c_image *image, int count, const uint8_t *rows, int64_t row_count, size_t pixels,
                 int threads)
{
    double distance[D2C_PREVIEW_SAMPLES];
    int i;

#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i = 0; i < count; i++) {
        uint64_t best = UINT64_MAX;
        int64_t row;
        size_t p;

        for (row = 0; row < row_count; row++) {
            const uint8_t *other = rows + (size_t)row * pixels;
            uint64_t sum = 0;

            for (p = 0; p < pixels; p++) {
                int difference = (int)image[i].pixels[p] - (int)other[p];

                sum += (uint64_t)(difference * difference);
            }
            best = sum < best ? sum : best;
        }
        distance[i] = sqrt((double)best / (double)pixels) / 255;
    }
    qsort(distance, (size_t)count, sizeof *distance, compare_doubles);
    return (distance[(count - 1) / 2] + distance[count / 2]) / 2;
}

static d2c_status
show_samples(d2c_preview *preview, d2c_train *train, d2c_report *report, d2c_error *err)
{
    d2c_image image[D2C_PREVIEW_SAMPLES] = {0};
    int64_t rows = 0;
    const uint8_t *pixels = d2c_loader_pixels(train->loader, &rows);
    d2c_status status = draw_samples(preview, train, image, err);
    int i;

    if (status == D2C_OK)
        status = write_grid(train, image, preview->count, err);
    if (status == D2C_OK && pixels != NULL && !train->table->latents) {
        report->with_nearest = 1;
        report->nearest = nearest_distance(image, preview->count, pixels, rows, d2c_row_pixels(&train->shape),
                                           (int)train->setting->threads);
    }
    for (i = 0; i < preview->count; i++)
        d2c_image_free(&image[i]);
    return status;
}

/* What decodes latents: the autoencoder that made them, when it is named. */
static d2c_status
open_vae(d2c_preview *preview, const d2c_train *train, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;
    const d2c_vae *vae;
    int factor;

    preview->be = train->be;
    if (setting->vae == NULL) {
        d2c_notice(train, "no sample grids: --vae names no autoencoder that would decode latents");
        return D2C_OK;
    }
    D2C_TRY(d2c_model_open(&preview->vae, train->be, setting->model_directory, setting->vae, train->precision,
                           err));
    if (preview->vae->info.role != D2C_ROLE_AUTOENCODER)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "model \"%s\" is no autoencoder", setting->vae);
    vae = preview->vae->network;
    factor = d2c_vae_factor(&vae->config);
    return d2c_vae_size_check(&vae->config, (int64_t)train->config.height * factor,
                              (int64_t)train->config.width * factor, err);
}

/* ---- the interface --------------------------------------------------------------------------------------------- */

d2c_status
d2c_preview_open(d2c_preview **preview, d2c_train *train, d2c_error *err)
{
    d2c_preview *made = calloc(1, sizeof *made);
    d2c_patience patience = {(int)train->setting->retries, train->events.stop, 0};
    held_out_work work = {made, train};
    d2c_status status = D2C_OK;
    int i;

    *preview = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->count = D2C_PREVIEW_SAMPLES;
    for (i = 0; i < D2C_PREVIEW_SAMPLES; i++) {
        made->label[i] = i % train->config.classes;
        made->seed[i] = (uint64_t)i;
    }
    if (train->table->latents && d2c_train_speaks(train))
        status = open_vae(made, train, err);
    if (status == D2C_OK && train->setting->validation_query != NULL)
        status = d2c_retry(train->setting->conninfo, patience, read_held_out, &work, err);
    if (status == D2C_OK)
        *preview = made;
    else
        d2c_preview_close(made);
    return status;
}

void
d2c_preview_close(d2c_preview *preview)
{
    if (preview == NULL)
        return;
    d2c_cache_close(preview->held_out);
    d2c_table_close(preview->validation);
    d2c_batch_free(&preview->batch);
    if (preview->vae != NULL) {
        d2c_model_close(preview->vae, preview->be);
        d2c_scratch_free(&preview->scratch, preview->be);
    }
    free(preview);
}

d2c_status
d2c_preview_run(d2c_preview *preview, d2c_train *train, d2c_report *report, d2c_error *err)
{
    if (preview->held_out != NULL) {
        report->with_validation = 1;
        D2C_TRY(held_out_loss(preview, train, &report->validation, err));
    }
    if (d2c_publish_obstacle(train) != NULL || !d2c_train_speaks(train) ||
        (train->table->latents && preview->vae == NULL))
        return D2C_OK;
    return d2c_report_missing(train, show_samples(preview, train, report, err), "samples", err);
}
