/*
 * sampler.h: images from a SiT, a DiT or REPA's SiT, each as its public code makes them, with classifier-free guidance:
 *  - SiT (willisma/SiT transport/integrators.py): ODE by Euler or Heun; SDE by Euler-Maruyama, "sigma" diffusion, norm 1,
 *    last step "Mean"; ODE by torchdiffeq's dopri5, whose error is measured over one image and not over the batch.
 *  - REPA (sihyun-yu/REPA samplers.py): ODE by Euler or Heun, which ends with a step of Euler and whose second stage is
 *    guided when the first is; SDE by Euler-Maruyama.  The public code keeps the image in f64, this one in f32.
 *  - DiT (facebookresearch/DiT diffusion/): the ancestral sampler on evenly chosen steps, with the learned variance.
 *
 * An image depends on its own seed, label and the settings, not on the others: bit for bit with batch 1, within rounding
 * otherwise, because matrix libraries choose kernels by shape.  The public codes guide three channels of SiT's and DiT's
 * four, and all of REPA's; DiT's variance is never guided.
 */
#ifndef D2C_NN_SAMPLER_H
#define D2C_NN_SAMPLER_H

#include "nn/sit.h"

#define D2C_SAMPLER_ATOL 1e-6
#define D2C_SAMPLER_RTOL 1e-3

typedef enum d2c_sampler_kind {
    D2C_SAMPLER_EULER,
    D2C_SAMPLER_HEUN,
    D2C_SAMPLER_SDE,
    D2C_SAMPLER_ANCESTRAL, /* DiT's, which has no other */
    D2C_SAMPLER_DOPRI5     /* adaptive: one image a pass */
} d2c_sampler_kind;

typedef struct d2c_sampler {
    d2c_sampler_kind kind;
    int steps; /* intervals; SDE: network evaluations, the last one the step of 0.04 without noise; DiT: 2 to 1000 */
    float guidance; /* 1: none */
    double guide_from,
        guide_to;        /* guidance only while guide_from <= t <= guide_to, t the network's own time */
    int guided_channels; /* 0: all */
    double atol, rtol;   /* dopri5's, which has no steps; 0: SiT's */
} d2c_sampler;

/* x [n, channels, height, width] f32, labels [n] and seeds [n] in host memory; batch: images a pass, halved
 * as often as memory asks for. progress, when
 * not NULL, is called after each pass with the images done; a non-zero result cancels. */
d2c_status d2c_sample(float *x, d2c_sit *sit, d2c_backend *be, const d2c_sampler *setting, int n,
                      const int64_t *labels, const uint64_t *seeds, int batch,
                      int (*progress)(void *closure, int done), void *closure, d2c_error *err);

#endif
