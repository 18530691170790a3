/*
 * sampler.h: images from a SiT: ODE by Euler or Heun, SDE by Euler-Maruyama (willisma/SiT transport/integrators.py,
 * "sigma" diffusion, norm 1, last step "Mean"), classifier-free guidance.
 *
 * SiT's time, from t = 0 (noise) to 1 (data).  An image depends on its own seed, label and the settings, not on the
 * others: bit for bit with batch 1, within rounding otherwise, because matrix libraries choose kernels by shape.  Pixel
 * models guide all channels; guided_channels = 3 is public SiT's rule for four-channel latents.
 */
#ifndef D2C_NN_SAMPLER_H
#define D2C_NN_SAMPLER_H

#include "nn/sit.h"

typedef enum d2c_sampler_kind { D2C_SAMPLER_EULER, D2C_SAMPLER_HEUN, D2C_SAMPLER_SDE } d2c_sampler_kind;

typedef struct d2c_sampler {
    d2c_sampler_kind kind;
    int steps;      /* intervals; SDE: network evaluations, the last one the "Mean" step of 0.04 */
    float guidance; /* 1: none */
    float guide_from, guide_to; /* guidance only while guide_from <= t <= guide_to */
    int guided_channels;        /* 0: all */
} d2c_sampler;

/* x [n, channels, height, width] f32, labels [n] and seeds [n] in host memory; batch: images a pass, halved
 * as often as memory asks for. progress, when
 * not NULL, is called after each pass with the images done; a non-zero result cancels. */
d2c_status d2c_sample(float *x, d2c_sit *sit, d2c_backend *be, const d2c_sampler *setting, int n,
                      const int64_t *labels, const uint64_t *seeds, int batch,
                      int (*progress)(void *closure, int done), void *closure, d2c_error *err);

#endif
