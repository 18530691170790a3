/* cpu_kernels_norm.h: LayerNorm with modulation, gates and sums over rows; a part of cpu_kernels_body.h. */

/* Mean and 1/deviation of a row whose sum is known; the row is in the first cache, so a second pass is cheap. */
INLINE void
row_statistics(float stat[2], float sum, const void *x, d2c_dtype xt, float eps, int64_t c)
{
    float mean = sum / (float)c, square = 0.0f;

    SIMD_SUM(square)
    for (int64_t i = 0; i < c; i++) {
        float d = get(x, xt, i) - mean;

        square = FMA(d, d, square);
    }
    stat[0] = mean;
    stat[1] = 1.0f / __builtin_sqrtf(square / (float)c + eps);
}

/* y = (x - mean) * deviation * (one + mul) + add */
INLINE void
row_normalize(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, const float stat[2], const float *mul,
              const float *add, float one, int64_t c)
{
    float mean = stat[0], r = stat[1];

    if (mul == NULL) {
        SIMD for (int64_t i = 0; i < c; i++) put(y, yt, i, (get(x, xt, i) - mean) * r);
    } else {
        SIMD for (int64_t i = 0; i < c; i++)
            put(y, yt, i, FMA((get(x, xt, i) - mean) * r, one + mul[i], add[i]));
    }
}

INLINE void
norm_rows(d2c_rows_out y, d2c_dtype yt, float *stat, d2c_rows_in x, d2c_dtype xt, const float *mul,
          const float *add, float one, float eps, int64_t rows, int64_t c)
{
    size_t ys = (size_t)y.stride * (yt == D2C_BF16 ? 2 : 4), xs = (size_t)x.stride * (xt == D2C_BF16 ? 2 : 4);

    for (int64_t row = 0; row < rows; row++) {
        const void *from = (const char *)x.data + (size_t)row * xs;
        float sum = 0.0f, s[2];

        SIMD_SUM(sum)
        for (int64_t i = 0; i < c; i++)
            sum += get(from, xt, i);
        row_statistics(s, sum, from, xt, eps, c);
        row_normalize((char *)y.data + (size_t)row * ys, yt, from, xt, s, mul, add, one, c);
        if (stat != NULL)
            memcpy(stat + 2 * row, s, sizeof s);
    }
}

static void
kernel_norm(d2c_rows_out y, float *stat, d2c_rows_in x, const float *mul, const float *add, float one,
            float eps, int64_t rows, int64_t c)
{
    WITH_TYPE(YT, y.dtype,
              WITH_TYPE(XT, x.dtype, norm_rows(y, YT, stat, x, XT, mul, add, one, eps, rows, c)));
}

INLINE void
rms_rows(d2c_rows_out y, d2c_dtype yt, d2c_rows_in x, d2c_dtype xt, const float *gamma, float eps,
         int64_t rows, int64_t c)
{
    for (int64_t row = 0; row < rows; row++) {
        float square = 0.0f, r;

        SIMD_SUM(square)
        for (int64_t i = 0; i < c; i++) {
            float v = get(x.data, xt, row * x.stride + i);

            square = FMA(v, v, square);
        }
        r = 1.0f / __builtin_sqrtf(square / (float)c + eps);
        SIMD for (int64_t i = 0; i < c; i++)
            put(y.data, yt, row * y.stride + i, get(x.data, xt, row * x.stride + i) * r * gamma[i]);
    }
}

static void
kernel_rms(d2c_rows_out y, d2c_rows_in x, const float *gamma, float eps, int64_t rows, int64_t c)
{
    WITH_TYPE(YT, y.dtype, WITH_TYPE(XT, x.dtype, rms_rows(y, YT, x, XT, gamma, eps, rows, c)));
}

