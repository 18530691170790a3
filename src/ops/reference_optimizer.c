/* reference_optimizer.c: gradient norm and AdamW with EMA and shadow. */
#include "ops/reference.h"

#include <math.h>

d2c_status
d2c_ref_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad)
{
    double sum = 0, norm;

    (void)be;
    for (int64_t i = 0; i < grad.dim[0]; i++)
        sum += ref_get(grad, i) * ref_get(grad, i);
    norm = sqrt(sum);
    record->grad_norm = (float)norm;
    record->clip_scale =
        record->max_grad_norm > 0 ? (float)fmin(1, record->max_grad_norm / (norm + 1e-6)) : 1;
    record->skip = !isfinite(record->loss) || !isfinite(record->grad_norm);
    return D2C_OK;
}

d2c_status
d2c_ref_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                   d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                   const d2c_step_record *record)
{
    double beta1 = setting->beta1, beta2 = setting->beta2, rate = record->learning_rate;
    double apart = setting->coupled ? 0 : setting->weight_decay, joined = setting->weight_decay - apart;

    (void)be;
    for (int64_t i = 0; record->skip == 0 && i < value.dim[0]; i++) {
        double g = ref_get(grad, i) * record->clip_scale + joined * ref_get(value, i), step;

        ref_set(m, i, beta1 * ref_get(m, i) + (1 - beta1) * g);
        ref_set(v, i, beta2 * ref_get(v, i) + (1 - beta2) * g * g);
        step = ref_get(m, i) / record->bias_correction1 /
               (sqrt(ref_get(v, i) / record->bias_correction2) + setting->eps);
        ref_set(value, i, ref_get(value, i) * (1 - rate * apart) - rate * step);
        if (ema.data != NULL)
            ref_add(ema, i, (1 - (double)record->ema_decay) * (ref_get(value, i) - ref_get(ema, i)));
        if (shadow.data != NULL)
            ref_set(shadow, i, ref_get(value, i));
    }
    return D2C_OK;
}
