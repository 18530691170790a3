/* cpu_kernels_element.h: conversions, sums of arrays and activations; a part of cpu_kernels_body.h. */

INLINE void
convert_loop(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) put(y, yt, i, get(x, xt, i));
}

INLINE void
convert_from(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n)
{
    if (xt == D2C_F16)
        convert_loop(y, yt, x, D2C_F16, n);
    else
        WITH_TYPE(XT, xt, convert_loop(y, yt, x, XT, n));
}

static void
kernel_convert(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n)
{
    if (yt == xt)
        memcpy(y, x, (size_t)n * (yt == D2C_F32 ? 4 : 2));
    else if (yt == D2C_F16)
        convert_from(y, D2C_F16, x, xt, n);
    else
        WITH_TYPE(YT, yt, convert_from(y, YT, x, xt, n));
}

static void
kernel_axpby(float *y, float a, const float *x, float b, int64_t n)
{
    if (b == 0.0f) {
        SIMD for (int64_t i = 0; i < n; i++) y[i] = a * x[i];
    } else {
        SIMD for (int64_t i = 0; i < n; i++) y[i] = FMA(a, x[i], b * y[i]);
    }
}

static void
kernel_combine(float *y, float a, const float *x, float b, const float *z, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) y[i] = FMA(a, x[i], b * z[i]);
}

INLINE void
act_loop(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n, d2c_act act)
{
    SIMD for (int64_t i = 0; i < n; i++) put(y, yt, i, act_value(get(x, xt, i), act, yt));
}

INLINE void
act_typed(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n, d2c_act act)
{
    WITH_TYPE(YT, yt, WITH_TYPE(XT, xt, act_loop(y, YT, x, XT, n, act)));
}

static void
kernel_act(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n, d2c_act act)
{
    switch (act) {
    case D2C_ACT_SILU:
        act_typed(y, yt, x, xt, n, D2C_ACT_SILU);
        break;
    case D2C_ACT_GELU_TANH:
        act_typed(y, yt, x, xt, n, D2C_ACT_GELU_TANH);
        break;
    case D2C_ACT_GELU_ERF:
        act_typed(y, yt, x, xt, n, D2C_ACT_GELU_ERF);
        break;
    case D2C_ACT_RELU:
        act_typed(y, yt, x, xt, n, D2C_ACT_RELU);
        break;
    case D2C_ACT_GELU_QUICK:
        act_typed(y, yt, x, xt, n, D2C_ACT_GELU_QUICK);
        break;
    case D2C_ACT_NONE:
        kernel_convert(y, yt, x, xt, n);
        break;
    }
}

INLINE void
act_gradient_loop(void *dx, d2c_dtype dxt, const void *dy, d2c_dtype dyt, const void *x, d2c_dtype xt,
                  int64_t n, d2c_act act)
{
    SIMD for (int64_t i = 0; i < n; i++)
        put(dx, dxt, i, get(dy, dyt, i) * act_slope(get(x, xt, i), act, dxt));
}

/* Only the pairs in which dx and x have one dtype have loops of their own; others are rare. */
INLINE void
act_gradient_typed(void *dx, d2c_dtype dxt, const void *dy, d2c_dtype dyt, const void *x, d2c_dtype xt,
                   int64_t n, d2c_act act)
{
    if (dxt == xt)
        WITH_TYPE(T, xt, WITH_TYPE(DYT, dyt, act_gradient_loop(dx, T, dy, DYT, x, T, n, act)));
    else
        act_gradient_loop(dx, dxt, dy, dyt, x, xt, n, act);
}

static void
kernel_act_gradient(void *dx, d2c_dtype dxt, const void *dy, d2c_dtype dyt, const void *x, d2c_dtype xt,
                    int64_t n, d2c_act act)
{
    switch (act) {
    case D2C_ACT_SILU:
        act_gradient_typed(dx, dxt, dy, dyt, x, xt, n, D2C_ACT_SILU);
        break;
    case D2C_ACT_GELU_TANH:
        act_gradient_typed(dx, dxt, dy, dyt, x, xt, n, D2C_ACT_GELU_TANH);
        break;
    case D2C_ACT_GELU_ERF:
        act_gradient_typed(dx, dxt, dy, dyt, x, xt, n, D2C_ACT_GELU_ERF);
        break;
    case D2C_ACT_RELU:
        act_gradient_typed(dx, dxt, dy, dyt, x, xt, n, D2C_ACT_RELU);
        break;
    case D2C_ACT_GELU_QUICK:
        act_gradient_typed(dx, dxt, dy, dyt, x, xt, n, D2C_ACT_GELU_QUICK);
        break;
    case D2C_ACT_NONE:
        kernel_convert(dx, dxt, dy, dyt, n);
        break;
    }
}
