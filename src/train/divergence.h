/*
 * divergence.h: when a loss has exploded.
 *
 * One batch may be hard, and a loss may jump and come back; so a step alone is the end only beyond an absolute bound.
 * Otherwise the loss has exploded when it was more than `factor` times its own mean for D2C_DIVERGENCE_STEPS steps in a row.
 * The mean is an exponential one over about 100 steps, which steps above the bound do not enter.
 */
#ifndef D2C_TRAIN_DIVERGENCE_H
#define D2C_TRAIN_DIVERGENCE_H

#define D2C_DIVERGENCE_STEPS 16
#define D2C_LOSS_LIMIT 1000.0 /* a network that answers zero has a loss of about 1 to 2 */

typedef struct d2c_divergence {
    double mean; /* 0: no step yet */
    int above;   /* steps in a row, up to now */
} d2c_divergence;

/* Takes one step's loss; 1 when it has exploded (or is not a number).  factor 0: the absolute bound only. */
int d2c_divergence_put(d2c_divergence *divergence, double loss, double factor);

#endif
