/* vae_choice.c: which autoencoder makes the latents of a diffusion model (vae_choice.h). */
#include "nn/vae_choice.h"

#include <stdio.h>

int
d2c_takes_latents(const d2c_model *model)
{
    return model->info.role == D2C_ROLE_DENOISER && model->info.channels != 1 && model->info.channels != 3;
}

static d2c_status
fail_no_vae(d2c_error *err, const d2c_model *model, const char *directory)
{
    const char *name = model->info.name;

    d2c_fail(err, D2C_NOT_FOUND, "model \"%s\" needs an autoencoder", name);
    d2c_detail(
        err, "It takes latents with %d channels; \"%s\" has no model sd-vae-ft-ema, sd-vae-ft-mse or sd-vae.",
        model->info.channels, directory);
    d2c_hint(err,
             "Put one of them there, or name another in \"%s.json\" (for a folder, in \"%s/d2c.json\"): "
             "{\"vae\": \"NAME\"}.",
             name, name);
    return D2C_NOT_FOUND;
}

d2c_status
d2c_vae_choose(char name[sizeof(d2c_model_name)], const d2c_model *model, const char *directory,
               d2c_error *err)
{
    static const char *const usual[] = {"sd-vae-ft-ema", "sd-vae-ft-mse", "sd-vae"};
    d2c_model_files files;
    size_t i;

    if (model->vae[0] != '\0') {
        snprintf(name, sizeof(d2c_model_name), "%s", model->vae);
        return D2C_OK;
    }
    for (i = 0; i < sizeof usual / sizeof usual[0]; i++)
        if (d2c_model_files_find(&files, directory, usual[i], NULL) == D2C_OK) {
            snprintf(name, sizeof(d2c_model_name), "%s", usual[i]);
            return D2C_OK;
        }
    return fail_no_vae(err, model, directory);
}
