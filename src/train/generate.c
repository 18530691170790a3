/* generate.c: samples on several threads. */
#define _GNU_SOURCE
#include "train/generate.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn/model.h"

struct d2c_generator {
    int threads;
    d2c_backend **be; /* [threads] */
    d2c_model *model;
};

/* Splits "folder/NAME.safetensors" into a model's directory and name. */
static d2c_status
split_path(char **directory, char **name, const char *path, d2c_error *err)
{
    static const char suffix[] = ".safetensors";
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    size_t length = strlen(base);

    *directory = slash == NULL ? strdup(".") : strndup(path, slash > path ? (size_t)(slash - path) : 1);
    if (length > sizeof suffix - 1 && strcmp(base + length - (sizeof suffix - 1), suffix) == 0)
        length -= sizeof suffix - 1;
    *name = strndup(base, length);
    return *directory != NULL && *name != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

static d2c_status
open_backends(d2c_generator *generator, const char *device, d2c_error *err)
{
    int i;

    generator->be = calloc((size_t)generator->threads, sizeof *generator->be);
    if (generator->be == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < generator->threads; i++)
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

static d2c_status
open_model(d2c_generator *generator, const char *directory, const char *model, d2c_dtype precision,
           d2c_error *err)
{
    char *folder = NULL, *name = NULL;
    d2c_status status;

    if (directory != NULL)
        return d2c_model_open(&generator->model, generator->be[0], directory, model, precision, err);
    status = split_path(&folder, &name, model, err);
    if (status == D2C_OK)
        status = d2c_model_open(&generator->model, generator->be[0], folder, name, precision, err);
    free(folder);
    free(name);
    return status;
}

/* Only a class-conditional SiT can be sampled. */
static d2c_status
check_model(const d2c_generator *generator, d2c_error *err)
{
    const d2c_model *model = generator->model;

    if (model->info.kind != D2C_MODEL_SIT || model->sit == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "model \"%s\" is not a SiT", model->info.name);
    if (model->sit->config.text_tokens > 0) {
        d2c_fail(err, D2C_UNSUPPORTED, "model \"%s\" has a text condition", model->info.name);
        d2c_hint(err, "Sample from the plain model that d2c train writes beside its checkpoints.");
        return D2C_UNSUPPORTED;
    }
    if (model->sit->config.channels == 1 || model->sit->config.channels == 3)
        return D2C_OK;
    return d2c_fail(err, D2C_UNSUPPORTED, "model \"%s\" makes latents of %d channels, not images",
                    model->info.name, model->sit->config.channels);
}

d2c_status
d2c_generator_open(d2c_generator **generator, const char *directory, const char *model, const char *device,
                   const char *precision, int threads, d2c_error *err)
{
    d2c_generator *made = calloc(1, sizeof *made);
    d2c_dtype dtype = D2C_F32;
    d2c_status status;

    *generator = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->threads = threads > 0 ? threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    status = open_backends(made, device, err);
    if (status == D2C_OK)
        status = choose_precision(&dtype, precision, made->be[0], err);
    if (status == D2C_OK)
        status = open_model(made, directory, model, dtype, err);
    if (status == D2C_OK)
        status = check_model(made, err);
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
    for (i = 0; generator->be != NULL && i < generator->threads; i++)
        if (generator->be[i] != NULL)
            d2c_backend_close(generator->be[i]);
    free(generator->be);
    free(generator);
}

const d2c_sit_config *
d2c_generator_config(const d2c_generator *generator)
{
    return &generator->model->sit->config;
}

int
d2c_generator_threads(const d2c_generator *generator)
{
    return generator->threads;
}

/* One unit of work: `count` images in one batch on one backend. */
static d2c_status
generate_unit(d2c_generator *generator, d2c_backend *be, d2c_image *image, const d2c_sampler *sampler,
              int count, const int64_t *labels, const uint64_t *seeds, d2c_error *err)
{
    const d2c_sit_config *config = d2c_generator_config(generator);
    size_t elements = (size_t)config->channels * (size_t)config->height * (size_t)config->width;
    float *x = malloc((size_t)count * elements * sizeof(float));
    d2c_status status;
    int i;

    if (x == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for %d samples", count);
    status = d2c_sample(x, generator->model->sit, be, sampler, count, labels, seeds, count, NULL, NULL, err);
    for (i = 0; i < count && status == D2C_OK; i++) {
        status = d2c_image_allocate(&image[i], config->width, config->height, config->channels, err);
        if (status == D2C_OK)
            d2c_image_from_planes(&image[i], x + (size_t)i * elements);
    }
    free(x);
    return status;
}

d2c_status
d2c_generate(d2c_generator *generator, d2c_image *image, const d2c_sampler *sampler, int n,
             const int64_t *labels, const uint64_t *seeds, int batch, d2c_error *err)
{
    d2c_status worst = D2C_OK;
    int start, i;

    memset(image, 0, (size_t)n * sizeof *image);
#pragma omp parallel for num_threads(generator->threads) schedule(dynamic, 1)
    for (start = 0; start < n; start += batch) {
        int count = n - start < batch ? n - start : batch;
        d2c_error error;
        d2c_status status = generate_unit(generator, generator->be[omp_get_thread_num()], image + start,
                                          sampler, count, labels + start, seeds + start, &error);

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
