/*
 * step_ranks.c: what several processes bring together in a step: the losses of all rows, and the gradients' sum.
 *
 * A row's loss is where the row is in the global batch, so what is told of a step is the same for every number of
 * processes; gradients are means over the global batch already, by the record's loss_scale.
 */
#include "train/stepper.h"

int
step_rows(const d2c_stepper *s)
{
    return s->setting.batch * d2c_rank_count(s->setting.ranks);
}

d2c_status
step_join(d2c_stepper *s, int training, d2c_error *err)
{
    const d2c_params *params = &s->sit->params;
    size_t bytes = (size_t)s->setting.batch * sizeof(float);

    D2C_TRY(d2c_ranks_gather(s->setting.ranks, s->losses, bytes, err));
    if (s->setting.shape.visual_tokens > 0)
        D2C_TRY(d2c_ranks_gather(s->setting.ranks, s->losses + step_rows(s), bytes, err));
    if (!training)
        return D2C_OK;
    return d2c_ranks_sum(s->setting.ranks, s->be, params->grad, params->trainable, s->received, err);
}
