/* cpu_kernels_train.h: draws, losses and the optimizer; a part of cpu_kernels_body.h. */

/* Whole blocks of four, the last one perhaps cut. */
static void
kernel_normal(float *y, uint64_t seed, uint64_t id, uint32_t stream, int64_t n)
{
    int64_t whole = n / 4;
    float last[4];

    SIMD for (int64_t i = 0; i < whole; i++)
        d2c_philox_normal4(y + 4 * i, d2c_philox(seed, (uint32_t)i, id, stream));
    if (n % 4 != 0) {
        d2c_philox_normal4(last, d2c_philox(seed, (uint32_t)whole, id, stream));
        memcpy(y + 4 * whole, last, (size_t)(n % 4) * sizeof(float));
    }
}

/* Sums of long arrays: f32 lanes over a short piece, doubles over the pieces. */
#define SUM_PIECE 1024

static double
kernel_square_error(float *dv, const float *v, const float *target, float factor, int64_t n)
{
    double total = 0.0;

    for (int64_t start = 0; start < n; start += SUM_PIECE) {
        int64_t end = n - start < SUM_PIECE ? n : start + SUM_PIECE;
        float sum = 0.0f;

        if (dv != NULL) {
            SIMD for (int64_t i = start; i < end; i++) dv[i] = factor * (v[i] - target[i]);
        }
        SIMD_SUM(sum)
        for (int64_t i = start; i < end; i++) {
            float d = v[i] - target[i];

            sum = FMA(d, d, sum);
        }
        total += sum;
    }
    return total;
}

/* With s the logarithm of the variance over the least one, the divergence is (s - 1 + e^-s (1 + square error^2)) / 2 nats. */
static double
kernel_dit_error(float *dv, const float *v, const float *noise, float square, float range, float scale,
                 int64_t n)
{
    const float bits = 1.44269504088896341f;
    float half = 0.5f * range, by_noise = 2.0f * scale, by_fraction = 0.25f * range * bits * scale;
    double total = 0.0;

    for (int64_t start = 0; start < n; start += SUM_PIECE) {
        int64_t end = n - start < SUM_PIECE ? n : start + SUM_PIECE;
        float sum = 0.0f;

        SIMD_SUM(sum)
        for (int64_t i = start; i < end; i++) {
            float d = v[i] - noise[i], s = FMA(half, v[n + i], half);
            float g = exp_approx(-s, D2C_F32) * FMA(square * d, d, 1.0f);

            sum += FMA(d, d, 0.5f * bits * (s - 1.0f + g));
        }
        if (dv != NULL) {
            SIMD for (int64_t i = start; i < end; i++)
            {
                float d = v[i] - noise[i], s = FMA(half, v[n + i], half);

                dv[i] = by_noise * d;
                dv[n + i] = by_fraction * (1.0f - exp_approx(-s, D2C_F32) * FMA(square * d, d, 1.0f));
            }
        }
        total += sum;
    }
    return total;
}

static double
kernel_square_sum(const float *x, int64_t n)
{
    double total = 0.0;

    for (int64_t start = 0; start < n; start += SUM_PIECE) {
        int64_t end = n - start < SUM_PIECE ? n : start + SUM_PIECE;
        float sum = 0.0f;

        SIMD_SUM(sum)
        for (int64_t i = start; i < end; i++)
            sum = FMA(x[i], x[i], sum);
        total += sum;
    }
    return total;
}

/* With a = |z| and b = |q|, at least 1e-12: cos = z.q / (a b), and its gradient (q / b - cos z / a) / a; where z was
 * raised to the limit its norm is a constant and the second term is missing. */
INLINE double
cosine_row(void *dz, d2c_dtype dzt, const void *z, d2c_dtype zt, const void *q, d2c_dtype qt, float factor,
           int64_t n)
{
    float zz = 0.0f, qq = 0.0f, zq = 0.0f, a, b, cosine, from_q, from_z;

    SIMD_SUM(zz, qq, zq)
    for (int64_t i = 0; i < n; i++) {
        float u = get(z, zt, i), v = get(q, qt, i);

        zz = FMA(u, u, zz);
        qq = FMA(v, v, qq);
        zq = FMA(u, v, zq);
    }
    a = __builtin_sqrtf(zz);
    b = __builtin_sqrtf(qq) > 1e-12f ? __builtin_sqrtf(qq) : 1e-12f;
    from_z = a > 1e-12f ? factor * zq / b / (a * zz) : 0.0f;
    a = a > 1e-12f ? a : 1e-12f;
    from_q = factor / a / b;
    cosine = zq / a / b;
    if (dz != NULL) {
        SIMD for (int64_t i = 0; i < n; i++)
            put(dz, dzt, i, FMA(from_q, get(q, qt, i), -from_z * get(z, zt, i)));
    }
    return cosine;
}

INLINE double
cosine_typed(void *dz, d2c_dtype dzt, const void *z, d2c_dtype zt, const void *q, d2c_dtype qt, float factor,
             int64_t n)
{
    if (qt == D2C_F16)
        return cosine_row(dz, dzt, z, zt, q, D2C_F16, factor, n);
    WITH_TYPE(QT, qt, return cosine_row(dz, dzt, z, zt, q, QT, factor, n));
}

static double
kernel_cosine(void *dz, d2c_dtype dzt, const void *z, d2c_dtype zt, const void *q, d2c_dtype qt, float factor,
              int64_t n)
{
    WITH_TYPE(DZT, dzt, WITH_TYPE(ZT, zt, return cosine_typed(dz, DZT, z, ZT, q, qt, factor, n)));
}

/* torch's AdamW or Adam: decay by the old value, eps outside the root, after the corrections. */
static void
kernel_adamw(const d2c_adamw_range *range, const d2c_adamw *setting, const d2c_step_record *record)
{
    float lr = record->learning_rate, clip = record->clip_scale, b1 = setting->beta1, b2 = setting->beta2;
    float step = lr / record->bias_correction1, root = 1.0f / __builtin_sqrtf(record->bias_correction2);
    float joined = setting->coupled ? setting->weight_decay : 0.0f;
    float keep = 1.0f - lr * (setting->weight_decay - joined), eps = setting->eps,
          follow = 1.0f - record->ema_decay;
    float *value = range->value, *m = range->m, *v = range->v, *ema = range->ema;
    const float *grad = range->grad;

    SIMD for (int64_t i = 0; i < range->n; i++)
    {
        float g = FMA(joined, value[i], grad[i] * clip);
        float m1 = FMA(b1, m[i], (1.0f - b1) * g), v1 = FMA(b2, v[i], (1.0f - b2) * g * g);

        m[i] = m1;
        v[i] = v1;
        value[i] = FMA(value[i], keep, -step * m1 / FMA(__builtin_sqrtf(v1), root, eps));
    }
    if (ema != NULL) {
        SIMD for (int64_t i = 0; i < range->n; i++) ema[i] = FMA(follow, value[i] - ema[i], ema[i]);
    }
    if (range->shadow != NULL)
        kernel_convert(range->shadow, D2C_BF16, value, D2C_F32, range->n);
}
