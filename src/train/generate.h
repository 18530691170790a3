/*
 * generate.h: many samples of a SiT, DiT or REPA; latents are decoded, and rounded as each one's public code does.
 *
 * On the CPU each thread has a one-thread backend of its own over the shared weights and takes `batch` images at a
 * time.  With batch 1 an image is a function of model, seed, label and sampler alone, bit for bit, whatever the number
 * of threads.  On a GPU one backend takes them all, and a pass always has `batch` images: one that is not full repeats
 * its last image, so that how many are wanted changes none of them.
 */
#ifndef D2C_TRAIN_GENERATE_H
#define D2C_TRAIN_GENERATE_H

#include "image/image.h"
#include "nn/sampler.h"
#include "nn/vae.h"

typedef struct d2c_generator d2c_generator;

typedef struct d2c_generator_setting {
    const char *directory,
        *model;            /* a name in the directory, or (directory NULL) the path of a file or a folder */
    const char *vae;       /* NULL: a model of latents chooses (vae_choice.h); from the model's directory */
    const char *device;    /* as d2c_backend_choose takes it */
    const char *precision; /* "no", "bf16" or "auto" */
    int threads;           /* 0: all cores; a GPU needs one */
    int batch;             /* images a pass; 0: 1 on the CPU, 64 on a GPU */
} d2c_generator_setting;

/* notice [size]: d2c_backend_choose's. */
d2c_status d2c_generator_open(d2c_generator **generator, const d2c_generator_setting *setting, char *notice,
                              size_t size, d2c_error *err);
void d2c_generator_close(d2c_generator *generator);
const d2c_sit_config *d2c_generator_config(const d2c_generator *generator);

/* The size of its pictures, those of latents as they are decoded. */
void d2c_generator_size(const d2c_generator *generator, int *width, int *height);

/* How many images give each thread one pass.  Ask for these or a multiple: with one thread's more, the others would wait
 * for it. */
int d2c_generator_chunk(const d2c_generator *generator);

/* The picture of a latent x [channels, height, width], which is divided by scale in place: allocated, and rounded as the
 * kind's public code does. */
d2c_status d2c_picture_of_latent(d2c_image *image, const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch,
                                 const d2c_sit_config *config, float *x, float scale, d2c_error *err);

/* An image's bytes from planes of -1..1, as the kind's public code rounds them. */
void d2c_round_to_bytes(d2c_image *image, const float *x, d2c_sit_kind kind);

/* image [n]: allocated here, freed by the caller; on failure none is left. */
d2c_status d2c_generate(d2c_generator *generator, d2c_image *image, const d2c_sampler *sampler, int n,
                        const int64_t *labels, const uint64_t *seeds, d2c_error *err);

#endif
