/* plan.h: how much device memory a training takes, before any of it is allocated. */
#ifndef D2C_TRAIN_PLAN_H
#define D2C_TRAIN_PLAN_H

#include "train/step.h"

/* Bytes; parameters, gradients, optimizer, ema and shadow are the network's ranges. */
typedef struct d2c_memory_plan {
    size_t parameters, gradients, optimizer, ema, shadow;
    size_t samples; /* the network that draws samples, and what it computes in */
    d2c_step_bytes step;
    size_t total;
    int micro_batch;         /* step->micro_batch, or what was chosen for it */
    d2c_recompute recompute; /* the same */
} d2c_memory_plan;

/*
 * Plans a training whose sample grids have `samples` images (0: there are none).  A micro-batch that step leaves open
 * is the batch, halved until all fits into `available` bytes; 15/16 of those are planned with, as the ops have scratch
 * memory of their own.  available 0: not known, nothing is halved.
 *
 * any_recompute: step->recompute is left open as well.  Halving costs next to nothing while a micro-batch keeps the device
 * busy, computing again always costs; so the least level is taken with which D2C_FULL_ROWS rows or more fit, and only
 * below that, at the last level, smaller micro-batches.
 */
#define D2C_FULL_ROWS 32
d2c_status d2c_memory_plan_make(d2c_memory_plan *plan, const d2c_sit_config *config, d2c_dtype precision,
                                const d2c_step_setting *step, int any_recompute, int asynchronous,
                                int samples, size_t available, d2c_error *err);

/* "none", "mlp", "block"; "auto" is none, and left open. */
d2c_status d2c_recompute_read(d2c_recompute *recompute, const char *name, d2c_error *err);

#endif
