/*
 * step.h: one training step on a device: diffuse, forward, losses, backward, clipping, AdamW, EMA.
 *
 * Everything random is drawn on the device by (seed, row, epoch), so a step is a function of the weights, the batch and
 * its step record.
 */
#ifndef D2C_TRAIN_STEP_H
#define D2C_TRAIN_STEP_H

#include "nn/sit.h"
#include "train/loader.h"

typedef struct d2c_step_setting {
    uint64_t seed;
    int batch;
    d2c_row_shape shape;
    float cfg_prob;   /* rows whose condition is dropped */
    float proj_coeff; /* weight of the alignment loss */
    d2c_adamw adamw;
} d2c_step_setting;

typedef struct d2c_step_result {
    d2c_step_record record;
    double denoise, projection; /* means over the batch; projection with its weight, 0 without features */
} d2c_step_result;

typedef struct d2c_stepper d2c_stepper;

/* Allocates the device memory of a step; sit and be must outlive it. */
d2c_status d2c_stepper_open(d2c_stepper **stepper, d2c_sit *sit, d2c_backend *be,
                            const d2c_step_setting *setting, d2c_error *err);
void d2c_stepper_close(d2c_stepper *stepper);
size_t d2c_stepper_bytes(const d2c_stepper *stepper);

/* A training step; of `record` the first part is read.  Losses and gradient norm are those before the update. */
d2c_status d2c_stepper_train(d2c_stepper *stepper, d2c_step_result *result, const d2c_batch *batch,
                             const d2c_step_record *record, d2c_error *err);

/* The losses alone, with no condition dropped. */
d2c_status d2c_stepper_measure(d2c_stepper *stepper, d2c_step_result *result, const d2c_batch *batch,
                               d2c_error *err);

#endif
