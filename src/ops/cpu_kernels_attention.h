/* cpu_kernels_attention.h: the rows between attention's matrix products; a part of cpu_kernels_body.h. */

/* The largest of a row's scores; what lies behind them up to the stride becomes -inf. */
INLINE float
row_maximum(float *s, int64_t cols, int64_t stride)
{
    float top = -__builtin_inff();

    SIMD for (int64_t j = cols; j < stride; j++) s[j] = -__builtin_inff();
    SIMD_MAX(top)
    for (int64_t j = 0; j < stride; j++)
        top = s[j] > top ? s[j] : top;
    return top;
}

/* s = scale * s + bias, bias NULL: 0. */
INLINE void
finish_scores(float *s, const float *bias, float scale, int64_t cols)
{
    SIMD for (int64_t j = 0; j < cols; j++) s[j] = FMA(scale, s[j], bias == NULL ? 0.0f : bias[j]);
}

/* A positive scale is applied within the exponential, everything else before. */
INLINE void
softmax_rows(void *p, d2c_dtype pt, float *lse, float *inverse, float *s, const float *bias,
             int64_t bias_stride, float scale, int64_t rows, int64_t cols, int64_t stride)
{
    int finish = bias != NULL || !(scale > 0.0f);
    float within = finish ? 1.0f : scale;

    for (int64_t i = 0; i < rows; i++) {
        float *row = s + i * stride, top, sum = 0.0f;
        int64_t at = i * stride;

        if (finish)
            finish_scores(row, bias == NULL ? NULL : bias + i * bias_stride, scale, cols);
        top = within * row_maximum(row, cols, stride);
        SIMD_SUM(sum)
        for (int64_t j = 0; j < stride; j++) {
            float e = exp_approx(FMA(within, row[j], -top), pt);

            sum += e;
            put(p, pt, at + j, e);
        }
        lse[i] = top;
        inverse[i] = sum;
    }
    SIMD for (int64_t i = 0; i < rows; i++)
    {
        lse[i] += log_approx(inverse[i]);
        inverse[i] = 1.0f / inverse[i];
    }
}

static void
kernel_softmax(void *p, d2c_dtype pt, float *lse, float *inverse, float *s, const float *bias,
               int64_t bias_stride, float scale, int64_t rows, int64_t cols, int64_t stride)
{
    WITH_TYPE(PT, pt, softmax_rows(p, PT, lse, inverse, s, bias, bias_stride, scale, rows, cols, stride));
}

/* One row of transposed scores: a key's with every query. */
INLINE void
softmax_gradient_row(void *p, void *ds, d2c_dtype pt, const float *s, const float *dp, const float *lse,
                     const float *delta, float scale, int64_t at, int64_t stride)
{
    SIMD for (int64_t i = 0; i < stride; i++)
    {
        float e = exp_approx(FMA(scale, s[at + i], -lse[i]), pt);

        put(p, pt, at + i, e);
        put(ds, pt, at + i, scale * e * (dp[at + i] - delta[i]));
    }
}

/* The same with a bias, whose queries are rows; padded queries have none. */
INLINE void
softmax_gradient_biased(void *p, void *ds, d2c_dtype pt, const float *s, const float *dp, const float *bias,
                        int64_t bias_stride, const float *lse, const float *delta, float scale, int64_t at,
                        int64_t rows, int64_t stride)
{
    for (int64_t i = 0; i < stride; i++) {
        float b = i < rows ? bias[i * bias_stride] : 0.0f;
        float e = exp_approx(FMA(scale, s[at + i], b - lse[i]), pt);

        put(p, pt, at + i, e);
        put(ds, pt, at + i, scale * e * (dp[at + i] - delta[i]));
    }
}

INLINE void
softmax_gradient_rows(void *p, void *ds, d2c_dtype pt, const float *s, const float *dp, const float *bias,
                      int64_t bias_stride, const float *lse, const float *delta, float scale, int64_t rows,
                      int64_t cols, int64_t stride)
{
    for (int64_t j = 0; j < cols; j++)
        if (bias == NULL)
            softmax_gradient_row(p, ds, pt, s, dp, lse, delta, scale, j * stride, stride);
        else
            softmax_gradient_biased(p, ds, pt, s, dp, bias + j, bias_stride, lse, delta, scale, j * stride,
                                    rows, stride);
}

static void
kernel_softmax_gradient(void *p, void *ds, d2c_dtype pt, const float *s, const float *dp, const float *bias,
                        int64_t bias_stride, const float *lse, const float *delta, float scale, int64_t rows,
                        int64_t cols, int64_t stride)
{
    WITH_TYPE(
        PT, pt,
        softmax_gradient_rows(p, ds, PT, s, dp, bias, bias_stride, lse, delta, scale, rows, cols, stride));
}

INLINE void
scale_rows_typed(d2c_rows_out y, d2c_dtype yt, d2c_rows_in x, d2c_dtype xt, const float *factor, int64_t rows,
                 int64_t c)
{
    for (int64_t row = 0; row < rows; row++) {
        float f = factor == NULL ? 1.0f : factor[row];

        SIMD for (int64_t i = 0; i < c; i++)
            put(y.data, yt, row * y.stride + i, f * get(x.data, xt, row * x.stride + i));
    }
}

static void
kernel_scale_rows(d2c_rows_out y, d2c_rows_in x, const float *factor, int64_t rows, int64_t c)
{
    WITH_TYPE(YT, y.dtype, WITH_TYPE(XT, x.dtype, scale_rows_typed(y, YT, x, XT, factor, rows, c)));
}

INLINE void
row_dot_typed(float *dot, d2c_rows_in x, d2c_dtype xt, d2c_rows_in y, d2c_dtype yt, int64_t rows, int64_t c)
{
    for (int64_t row = 0; row < rows; row++) {
        float sum = 0.0f;

        SIMD_SUM(sum)
        for (int64_t i = 0; i < c; i++)
            sum = FMA(get(x.data, xt, row * x.stride + i), get(y.data, yt, row * y.stride + i), sum);
        dot[row] = sum;
    }
}

static void
kernel_row_dot(float *dot, d2c_rows_in x, d2c_rows_in y, int64_t rows, int64_t c)
{
    WITH_TYPE(XT, x.dtype, WITH_TYPE(YT, y.dtype, row_dot_typed(dot, x, XT, y, YT, rows, c)));
}