INLINE void
gate_norm_rows(float *out, d2c_rows_out h, d2c_dtype ht, float *stat, const float *x, d2c_rows_in y,
               d2c_dtype yt, const float *gate, const float *scale, const float *shift, float eps,
               int64_t rows, int64_t c)
{
    for (int64_t row = 0; row < rows; row++) {
        const void *add = (const char *)y.data + (size_t)(row * y.stride) * (yt == D2C_BF16 ? 2 : 4);
        void *to = (char *)h.data + (size_t)(row * h.stride) * (ht == D2C_BF16 ? 2 : 4);
        const float *from = x + row * c;
        float *sum_row = out + row * c, sum = 0.0f;

        SIMD_SUM(sum)
        for (int64_t i = 0; i < c; i++) {
            float v = FMA(gate[i], get(add, yt, i), from[i]);

            sum_row[i] = v;
            sum += v;
        }
        row_statistics(stat + 2 * row, sum, sum_row, D2C_F32, eps, c);
        row_normalize(to, ht, sum_row, D2C_F32, stat + 2 * row, scale, shift, 1.0f, c);
    }
}

static void
kernel_gate_norm(float *out, d2c_rows_out h, float *stat, const float *x, d2c_rows_in y, const float *gate,
                 const float *scale, const float *shift, float eps, int64_t rows, int64_t c)
{
    WITH_TYPE(
        HT, h.dtype,
        WITH_TYPE(YT, y.dtype, gate_norm_rows(out, h, HT, stat, x, y, YT, gate, scale, shift, eps, rows, c)));
}

/* work [c] = dy * (one + mul), the gradient of the normalised row; sums of it, and of it times the normalised row. */
INLINE void
norm_gradient_sums(float *sum, float *dot, float *work, float *dmul, float *dadd, const void *dy,
                   d2c_dtype dyt, const void *x, d2c_dtype xt, const float stat[2], const float *mul,
                   float one, int64_t c)
{
    float mean = stat[0], r = stat[1], s = 0.0f, d = 0.0f;

    if (dmul != NULL) {
        SIMD_SUM(s, d)
        for (int64_t i = 0; i < c; i++) {
            float g = get(dy, dyt, i), xhat = (get(x, xt, i) - mean) * r, w = g * (one + mul[i]);

            dadd[i] += g;
            dmul[i] = FMA(g, xhat, dmul[i]);
            work[i] = w;
            s += w;
            d = FMA(w, xhat, d);
        }
    } else {
        SIMD_SUM(s, d)
        for (int64_t i = 0; i < c; i++) {
            float xhat = (get(x, xt, i) - mean) * r,
                  w = get(dy, dyt, i) * (mul == NULL ? 1.0f : one + mul[i]);

            work[i] = w;
            s += w;
            d = FMA(w, xhat, d);
        }
    }
    *sum = s;
    *dot = d;
}

/* dx (+)= r * (work - mean(work) - xhat * mean(work * xhat)) */
INLINE void
norm_gradient_row(void *dx, d2c_dtype dxt, int accumulate, const float *work, float sum, float dot,
                  const void *x, d2c_dtype xt, const float stat[2], int64_t c)
{
    float mean = stat[0], r = stat[1], a = r * sum / (float)c, b = r * r * dot / (float)c;

    if (accumulate) {
        SIMD for (int64_t i = 0; i < c; i++)
            put(dx, dxt, i, get(dx, dxt, i) + FMA(mean - get(x, xt, i), b, FMA(r, work[i], -a)));
    } else {
        SIMD for (int64_t i = 0; i < c; i++)
            put(dx, dxt, i, FMA(mean - get(x, xt, i), b, FMA(r, work[i], -a)));
    }
}

INLINE void
norm_gradient_rows(d2c_rows_out dx, d2c_dtype dxt, int accumulate, float *dmul, float *dadd, d2c_rows_in dy,
                   d2c_dtype dyt, d2c_rows_in x, d2c_dtype xt, const float *stat, const float *mul, float one,
                   float *work, int64_t rows, int64_t c)
{
    for (int64_t row = 0; row < rows; row++) {
        const void *g = (const char *)dy.data + (size_t)(row * dy.stride) * (dyt == D2C_BF16 ? 2 : 4);
        const void *from = (const char *)x.data + (size_t)(row * x.stride) * (xt == D2C_BF16 ? 2 : 4);
        void *to = (char *)dx.data + (size_t)(row * dx.stride) * (dxt == D2C_BF16 ? 2 : 4);
        float sum, dot;

        norm_gradient_sums(&sum, &dot, work, dmul, dadd, g, dyt, from, xt, stat + 2 * row, mul, one, c);
        norm_gradient_row(to, dxt, accumulate, work, sum, dot, from, xt, stat + 2 * row, c);
    }
}

