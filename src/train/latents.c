/* latents.c: what training on latents settles: their scale, their autoencoder, and what the trained model says of it. */
#include <cjson/cJSON.h>
#include <string.h>

#include "base/file.h"
#include "nn/model_files.h"
#include "nn/vae.h"
#include "train/run.h"

#define STABLE_DIFFUSION_SCALE 0.18215

/* The scaling factor of the autoencoder that made the latents. */
static d2c_status
read_scale(double *scale, const d2c_train_setting *setting, int channels, d2c_error *err)
{
    d2c_model_files files;
    d2c_vae_config config;
    d2c_status status;

    if (setting->model_directory == NULL) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "--vae names a model, but there is no --model-directory");
        d2c_hint(err, "Give the folder that has it.");
        return D2C_INVALID_ARGUMENT;
    }
    D2C_TRY(d2c_model_files_find(&files, setting->model_directory, setting->vae, err));
    status = d2c_model_files_open(&files, err);
    if (status == D2C_OK)
        status = d2c_vae_config_read(&config, files.weights, files.config, err);
    if (status == D2C_OK)
        status = d2c_vae_scale_read(&config.scaling_factor, files.description, err);
    d2c_model_files_close(&files);
    D2C_TRY(status);
    if (config.latent != channels)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "the latents have %d channels, those of autoencoder \"%s\" %d", channels,
                        setting->vae, config.latent);
    *scale = config.scaling_factor;
    return D2C_OK;
}

static d2c_status
check_options(const d2c_train *train, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;
    const d2c_table *table = train->table;

    if (setting->horizontal_flip) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "latents cannot be mirrored");
        d2c_detail(err, "A latent is that of the image as it is stored.");
        d2c_hint(err, "Train with --horizontal-flip off, or add rows of mirrored images.");
        return D2C_INVALID_ARGUMENT;
    }
    if ((setting->image_size != 0 && setting->image_size != table->image_width) ||
        (setting->channels != 0 && setting->channels != table->image_channels)) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "the latents have %d channels of %d x %d", table->image_channels,
                 table->image_height, table->image_width);
        d2c_hint(err, "Leave out --image-size and --channels, or train on images with --latents off.");
        return D2C_INVALID_ARGUMENT;
    }
    return D2C_OK;
}

d2c_status
d2c_latents_settle(d2c_train *train, d2c_error *err)
{
    d2c_train_setting *setting = train->setting;

    if (!train->table->latents && (setting->vae != NULL || setting->latent_scale != 0)) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "the table has no latents in use");
        d2c_hint(err, "--vae and --latent-scale are of latents, which --latent-column names.");
        return D2C_INVALID_ARGUMENT;
    }
    if (!train->table->latents)
        return D2C_OK;
    D2C_TRY(check_options(train, err));
    if (setting->latent_scale == 0 && setting->vae != NULL)
        D2C_TRY(read_scale(&setting->latent_scale, setting, train->table->image_channels, err));
    else if (setting->latent_scale == 0)
        setting->latent_scale = STABLE_DIFFUSION_SCALE;
    train->shape.latent_scale = (float)setting->latent_scale;
    return D2C_OK;
}

d2c_status
d2c_latents_describe(const d2c_train *train, const char *path, d2c_error *err)
{
    cJSON *root;
    char *text;
    d2c_status status;

    if (train->setting->vae == NULL)
        return D2C_OK;
    root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "vae", train->setting->vae);
    text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (text == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_file_write(path, text, strlen(text), err);
    cJSON_free(text);
    return status;
}
