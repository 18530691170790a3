/*
 * vae.h: Stable Diffusion's autoencoder (AutoencoderKL), whose latents DiT, SiT and REPA work on.
 *
 * An image's side is 2^(levels - 1) times its latent's: 8 for the public files.  What encodes and decodes here is the
 * autoencoder's own scale; diffusion models take (latent * config.scaling_factor), and what they make is divided by it.
 */
#ifndef D2C_NN_VAE_H
#define D2C_NN_VAE_H

#include <cjson/cJSON.h>

#include "nn/params.h"
#include "nn/scratch.h"

#define D2C_VAE_LEVELS 8
#define D2C_VAE_BLOCKS 8
#define D2C_VAE_MOST_SIDE 1024 /* of an image, in pixels */

typedef struct d2c_vae_config {
    int levels;                /* resolutions; each halves the one before */
    int width[D2C_VAE_LEVELS]; /* channels of each level, the image's own first */
    int blocks;                /* residual blocks of a level in the encoder; the decoder's have one more */
    int groups;                /* of the norms */
    int latent;                /* channels of a latent */
    int in_channels, out_channels;
    int quant, post_quant; /* has the 1x1 convolution behind the encoder, before the decoder */
    float scaling_factor;
} d2c_vae_config;

typedef struct d2c_vae {
    d2c_vae_config config;
    d2c_dtype precision;
    d2c_params params;
    void *network;
} d2c_vae;

/* Whether the tensors are an autoencoder's, by any of its namings. */
int d2c_vae_is(const d2c_weights *file);

/* The tensors' shapes tell the configuration, and json, diffusers' config.json, what they do not: groups and scaling
 * factor; NULL: 32 and 0.18215, Stable Diffusion's.  Where both tell, they must agree. */
d2c_status d2c_vae_config_read(d2c_vae_config *config, const d2c_weights *file, const cJSON *json,
                               d2c_error *err);

/* The scaling factor of a JSON object, config.json or the model's description; without it *scale stays as it is. */
d2c_status d2c_vae_scale_read(float *scale, const cJSON *json, d2c_error *err);

/* Elements of the encoder's and the decoder's tensors. */
int64_t d2c_vae_parameters(const d2c_weights *file);

/* Whether the file has every tensor of that configuration, in its shape. */
d2c_status d2c_vae_check(const d2c_vae_config *config, const d2c_weights *file, d2c_error *err);

/* Loads a network of that configuration.  precision: f32, or bf16 operands of products; fp8 is taken as bf16. */
d2c_status d2c_vae_open(d2c_vae **vae, d2c_backend *be, const d2c_vae_config *config, d2c_weights *file,
                        d2c_dtype precision, d2c_error *err);
void d2c_vae_close(d2c_vae *vae, d2c_backend *be);

/* Pixels of an image's side for one of its latent's. */
int d2c_vae_factor(const d2c_vae_config *config);

/* D2C_INVALID_ARGUMENT unless an image of height x width can be encoded. */
d2c_status d2c_vae_size_check(const d2c_vae_config *config, int64_t height, int64_t width, d2c_error *err);

/* mean, deviation [latent, height/factor, width/factor] of the posterior, from x [in_channels, height, width] in [-1, 1];
 * host memory.  deviation = exp(logvar / 2), logvar cut to [-30, 20]; it may be NULL.  Sides that are no multiples of
 * the factor, or too large, are D2C_INVALID_ARGUMENT; a result that is not finite is D2C_NOT_FINITE. */
d2c_status d2c_vae_encode(const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch, float *mean,
                          float *deviation, const float *x, int height, int width, d2c_error *err);

/* x [out_channels, height*factor, width*factor], around [-1, 1] but not cut to it, from latent [latent, height, width] as
 * d2c_vae_encode gives it: a diffusion model's result is divided by config.scaling_factor first. */
d2c_status d2c_vae_decode(const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch, float *x,
                          const float *latent, int height, int width, d2c_error *err);

#endif
