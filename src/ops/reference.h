/*
 * reference.h: the reference backend: plain C, double sums, one thread.  The oracle of the op tests, so it is written
 * to be read; speed does not matter.
 *
 * Every element is read and written as a double, whatever its tensor's dtype: the same code serves f32, bf16 and, when
 * its table is called directly, f64 for finite differences.
 */
#ifndef D2C_OPS_REFERENCE_H
#define D2C_OPS_REFERENCE_H

#include "base/bf16.h"
#include "base/half.h"
#include "ops/ops.h"

/* Element i, counted in memory order. */
static inline double
ref_get(d2c_tensor t, int64_t i)
{
    switch (t.dtype) {
    case D2C_F64:
        return ((const double *)t.data)[i];
    case D2C_BF16:
        return d2c_bf16_to_float(((const uint16_t *)t.data)[i]);
    case D2C_F16:
        return d2c_half_to_float(((const uint16_t *)t.data)[i]);
    default:
        return ((const float *)t.data)[i];
    }
}

static inline void
ref_set(d2c_tensor t, int64_t i, double value)
{
    switch (t.dtype) {
    case D2C_F64:
        ((double *)t.data)[i] = value;
        break;
    case D2C_BF16:
        ((uint16_t *)t.data)[i] = d2c_bf16_from_float((float)value);
        break;
    case D2C_F16:
        ((uint16_t *)t.data)[i] = d2c_half_from_float((float)value);
        break;
    default:
        ((float *)t.data)[i] = (float)value;
        break;
    }
}

static inline void
ref_add(d2c_tensor t, int64_t i, double value)
{
    ref_set(t, i, ref_get(t, i) + value);
}

/* An activation and its derivative at x. */
double d2c_ref_act(d2c_act act, double x);
double d2c_ref_act_slope(d2c_act act, double x);

/* The entries of the table (ops.h), one file a family. */
d2c_status d2c_ref_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x,
                                  const d2c_weight *w, d2c_act act);
d2c_status d2c_ref_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                                         d2c_tensor pre, d2c_act act, int accumulate);
d2c_status d2c_ref_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x);

d2c_status d2c_ref_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv,
                                     d2c_tensor bias, int heads, float scale);
d2c_status d2c_ref_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o,
                                      d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias, int heads,
                                      float scale);

d2c_status d2c_ref_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                    d2c_tensor shift, d2c_tensor scale, float eps);
d2c_status d2c_ref_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale,
                                     d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor scale);
d2c_status d2c_ref_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate);
d2c_status d2c_ref_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx,
                                          d2c_tensor y, d2c_tensor gate);
d2c_status d2c_ref_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                     d2c_tensor gamma, d2c_tensor beta, float eps);
d2c_status d2c_ref_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta,
                                      d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor gamma);

d2c_status d2c_ref_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act);
d2c_status d2c_ref_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act);
d2c_status d2c_ref_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b);
d2c_status d2c_ref_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x);
d2c_status d2c_ref_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows);

d2c_status d2c_ref_gather(d2c_backend *be, d2c_tensor y, d2c_tensor table, d2c_tensor index);
d2c_status d2c_ref_scatter_add(d2c_backend *be, d2c_tensor dtable, d2c_tensor dy, d2c_tensor index);
d2c_status d2c_ref_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t);
d2c_status d2c_ref_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order);
d2c_status d2c_ref_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order);
d2c_status d2c_ref_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask);
d2c_status d2c_ref_masked_mean(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask);

d2c_status d2c_ref_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                               int purpose);
d2c_status d2c_ref_draw_uniform(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                                int purpose);
d2c_status d2c_ref_drop_labels(d2c_backend *be, d2c_tensor kept, d2c_tensor keep, d2c_tensor label,
                               uint64_t seed, d2c_tensor id, d2c_tensor epoch, float probability,
                               int64_t null_label);

d2c_status d2c_ref_path_coefficients(d2c_backend *be, d2c_tensor coefficient, d2c_tensor t, d2c_path path);
d2c_status d2c_ref_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                           d2c_tensor coefficient);
d2c_status d2c_ref_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                            const d2c_step_record *record);
d2c_status d2c_ref_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q,
                               float weight, const d2c_step_record *record);
d2c_status d2c_ref_finish_loss(d2c_backend *be, d2c_step_record *record, d2c_tensor loss);

d2c_status d2c_ref_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad);
d2c_status d2c_ref_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                              d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                              const d2c_step_record *record);

#endif