static void
kernel_norm_gradient(d2c_rows_out dx, int accumulate, float *dmul, float *dadd, d2c_rows_in dy, d2c_rows_in x,
                     const float *stat, const float *mul, float one, float *work, int64_t rows, int64_t c)
{
    WITH_TYPE(DXT, dx.dtype,
              WITH_TYPE(DYT, dy.dtype,
                        WITH_TYPE(XT, x.dtype,
                                  norm_gradient_rows(dx, DXT, accumulate, dmul, dadd, dy, DYT, x, XT, stat,
                                                     mul, one, work, rows, c))));
}

INLINE void
gate_rows(float *x, d2c_rows_in y, d2c_dtype yt, const float *gate, int64_t rows, int64_t c)
{
    for (int64_t row = 0; row < rows; row++) {
        const void *add = (const char *)y.data + (size_t)(row * y.stride) * (yt == D2C_BF16 ? 2 : 4);
        float *to = x + row * c;

        SIMD for (int64_t i = 0; i < c; i++) to[i] = FMA(gate[i], get(add, yt, i), to[i]);
    }
}

static void
kernel_gate(float *x, d2c_rows_in y, const float *gate, int64_t rows, int64_t c)
{
    WITH_TYPE(YT, y.dtype, gate_rows(x, y, YT, gate, rows, c));
}

INLINE void
gate_gradient_rows(d2c_rows_out dy, d2c_dtype dyt, float *dgate, const float *dx, d2c_rows_in y, d2c_dtype yt,
                   const float *gate, int64_t rows, int64_t c)
{
    for (int64_t row = 0; row < rows; row++) {
        const void *kept = (const char *)y.data + (size_t)(row * y.stride) * (yt == D2C_BF16 ? 2 : 4);
        void *to = (char *)dy.data + (size_t)(row * dy.stride) * (dyt == D2C_BF16 ? 2 : 4);
        const float *g = dx + row * c;

        SIMD for (int64_t i = 0; i < c; i++)
        {
            dgate[i] = FMA(g[i], get(kept, yt, i), dgate[i]);
            put(to, dyt, i, gate[i] * g[i]);
        }
    }
}

static void
kernel_gate_gradient(d2c_rows_out dy, float *dgate, const float *dx, d2c_rows_in y, const float *gate,
                     int64_t rows, int64_t c)
{
    WITH_TYPE(DYT, dy.dtype,
              WITH_TYPE(YT, y.dtype, gate_gradient_rows(dy, DYT, dgate, dx, y, YT, gate, rows, c)));
}

/* Four rows at a time, so that the sums are read and written once for four. */
INLINE void
column_sum_rows(float *sum, const void *x, d2c_dtype xt, int64_t stride, int64_t rows, int64_t c)
{
    int64_t row = 0;

    for (; row + 4 <= rows; row += 4) {
        int64_t at = row * stride;

        SIMD for (int64_t i = 0; i < c; i++) sum[i] +=
            (get(x, xt, at + i) + get(x, xt, at + stride + i)) +
            (get(x, xt, at + 2 * stride + i) + get(x, xt, at + 3 * stride + i));
    }
    for (; row < rows; row++) {
        SIMD for (int64_t i = 0; i < c; i++) sum[i] += get(x, xt, row * stride + i);
    }
}

static void
kernel_column_sum(float *sum, d2c_rows_in x, int64_t rows, int64_t c)
{
    WITH_TYPE(XT, x.dtype, column_sum_rows(sum, x.data, XT, x.stride, rows, c));
}
