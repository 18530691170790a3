/* generate.c: samples on several threads, or on one device. */
#define _GNU_SOURCE
#include "train/generate.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn/model.h"
#include "nn/vae_choice.h"
#include "ops/backend.h"

#define GPU_BATCH 64 /* images a pass: enough rows for products to be at their best */

struct d2c_generator {
    int threads, batch;
    int padded;       /* a pass always has `batch` images */
    d2c_backend **be; /* [threads] */
    d2c_model *model;
    d2c_model *vae;       /* or NULL: the model makes pictures */
    d2c_scratch *scratch; /* [threads] of the autoencoder */
};

/* Splits "folder/NAME.safetensors", or "folder/NAME", into a model's directory and name. */
static d2c_status
split_path(char **directory, char **name, const char *path, d2c_error *err)
{
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    size_t length = d2c_model_file_name(base);

    *directory = slash == NULL ? strdup(".") : strndup(path, slash > path ? (size_t)(slash - path) : 1);
    *name = strndup(base, length > 0 ? length : strlen(base));
    return *directory != NULL && *name != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

/* The device is chosen with the first backend; a GPU has no other. */
static d2c_status
open_backends(d2c_generator *generator, const d2c_generator_setting *setting, char *notice, size_t size,
              d2c_error *err)
{
    int threads = setting->threads > 0 ? setting->threads : (int)sysconf(_SC_NPROCESSORS_ONLN), i;
    const char *device;

    generator->be = calloc((size_t)threads, sizeof *generator->be);
    if (generator->be == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    D2C_TRY(d2c_backend_choose(&generator->be[0], &device, notice, size, setting->device, "cuda:0", 1, err));
    generator->padded = d2c_backend_is_asynchronous(generator->be[0]);
    generator->threads = generator->padded ? 1 : threads;
    generator->batch = setting->batch > 0 ? setting->batch : generator->padded ? GPU_BATCH : 1;
    for (i = 1; i < generator->threads; i++)
        D2C_TRY(d2c_backend_open(&generator->be[i], device, 1, err));
    return D2C_OK;
}

static d2c_status
choose_precision(d2c_dtype *dtype, const char *precision, const d2c_backend *be, d2c_error *err)
{
    int bf16 = strcmp(precision, "bf16") == 0;

    if (!bf16 && strcmp(precision, "no") != 0 && strcmp(precision, "auto") != 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --mixed-precision: \"%s\"", precision);
    if (bf16 && !be->has_bf16)
        return d2c_fail(err, D2C_UNSUPPORTED, "this machine has no bf16 arithmetic");
    *dtype = bf16 || (precision[0] == 'a' && be->has_bf16) ? D2C_BF16 : D2C_F32;
    return D2C_OK;
}

/* Only a class-conditional denoiser can be sampled. */
static d2c_status
check_model(const d2c_model *model, d2c_error *err)
{
    const d2c_sit *sit = d2c_model_sit(model);

    if (sit == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "model \"%s\" is no diffusion model", model->info.name);
    if (sit->config.text_tokens > 0) {
        d2c_fail(err, D2C_UNSUPPORTED, "model \"%s\" has a text condition", model->info.name);
        d2c_hint(err, "Sample from the plain model that d2c train writes beside its checkpoints.");
        return D2C_UNSUPPORTED;
    }
    return D2C_OK;
}

/* What decodes the model's latents. */
static d2c_status
open_vae(d2c_generator *generator, const char *directory, const char *said, d2c_dtype precision,
         d2c_error *err)
{
    const d2c_model *model = generator->model;
    d2c_model_name name;

    if (said != NULL)
        snprintf(name, sizeof name, "%s", said);
    else
        D2C_TRY(d2c_vae_choose(name, model, directory, err));
    D2C_TRY(d2c_model_open(&generator->vae, generator->be[0], directory, name, precision, err));
    if (generator->vae->info.role != D2C_ROLE_AUTOENCODER)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "model \"%s\" is no autoencoder", name);
    D2C_TRY(d2c_vae_check_fits(generator->vae, model->info.name, model->info.channels, err));
    generator->scratch = calloc((size_t)generator->threads, sizeof *generator->scratch);
    return generator->scratch != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

static d2c_status
open_models(d2c_generator *generator, const char *directory, const char *name, const char *vae,
            d2c_dtype precision, d2c_error *err)
{
    D2C_TRY(d2c_model_open(&generator->model, generator->be[0], directory, name, precision, err));
    D2C_TRY(check_model(generator->model, err));
    if (vae == NULL && !d2c_takes_latents(generator->model))
        return D2C_OK;
    return open_vae(generator, directory, vae, precision, err);
}

static d2c_status
find_models(d2c_generator *generator, const d2c_generator_setting *setting, d2c_dtype precision,
            d2c_error *err)
{
    char *folder = NULL, *name = NULL;
    d2c_status status;

    if (setting->directory != NULL)
        return open_models(generator, setting->directory, setting->model, setting->vae, precision, err);
    status = split_path(&folder, &name, setting->model, err);
    if (status == D2C_OK)
        status = open_models(generator, folder, name, setting->vae, precision, err);
    free(folder);
    free(name);
    return status;
}

d2c_status
d2c_generator_open(d2c_generator **generator, const d2c_generator_setting *setting, char *notice, size_t size,
                   d2c_error *err)
{
    d2c_generator *made = calloc(1, sizeof *made);
    d2c_dtype dtype = D2C_F32;
    d2c_status status;

    *generator = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = open_backends(made, setting, notice, size, err);
    if (status == D2C_OK)
        status = choose_precision(&dtype, setting->precision, made->be[0], err);
    if (status == D2C_OK)
        status = find_models(made, setting, dtype, err);
    if (status == D2C_OK)
        *generator = made;
    else
        d2c_generator_close(made);
    return status;
}

void
d2c_generator_close(d2c_generator *generator)
{
    int i;

    if (generator == NULL)
        return;
    if (generator->model != NULL)
        d2c_model_close(generator->model, generator->be[0]);
    if (generator->vae != NULL)
        d2c_model_close(generator->vae, generator->be[0]);
    for (i = 0; generator->scratch != NULL && i < generator->threads; i++)
        d2c_scratch_free(&generator->scratch[i], generator->be[i]);
    free(generator->scratch);
    for (i = 0; generator->be != NULL && i < generator->threads; i++)
        if (generator->be[i] != NULL)
            d2c_backend_close(generator->be[i]);
    free(generator->be);
    free(generator);
}

const d2c_sit_config *
d2c_generator_config(const d2c_generator *generator)
{
    return &d2c_model_sit(generator->model)->config;
}

void
d2c_generator_size(const d2c_generator *generator, int *width, int *height)
{
    const d2c_sit_config *config = d2c_generator_config(generator);
    int factor =
        generator->vae != NULL ? d2c_vae_factor(&((const d2c_vae *)generator->vae->network)->config) : 1;

    *width = config->width * factor;
    *height = config->height * factor;
}

int
d2c_generator_chunk(const d2c_generator *generator)
{
    return generator->batch * generator->threads;
}

/* A pass's images: `count` are wanted, those behind repeat the last one. */
typedef struct pass {
    int count, rows;
    float *x; /* [rows, elements] */
    int64_t *label;
    uint64_t *seed; /* [rows] */
} pass;

static d2c_status
fill_pass(pass *p, size_t elements, const int64_t *labels, const uint64_t *seeds, d2c_error *err)
{
    int i;

    p->x = malloc((size_t)p->rows * elements * sizeof *p->x);
    p->label = malloc((size_t)p->rows * sizeof *p->label);
    p->seed = malloc((size_t)p->rows * sizeof *p->seed);
    if (p->x == NULL || p->label == NULL || p->seed == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for %d samples", p->rows);
    for (i = 0; i < p->rows; i++) {
        p->label[i] = labels[i < p->count ? i : p->count - 1];
        p->seed[i] = seeds[i < p->count ? i : p->count - 1];
    }
    return D2C_OK;
}

void
d2c_round_to_bytes(d2c_image *image, const float *x, d2c_sit_kind kind)
{
    if (kind == D2C_SIT_KIND_REPA)
        d2c_image_from_planes_down(image, x);
    else
        d2c_image_from_planes(image, x);
}

d2c_status
d2c_picture_of_latent(d2c_image *image, const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch,
                      const d2c_sit_config *config, float *x, float scale, d2c_error *err)
{
    int factor = d2c_vae_factor(&vae->config);
    size_t count = (size_t)config->channels * (size_t)config->height * (size_t)config->width, i;
    d2c_status status;
    float *pixels;

    D2C_TRY(d2c_image_allocate(image, config->width * factor, config->height * factor,
                               vae->config.out_channels, err));
    pixels = malloc((size_t)image->width * (size_t)image->height * (size_t)image->channels * sizeof *pixels);
    if (pixels == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < count; i++)
        x[i] /= scale;
    status = d2c_vae_decode(vae, be, scratch, pixels, x, config->height, config->width, err);
    if (status == D2C_OK)
        d2c_round_to_bytes(image, pixels, config->kind);
    free(pixels);
    return status;
}

/* The image that the model's x is or stands for. */
static d2c_status
picture_of(const d2c_generator *generator, int thread, d2c_image *image, float *x, d2c_error *err)
{
    const d2c_sit_config *config = d2c_generator_config(generator);

    if (generator->vae != NULL) {
        const d2c_vae *vae = generator->vae->network;

        return d2c_picture_of_latent(image, vae, generator->be[thread], &generator->scratch[thread], config,
                                     x, vae->config.scaling_factor, err);
    }
    D2C_TRY(d2c_image_allocate(image, config->width, config->height, config->channels, err));
    d2c_round_to_bytes(image, x, config->kind);
    return D2C_OK;
}

/* One unit of work: `count` images in one pass on one backend. */
static d2c_status
generate_unit(d2c_generator *generator, int thread, d2c_image *image, const d2c_sampler *sampler, int count,
              const int64_t *labels, const uint64_t *seeds, d2c_error *err)
{
    const d2c_sit_config *config = d2c_generator_config(generator);
    size_t elements = (size_t)config->channels * (size_t)config->height * (size_t)config->width;
    pass p = {.count = count, .rows = generator->padded ? generator->batch : count};
    d2c_status status = fill_pass(&p, elements, labels, seeds, err);
    int i;

    if (status == D2C_OK)
        status = d2c_sample(p.x, d2c_model_sit(generator->model), generator->be[thread], sampler, p.rows,
                            p.label, p.seed, p.rows, NULL, NULL, err);
    for (i = 0; i < count && status == D2C_OK; i++)
        status = picture_of(generator, thread, &image[i], p.x + (size_t)i * elements, err);
    free(p.x);
    free(p.label);
    free(p.seed);
    return status;
}

d2c_status
d2c_generate(d2c_generator *generator, d2c_image *image, const d2c_sampler *sampler, int n,
             const int64_t *labels, const uint64_t *seeds, d2c_error *err)
{
    d2c_status worst = D2C_OK;
    int batch = generator->batch, start, i;

    memset(image, 0, (size_t)n * sizeof *image);
#pragma omp parallel for num_threads(generator->threads) schedule(dynamic, 1)
    for (start = 0; start < n; start += batch) {
        int count = n - start < batch ? n - start : batch;
        d2c_error error;
        d2c_status status = generate_unit(generator, omp_get_thread_num(), image + start, sampler, count,
                                          labels + start, seeds + start, &error);

#pragma omp critical(d2c_generate_error)
        if (status != D2C_OK && worst == D2C_OK) {
            worst = status;
            if (err != NULL)
                *err = error;
        }
    }
    for (i = 0; i < n && worst != D2C_OK; i++)
        d2c_image_free(&image[i]);
    return worst;
}
