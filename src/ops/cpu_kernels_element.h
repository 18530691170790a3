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
    if (act == D2C_ACT_NONE)
        kernel_convert(y, yt, x, xt, n);
    else
        WITH_ACT(ACT, act, act_typed(y, yt, x, xt, n, ACT));
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
    if (act == D2C_ACT_NONE)
        kernel_convert(dx, dxt, dy, dyt, n);
    else
        WITH_ACT(ACT, act, act_gradient_typed(dx, dxt, dy, dyt, x, xt, n, ACT));
}

INLINE void
glu_rows(d2c_rows_out y, d2c_dtype yt, d2c_rows_in gate, d2c_dtype gt, d2c_rows_in value, d2c_dtype vt,
         int64_t rows, int64_t c, d2c_act act)
{
    for (int64_t row = 0; row < rows; row++) {
        int64_t to = row * y.stride, g = row * gate.stride, v = row * value.stride;

        SIMD for (int64_t i = 0; i < c; i++) put(
            y.data, yt, to + i, act_value(get(gate.data, gt, g + i), act, yt) * get(value.data, vt, v + i));
    }
}

/* Only gates and values of one dtype have loops of their own; others are rare. */
INLINE void
glu_typed(d2c_rows_out y, d2c_rows_in gate, d2c_rows_in value, int64_t rows, int64_t c, d2c_act act)
{
    if (gate.dtype == value.dtype)
        WITH_TYPE(T, gate.dtype, WITH_TYPE(YT, y.dtype, glu_rows(y, YT, gate, T, value, T, rows, c, act)));
    else
        glu_rows(y, y.dtype, gate, gate.dtype, value, value.dtype, rows, c, act);
}

static void
kernel_glu(d2c_rows_out y, d2c_rows_in gate, d2c_rows_in value, int64_t rows, int64_t c, d2c_act act)
{
    WITH_ACT(ACT, act, glu_typed(y, gate, value, rows, c, ACT));
}
