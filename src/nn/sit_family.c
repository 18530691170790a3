/* sit_family.c: SiT files as models: a checkpoint's average, a plain file, public files. */
#include "nn/families.h"
#include "nn/sit.h"

static const char *
prefix_of(const d2c_model_files *files)
{
    return d2c_model_files_prefix(files, "blocks.0.adaLN_modulation.1.weight");
}

static int
recognizes(const d2c_model_files *files)
{
    return prefix_of(files) != NULL;
}

/* The config of a SiT that is used as it is: the projector serves training only and is left out. */
static d2c_status
read_config(d2c_sit_config *config, const d2c_model_files *files, d2c_error *err)
{
    D2C_TRY(d2c_sit_config_read(config, files->weights, prefix_of(files), err));
    config->proj_block = config->proj_hidden = config->proj_width = 0;
    return D2C_OK;
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_sit_config config;

    info->parameters = d2c_weights_parameters(files->weights, prefix_of(files));
    D2C_TRY(read_config(&config, files, err));
    info->width = config.width;
    info->height = config.height;
    info->channels = config.channels;
    info->classes = config.classes;
    info->embedding = config.hidden;
    info->tokens = d2c_sit_tokens(&config);
    return D2C_OK;
}

static d2c_status
open_sit(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_sit_config config;
    d2c_sit *sit;

    *network = NULL;
    D2C_TRY(read_config(&config, files, err));
    D2C_TRY(d2c_sit_open(&sit, be, &config, precision, files->weights, prefix_of(files), err));
    *network = sit;
    return D2C_OK;
}

static void
close_sit(void *network, d2c_backend *be)
{
    d2c_sit_destroy(network, be);
}

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_sit *)network)->params;
}

const d2c_family d2c_family_sit = {
    .kind = "sit",
    .role = D2C_ROLE_DENOISER,
    .recognizes = recognizes,
    .describe = describe,
    .open = open_sit,
    .close = close_sit,
    .params = params_of,
};
