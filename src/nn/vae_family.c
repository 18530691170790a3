/* vae_family.c: Stable Diffusion's autoencoders as models: diffusers' folders, single files, whole Stable Diffusion files. */
#include "nn/families.h"
#include "nn/vae.h"

static int
recognizes(const d2c_model_files *files)
{
    return d2c_vae_is(files->weights);
}

/* A single file has no config.json: what its shapes do not tell, its description may. */
static d2c_status
read_config(d2c_vae_config *config, const d2c_model_files *files, d2c_error *err)
{
    D2C_TRY(d2c_vae_config_read(config, files->weights, files->config, err));
    return d2c_vae_scale_read(&config->scaling_factor, files->description, err);
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_vae_config config;

    info->parameters = d2c_vae_parameters(files->weights);
    D2C_TRY(read_config(&config, files, err));
    info->channels = config.in_channels;
    info->embedding = config.latent;
    return d2c_vae_check(&config, files->weights, err);
}

static d2c_status
open_vae(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_vae_config config;
    d2c_status status;
    d2c_vae *vae;

    *network = NULL;
    D2C_TRY(read_config(&config, files, err));
    status = d2c_vae_open(&vae, be, &config, files->weights, precision, err);
    *network = vae;
    return status;
}

static void
close_vae(void *network, d2c_backend *be)
{
    d2c_vae_close(network, be);
}

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_vae *)network)->params;
}

const d2c_family d2c_family_vae = {
    .kind = "vae",
    .role = D2C_ROLE_AUTOENCODER,
    .recognizes = recognizes,
    .describe = describe,
    .open = open_vae,
    .close = close_vae,
    .params = params_of,
};
