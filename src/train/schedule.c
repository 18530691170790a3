/* schedule.c: learning rate, bias corrections and EMA decay of a step. */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

void
d2c_schedule_record(d2c_step_record *record, const d2c_schedule *schedule, int64_t step)
{
    double s = (double)step, decay = schedule->ema_decay, rate = schedule->learning_rate;

    if (step < schedule->warmup_steps)
        rate *= s / (double)schedule->warmup_steps;
    if (schedule->ema_warmup)
        decay = fmin(decay, (1 + s) / (10 + s));
    memset(record, 0, sizeof *record);
    record->learning_rate = (float)rate;
    record->bias_correction1 = (float)(1 - pow(schedule->beta1, s));
    record->bias_correction2 = (float)(1 - pow(schedule->beta2, s));
    record->ema_decay = (float)decay;
    record->max_grad_norm = (float)schedule->max_grad_norm;
    record->loss_scale = 1.0f / (float)schedule->batch;
}
