/* step_times.c: the times of a batch's rows, drawn on the host and uploaded with the batch. */
#include <stdlib.h>

#include "train/stepper.h"

size_t
step_time_floats(const d2c_stepper *s)
{
    return s->sit->config.kind == D2C_SIT_KIND_DIT ? STEP_DIT_FLOATS : STEP_VELOCITY_FLOATS;
}

d2c_status
step_times_open(d2c_stepper *s, d2c_error *err)
{
    D2C_TRY(d2c_objective_make(&s->objective, &s->sit->config, s->setting.sampling, s->setting.seed, err));
    s->host_time = malloc((size_t)s->setting.batch * step_time_floats(s) * sizeof *s->host_time);
    return s->host_time != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

d2c_status
step_times_upload(d2c_stepper *s, const step_slot *slot, const d2c_batch *batch)
{
    size_t rows = (size_t)s->setting.batch, i;
    float *t = s->host_time, *path = t + rows, *coefficient = path + rows, *bound = coefficient + 4 * rows;

    for (i = 0; i < rows; i++) {
        d2c_row_time time = d2c_objective_time(&s->objective, batch->number[i], batch->epoch[i]);

        t[i] = time.t;
        path[i] = time.path;
        if (s->objective.kind == D2C_SIT_KIND_DIT) {
            d2c_dit_coefficient(coefficient + 4 * i, s->objective.abar, (int)time.t);
            d2c_dit_bound(bound + 4 * i, s->objective.abar, (int)time.t);
        }
    }
    return d2c_upload_early(s->be, slot->time, t, rows * step_time_floats(s) * sizeof *t);
}
