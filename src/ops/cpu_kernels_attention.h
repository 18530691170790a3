/* cpu_kernels_attention.h: the rows between attention's matrix products; a part of cpu_kernels_body.h. */

/* s = scale * s + bias; returns the largest. */
INLINE float
scores_row(float *s, const float *bias, float scale, int64_t cols)
{
    float top = -__builtin_inff();

    if (bias == NULL) {
        SIMD_MAX(top)
        for (int64_t j = 0; j < cols; j++) {
            s[j] *= scale;
            top = s[j] > top ? s[j] : top;
        }
    } else {
        SIMD_MAX(top)
        for (int64_t j = 0; j < cols; j++) {
            s[j] = FMA(scale, s[j], bias[j]);
            top = s[j] > top ? s[j] : top;
        }
    }
    return top;
}

INLINE void
softmax_rows(void *p, d2c_dtype pt, float *lse, float *inverse, float *s, const float *bias,
             int64_t bias_stride, float scale, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
        float *row = s + i * cols;
        float top = scores_row(row, bias == NULL ? NULL : bias + i * bias_stride, scale, cols), sum = 0.0f;
        int64_t at = i * cols;

        SIMD_SUM(sum)
        for (int64_t j = 0; j < cols; j++) {
            float e = exp_approx(row[j] - top, pt);

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
               int64_t bias_stride, float scale, int64_t rows, int64_t cols)
{
    WITH_TYPE(PT, pt, softmax_rows(p, PT, lse, inverse, s, bias, bias_stride, scale, rows, cols));
}

INLINE void
softmax_gradient_rows(void *p, void *ds, d2c_dtype pt, const float *s, const float *dp, const float *bias,
                      int64_t bias_stride, const float *lse, const float *delta, float scale, int64_t rows,
                      int64_t cols)
{
    for (int64_t j = 0; j < cols; j++) {
        int64_t at = j * rows;

        SIMD for (int64_t i = 0; i < rows; i++)
        {
            float b = bias == NULL ? 0.0f : bias[i * bias_stride + j];
            float e = exp_approx(FMA(scale, s[at + i], b - lse[i]), pt);

            put(p, pt, at + i, e);
            put(ds, pt, at + i, scale * e * (dp[at + i] - delta[i]));
        }
    }
}

static void
kernel_softmax_gradient(void *p, void *ds, d2c_dtype pt, const float *s, const float *dp, const float *bias,
                        int64_t bias_stride, const float *lse, const float *delta, float scale, int64_t rows,
                        int64_t cols)
{
    if (bias == NULL)
        WITH_TYPE(PT, pt, softmax_gradient_rows(p, ds, PT, s, dp, NULL, 0, lse, delta, scale, rows, cols));
    else
        WITH_TYPE(PT, pt,
                  softmax_gradient_rows(p, ds, PT, s, dp, bias, bias_stride, lse, delta, scale, rows, cols));
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
