/* vae_choice.h: which autoencoder makes the latents of a diffusion model. */
#ifndef D2C_NN_VAE_CHOICE_H
#define D2C_NN_VAE_CHOICE_H

#include "nn/model.h"

/* Whether the model is a diffusion model of latents. */
int d2c_takes_latents(const d2c_model *model);

/* The name of the model's autoencoder: what its description says ("vae": NAME), or else the first of sd-vae-ft-ema,
 * sd-vae-ft-mse and sd-vae, whose encoders are the same, that is in the directory.  D2C_NOT_FOUND says how to name one. */
d2c_status d2c_vae_choose(char name[sizeof(d2c_model_name)], const d2c_model *model, const char *directory,
                          d2c_error *err);

/* Whether what enters and leaves an autoencoder are pictures; D2C_BAD_MODEL. */
d2c_status d2c_vae_check_pictures(const d2c_model *vae, d2c_error *err);

/* And whether its latents are what the diffusion model `name` takes, with so many channels; D2C_BAD_MODEL. */
d2c_status d2c_vae_check_fits(const d2c_model *vae, const char *name, int channels, d2c_error *err);

#endif
