/* vae_choice.c: which autoencoder makes the latents of a diffusion model (vae_choice.h). */
#include "nn/vae_choice.h"

#include <stdio.h>

#include "nn/vae.h"

int
d2c_takes_latents(const d2c_model *model)
{
    return model->info.role == D2C_ROLE_DENOISER && !d2c_is_picture(model->info.channels);
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
    for (i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        d2c_status status = d2c_model_files_find(&files, directory, usual[i], err);

        if (status == D2C_OK)
            snprintf(name, sizeof(d2c_model_name), "%s", usual[i]);
        if (status !=
            D2C_NOT_FOUND) /* one that is there twice or not whole is not passed over for the next */
            return status;
    }
    return fail_no_vae(err, model, directory);
}

d2c_status
d2c_vae_check_pictures(const d2c_model *vae, d2c_error *err)
{
    const d2c_vae_config *c = &((const d2c_vae *)vae->network)->config;

    if (d2c_is_picture(c->in_channels) && d2c_is_picture(c->out_channels))
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" does not take images", vae->info.name);
    d2c_detail(err, "It makes %d channels of %d; images have 1 or 3.", c->out_channels, c->in_channels);
    return D2C_BAD_MODEL;
}

d2c_status
d2c_vae_check_fits(const d2c_model *vae, const char *name, int channels, d2c_error *err)
{
    const d2c_vae_config *c = &((const d2c_vae *)vae->network)->config;

    D2C_TRY(d2c_vae_check_pictures(vae, err));
    if (c->latent == channels)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "autoencoder \"%s\" does not fit model \"%s\"", vae->info.name, name);
    d2c_detail(err, "Its latents have %d channels; the model takes %d.", c->latent, channels);
    return D2C_BAD_MODEL;
}
