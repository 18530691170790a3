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
#include "base/float8.h"
#include "base/half.h"
#include "ops/backend.h"

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
    case D2C_F8:
        return (double)d2c_f8_to_float(((const uint8_t *)t.data)[i]) * *t.scale;
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
D2C_ENTRY(d2c_ref_, linear_forward);
D2C_ENTRY(d2c_ref_, linear_backward_input);
D2C_ENTRY(d2c_ref_, linear_backward_weight);

D2C_ENTRY(d2c_ref_, attention_forward);
D2C_ENTRY(d2c_ref_, attention_backward);

D2C_ENTRY(d2c_ref_, modulate_forward);
D2C_ENTRY(d2c_ref_, modulate_backward);
D2C_ENTRY(d2c_ref_, gate_residual_forward);
D2C_ENTRY(d2c_ref_, gate_residual_backward);
D2C_ENTRY(d2c_ref_, layernorm_forward);
D2C_ENTRY(d2c_ref_, layernorm_backward);

D2C_ENTRY(d2c_ref_, act_forward);
D2C_ENTRY(d2c_ref_, act_backward);
D2C_ENTRY(d2c_ref_, axpby);
D2C_ENTRY(d2c_ref_, cast);
D2C_ENTRY(d2c_ref_, quantize);
D2C_ENTRY(d2c_ref_, add_rows);

D2C_ENTRY(d2c_ref_, gather);
D2C_ENTRY(d2c_ref_, scatter_add);
D2C_ENTRY(d2c_ref_, timestep_embedding);
D2C_ENTRY(d2c_ref_, patchify);
D2C_ENTRY(d2c_ref_, unpatchify);
D2C_ENTRY(d2c_ref_, text_unfold);

D2C_ENTRY(d2c_ref_, draw_normal);
D2C_ENTRY(d2c_ref_, drop_labels);

D2C_ENTRY(d2c_ref_, path_coefficients);
D2C_ENTRY(d2c_ref_, diffuse);
D2C_ENTRY(d2c_ref_, mse_loss);
D2C_ENTRY(d2c_ref_, cosine_loss);
D2C_ENTRY(d2c_ref_, dit_loss);
D2C_ENTRY(d2c_ref_, finish_loss);

D2C_ENTRY(d2c_ref_, gradient_norm);
D2C_ENTRY(d2c_ref_, adamw_step);

D2C_ENTRY(d2c_ref_, rmsnorm_forward);
D2C_ENTRY(d2c_ref_, glu_forward);

D2C_ENTRY(d2c_ref_, conv2d_forward);
D2C_ENTRY(d2c_ref_, groupnorm_forward);
D2C_ENTRY(d2c_ref_, upsample_forward);
D2C_ENTRY(d2c_ref_, pool_forward);

#endif
