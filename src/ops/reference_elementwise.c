/* reference_elementwise.c: activations, sums and conversions. */
#include "ops/reference.h"

#include <math.h>

#define SQRT_2_OVER_PI 0.79788456080286535588
#define SQRT_1_2 0.70710678118654752440
#define SQRT_1_OVER_2PI 0.39894228040143267794
#define GELU_CUBIC 0.044715
#define QUICK 1.702

double
d2c_ref_act(d2c_act act, double x)
{
    switch (act) {
    case D2C_ACT_SILU:
        return x / (1 + exp(-x));
    case D2C_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)));
    case D2C_ACT_GELU_ERF:
        return 0.5 * x * (1 + erf(x * SQRT_1_2));
    case D2C_ACT_RELU:
        return x > 0 || isnan(x) ? x : 0;
    case D2C_ACT_GELU_QUICK:
        return x / (1 + exp(-QUICK * x));
    default:
        return x;
    }
}

double
d2c_ref_act_slope(d2c_act act, double x)
{
    double s;

    switch (act) {
    case D2C_ACT_SILU:
        s = 1 / (1 + exp(-x));
        return s * (1 + x * (1 - s));
    case D2C_ACT_GELU_TANH:
        s = tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
        return 0.5 * (1 + s) + 0.5 * x * (1 - s * s) * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * x * x);
    case D2C_ACT_GELU_ERF:
        return 0.5 * (1 + erf(x * SQRT_1_2)) + x * SQRT_1_OVER_2PI * exp(-0.5 * x * x);
    case D2C_ACT_RELU:
        return x > 0 ? 1 : 0;
    case D2C_ACT_GELU_QUICK:
        s = 1 / (1 + exp(-QUICK * x));
        return s * (1 + QUICK * x * (1 - s));
    default:
        return 1;
    }
}

d2c_status
d2c_ref_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act)
{
    (void)be;
    for (int64_t i = 0; i < x.dim[0]; i++)
        ref_set(y, i, d2c_ref_act(act, ref_get(x, i)));
    return D2C_OK;
}

d2c_status
d2c_ref_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act)
{
    (void)be;
    for (int64_t i = 0; i < x.dim[0]; i++)
        ref_set(dx, i, ref_get(dy, i) * d2c_ref_act_slope(act, ref_get(x, i)));
    return D2C_OK;
}

d2c_status
d2c_ref_glu_forward(d2c_backend *be, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act)
{
    int64_t width = y.dim[1];

    (void)be;
    for (int64_t r = 0; r < y.dim[0]; r++)
        for (int64_t c = 0; c < width; c++)
            ref_set(y, r * width + c,
                    d2c_ref_act(act, ref_get(gate, r * gate.stride[0] + c)) *
                        ref_get(value, r * value.stride[0] + c));
    return D2C_OK;
}

d2c_status
d2c_ref_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b)
{
    (void)be;
    for (int64_t i = 0; i < x.dim[0]; i++)
        ref_set(y, i, a * ref_get(x, i) + (b != 0 ? b * ref_get(y, i) : 0));
    return D2C_OK;
}

d2c_status
d2c_ref_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    (void)be;
    for (int64_t r = 0; r < x.dim[0]; r++)
        for (int64_t c = 0; c < x.dim[1]; c++)
            ref_set(y, r * y.stride[0] + c, ref_get(x, r * x.stride[0] + c));
    return D2C_OK;
}

/* Scale and quotients are f32, as every backend takes them. */
d2c_status
d2c_ref_quantize(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    int64_t count = x.dim[0] * x.dim[1];
    float largest = 0;

    (void)be;
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf((float)ref_get(x, i));

        if (magnitude > largest || isnan(magnitude))
            largest = magnitude;
        if (isnan(largest))
            break;
    }
    *y.scale = largest == 0 ? 1 : largest / D2C_F8_LARGEST;
    for (int64_t i = 0; i < count; i++)
        ((uint8_t *)y.data)[i] = d2c_f8_from_float((float)ref_get(x, i) / *y.scale);
    return D2C_OK;
}

d2c_status
d2c_ref_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows)
{
    int64_t count = rows.dim[0] * rows.dim[1];

    (void)be;
    for (int64_t i = 0; i < x.dim[0] * count; i++)
        ref_add(x, i, ref_get(rows, i % count));
    return D2C_OK;
}
