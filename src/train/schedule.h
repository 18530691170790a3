/* schedule.h: what changes from step to step. */
#ifndef D2C_TRAIN_SCHEDULE_H
#define D2C_TRAIN_SCHEDULE_H

#include "ops/ops.h"

typedef struct d2c_schedule {
    double learning_rate;
    int64_t warmup_steps; /* the rate grows linearly over the first of them, then it is constant */
    double beta1, beta2;
    double ema_decay;
    int ema_warmup; /* 1: the decay at step s is at most (1 + s) / (10 + s) */
    double max_grad_norm;
    int batch;
} d2c_schedule;

/* The first part of step s's record, s = 1, 2, ... */
void d2c_schedule_record(d2c_step_record *record, const d2c_schedule *schedule, int64_t step);

#endif
