/*
 * difficulty.h: D2C's diffusion difficulty score of one image (METHOD: Select), and the self-representation that
 * serves as visual embedding.
 *
 * A unit of work is one image's T timesteps in one batch on one backend, so a score depends on nothing but its
 * arguments.  Linear velocity models take t_i = ((i + 1/2)/T)^(1/3) and a third of the velocity error, the same score
 * as uniform t with the eps error; other paths take uniform t and the eps error; t is SiT's, and a network that counts
 * from data to noise is given 1 - t.  DiT takes the steps floor((i + 1/2) 1000/T) and the error of its noise.  Noise is
 * keyed by (seed, i) and common to all images.
 */
#ifndef D2C_NN_DIFFICULTY_H
#define D2C_NN_DIFFICULTY_H

#include "nn/sit.h"

#define D2C_MAX_TIMESTEPS 1000

/* Rows of one forward pass.  Part of what a score's last bits depend on, so it is a constant; only where device memory is
 * too small for it is a pass made narrower. */
#define D2C_PASS_ROWS 16

typedef struct d2c_scorer d2c_scorer; /* a network, a backend, and the workspace for T timesteps */

d2c_status d2c_scorer_open(d2c_scorer **scorer, d2c_sit *sit, d2c_backend *be, int timesteps, d2c_error *err);
/* With passes of at most `rows` rows, 1 to D2C_PASS_ROWS. */
d2c_status d2c_scorer_open_narrow(d2c_scorer **scorer, d2c_sit *sit, d2c_backend *be, int timesteps, int rows,
                                  d2c_error *err);
void d2c_scorer_close(d2c_scorer *scorer);

/* stop is asked before each pass of d2c_scorer_run, which ends with D2C_CANCELLED when it says 1. */
void d2c_scorer_set_stop(d2c_scorer *scorer, int (*stop)(const void *closure), const void *closure);

/* The prompt of the scores that follow, for a network with a text condition: text [L, W] and mask [L] in host memory. */
d2c_status d2c_scorer_set_text(d2c_scorer *scorer, const float *text, const float *mask, d2c_error *err);

/* score: the mean; curve (may be NULL): the T errors, from noise to data, and DiT's from data to noise.
 * x [channels, height, width] f32 in host memory.
 * A network with a text condition scores the image with the prompt that was set, which stands beside the label.
 * D2C_INVALID_ARGUMENT for a label outside the model's classes, D2C_NOT_FINITE when the result is no number. */
d2c_status d2c_scorer_run(d2c_scorer *scorer, double *score, double *curve, const float *x, int64_t label,
                          uint64_t seed, d2c_error *err);

/* The raw output of the network at (x, t, label): out [d2c_sit_outputs, height, width]; label -1: the null class.  t is
 * the network's own time: SiT's from 0, noise, to 1, data; REPA's from 0, data, to 1, noise; DiT's step, 0 to 999. */
d2c_status d2c_scorer_denoise(d2c_scorer *scorer, float *out, const float *x, double t, int64_t label,
                              d2c_error *err);

/* Self-representation: the hidden tokens [tokens, hidden] after `block` blocks (0: half the depth, rounded up) at
 * t = 0.9 in SiT's time, or DiT's step with the ratio of data to noise nearest to it, null class, noise
 * D2C_PURPOSE_ENCODE.  tokens at most the network's. */
d2c_status d2c_scorer_tokens(d2c_scorer *scorer, float *out, const float *x, int tokens, int block,
                             d2c_error *err);

#endif
