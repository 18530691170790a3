/*
 * dit_schedule.h: DiT's noise (facebookresearch/DiT diffusion/): 1000 steps, from 0, nearly data, to 999, nearly noise,
 * with betas that grow evenly from 1e-4 to 0.02; x_t = sqrt(abar_t) x + sqrt(1 - abar_t) noise.
 */
#ifndef D2C_NN_DIT_SCHEDULE_H
#define D2C_NN_DIT_SCHEDULE_H

#define D2C_DIT_STEPS 1000

/* abar [D2C_DIT_STEPS] */
void d2c_dit_schedule(double *abar);

/* What training and scoring need of step t: coefficient [4] = alpha, sigma, 0 and 1, with which d2c_diffuse makes x_t and the
 * target, the noise; bound [4] as d2c_dit_loss takes it. */
void d2c_dit_coefficient(float coefficient[4], const double *abar, int t);
void d2c_dit_bound(float bound[4], const double *abar, int t);

/* One step of sampling, from the step `t` of the schedule towards data:
 * mean = from_x x + from_noise noise_hat, variance exp(low + (high - low) (v + 1)/2), v the network's own, -1 to 1. */
typedef struct d2c_dit_step {
    int t;
    double from_x, from_noise;
    double low, high; /* logarithms of the variance's bounds */
} d2c_dit_step;

/* The `count` steps, 2 to D2C_DIT_STEPS, that sampling takes of the schedule, in the order in which it takes them. */
void d2c_dit_respace(d2c_dit_step *step, int count);

#endif
