/*
 * step.h: training steps on a device: diffuse, forward, losses, backward, clipping, AdamW, EMA.
 *
 * Everything random is drawn by (seed, row, epoch), times on the host and all else on the device, so a step is a function
 * of the weights, the batch and its step record.  What is trained is the network's kind (objective.h).  A step computes the batch in micro-batches, one after the other, whose gradients add up: rows,
 * noise and losses are the same for every size of them, sums differ by rounding alone.
 *
 * Of several processes each computes its share of the batch; the gradients are summed in the order of the ranks, and every
 * process takes the same step.
 *
 * A step is queued, and its result collected later.  A device that computes while the host goes on may have two steps
 * queued: while it computes one, the next one's batch is copied to it.  On the CPU a queued step is done.
 */
#ifndef D2C_TRAIN_STEP_H
#define D2C_TRAIN_STEP_H

#include "ranks/ranks.h"
#include "train/loader.h"
#include "train/objective.h"

typedef struct d2c_step_setting {
    uint64_t seed;
    int batch;        /* B, of each rank */
    d2c_ranks *ranks; /* on the backend's memory; NULL: one process */
    int micro_batch;  /* rows computed at once, the last micro-batch may have fewer; 0: the whole batch */
    d2c_row_shape shape;
    d2c_time_sampling sampling;
    float cfg_prob;   /* rows whose condition is dropped */
    float proj_coeff; /* weight of the alignment loss */
    d2c_adamw adamw;
    d2c_recompute recompute;
    int without_graphs; /* 1: the ops of a step are always called one by one */
    int tuned;          /* 1: its products take the fastest of the algorithms that are measured */
    void (*notice)(void *closure,
                   const char *line); /* told that something is done in another way; may be NULL */
    void *closure;
} d2c_step_setting;

typedef struct d2c_step_result {
    d2c_step_record record;
    double denoise,
        projection; /* means over the batch of all ranks; projection with its weight, 0 without features */
} d2c_step_result;

/* Device memory of a step. */
typedef struct d2c_step_bytes {
    size_t batches;     /* what is uploaded */
    size_t activations; /* what a micro-batch is computed in */
} d2c_step_bytes;

typedef struct d2c_stepper d2c_stepper;

/* What a stepper of this setting takes; `sit` may be an outline. */
d2c_status d2c_step_plan(d2c_step_bytes *bytes, d2c_sit *sit, const d2c_step_setting *setting,
                         int asynchronous, d2c_error *err);

/* Allocates the device memory of a step; sit and be must outlive it.  While it does not fit, the micro-batch is halved. */
d2c_status d2c_stepper_open(d2c_stepper **stepper, d2c_sit *sit, d2c_backend *be,
                            const d2c_step_setting *setting, d2c_error *err);
void d2c_stepper_close(d2c_stepper *stepper);
int d2c_stepper_micro_batch(const d2c_stepper *stepper); /* what it is now: a step may halve it as well */

/* How many steps may wait for collection while another one is queued: 0 on the CPU. */
int d2c_stepper_ahead(const d2c_stepper *stepper);

/* Queues a training step; of `record` the first part is read, and the batch may be reused at once. */
d2c_status d2c_stepper_queue(d2c_stepper *stepper, const d2c_batch *batch, const d2c_step_record *record,
                             d2c_error *err);

/* The result of the oldest step not collected yet, waiting for it.  Losses and gradient norm are those before the
 * update; where the record says `skip`, the step has changed nothing. */
d2c_status d2c_stepper_collect(d2c_stepper *stepper, d2c_step_result *result, d2c_error *err);

/* The losses alone, with no condition dropped.  Every step must have been collected. */
d2c_status d2c_stepper_measure(d2c_stepper *stepper, d2c_step_result *result, const d2c_batch *batch,
                               d2c_error *err);

#endif
