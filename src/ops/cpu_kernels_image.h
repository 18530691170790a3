/* cpu_kernels_image.h: sums over pixels and windows, channels last; a part of cpu_kernels_body.h. */

/* Four rows at a time, so that the sums are read and written once for four. */
INLINE void
moment_rows(float *shift, float *sum, float *square, const void *x, d2c_dtype xt, int64_t rows, int64_t c)
{
    int64_t row = 0;

    SIMD for (int64_t i = 0; i < c; i++)
    {
        shift[i] = get(x, xt, i);
        sum[i] = square[i] = 0.0f;
    }
    for (; row + 4 <= rows; row += 4) {
        SIMD for (int64_t i = 0; i < c; i++)
        {
            float s0 = get(x, xt, row * c + i) - shift[i], s1 = get(x, xt, (row + 1) * c + i) - shift[i];
            float s2 = get(x, xt, (row + 2) * c + i) - shift[i],
                  s3 = get(x, xt, (row + 3) * c + i) - shift[i];

            sum[i] += (s0 + s1) + (s2 + s3);
            square[i] += FMA(s0, s0, s1 * s1) + FMA(s2, s2, s3 * s3);
        }
    }
    for (; row < rows; row++) {
        SIMD for (int64_t i = 0; i < c; i++)
        {
            float s = get(x, xt, row * c + i) - shift[i];

            sum[i] += s;
            square[i] = FMA(s, s, square[i]);
        }
    }
}

static void
kernel_moments(float *shift, float *sum, float *square, const void *x, d2c_dtype xt, int64_t rows, int64_t c)
{
    WITH_TYPE(XT, xt, moment_rows(shift, sum, square, x, XT, rows, c));
}

INLINE void
normalize_rows(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, const float *mean, const float *mul,
               const float *add, int64_t rows, int64_t c, d2c_act act)
{
    for (int64_t row = 0; row < rows; row++) {
        SIMD for (int64_t i = 0; i < c; i++) put(
            y, yt, row * c + i, act_value(FMA(get(x, xt, row * c + i) - mean[i], mul[i], add[i]), act, yt));
    }
}

static void
kernel_normalize(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, const float *mean, const float *mul,
                 const float *add, int64_t rows, int64_t c, d2c_act act)
{
    WITH_ACT(
        ACT, act,
        WITH_TYPE(YT, yt, WITH_TYPE(XT, xt, normalize_rows(y, YT, x, XT, mean, mul, add, rows, c, ACT))));
}

#define POOL_CHANNELS 256 /* sums of so many stay in the first cache */

/* Of a window's pixels, `rows` by `columns`, some channels. */
INLINE void
pool_channels(void *y, const void *x, d2c_dtype type, int64_t at, int64_t n, int64_t rows, int64_t columns,
              int64_t row_stride, int64_t c, d2c_pool_kind kind)
{
    float kept[POOL_CHANNELS], factor = kind == D2C_POOL_MEAN ? 1.0f / (float)(rows * columns) : 1.0f;

    SIMD for (int64_t i = 0; i < n; i++) kept[i] = kind == D2C_POOL_MEAN ? 0.0f : -__builtin_inff();
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++) {
            int64_t pixel = row * row_stride + column * c + at;

            SIMD for (int64_t i = 0; i < n; i++)
            {
                float v = get(x, type, pixel + i), larger = v > kept[i] || v != v ? v : kept[i];

                kept[i] = kind == D2C_POOL_MEAN ? kept[i] + v : larger;
            }
        }
    SIMD for (int64_t i = 0; i < n; i++) put(y, type, at + i, kept[i] * factor);
}

INLINE void
pool_typed(void *y, const void *x, d2c_dtype type, int64_t rows, int64_t columns, int64_t row_stride,
           int64_t c, d2c_pool_kind kind)
{
    for (int64_t at = 0; at < c; at += POOL_CHANNELS)
        pool_channels(y, x, type, at, c - at < POOL_CHANNELS ? c - at : POOL_CHANNELS, rows, columns,
                      row_stride, c, kind);
}

static void
kernel_pool(void *y, const void *x, d2c_dtype type, int64_t rows, int64_t columns, int64_t row_stride,
            int64_t c, d2c_pool_kind kind)
{
    if (kind == D2C_POOL_MEAN)
        WITH_TYPE(T, type, pool_typed(y, x, T, rows, columns, row_stride, c, D2C_POOL_MEAN));
    else
        WITH_TYPE(T, type, pool_typed(y, x, T, rows, columns, row_stride, c, D2C_POOL_MAX));
}
