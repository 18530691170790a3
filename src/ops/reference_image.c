/* reference_image.c: convolutions, group norms and pools of images, channels last. */
#include "ops/reference.h"

#include <math.h>

/* Where pixel (row, column) of image b begins, or -1 outside of the image. */
static int64_t
pixel(d2c_tensor x, int64_t b, int64_t row, int64_t column)
{
    if (row < 0 || row >= x.dim[1] || column < 0 || column >= x.dim[2])
        return -1;
    return ((b * x.dim[1] + row) * x.dim[2] + column) * x.dim[3];
}

/* The sum over the window at output pixel (p, q) of image b, for the output channel whose weights begin at `start`. */
static double
convolve(d2c_tensor x, d2c_tensor weight, int64_t start, const d2c_window *w, int64_t b, int64_t p, int64_t q)
{
    double sum = 0;

    for (int i = 0; i < w->height; i++)
        for (int j = 0; j < w->width; j++) {
            int64_t at = pixel(x, b, p * w->stride - w->top + i, q * w->stride - w->left + j);
            int64_t tap = start + ((int64_t)i * w->width + j) * x.dim[3];

            for (int64_t c = 0; at >= 0 && c < x.dim[3]; c++)
                sum += ref_get(x, at + c) * ref_get(weight, tap + c);
        }
    return sum;
}

d2c_status
d2c_ref_conv2d_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_weight *w,
                       const d2c_window *window, d2c_act act)
{
    d2c_tensor weight = x.dtype == D2C_BF16 ? w->shadow : w->value;

    (void)be;
    for (int64_t b = 0; b < y.dim[0]; b++)
        for (int64_t p = 0; p < y.dim[1]; p++)
            for (int64_t q = 0; q < y.dim[2]; q++)
                for (int64_t o = 0; o < y.dim[3]; o++) {
                    double sum = convolve(x, weight, o * weight.dim[1], window, b, p, q);

                    if (w->bias.data != NULL)
                        sum += ref_get(w->bias, o);
                    ref_set(y, pixel(y, b, p, q) + o, d2c_ref_act(act, sum));
                }
    return D2C_OK;
}

/* Mean and 1/deviation of the `width` channels from `start` over all pixels. */
static void
group_statistics(double *mean, double *inverse, d2c_tensor x, int64_t start, int64_t width, double eps)
{
    int64_t pixels = x.dim[1], channels = x.dim[2];
    double sum = 0, square = 0;

    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < width; c++)
            sum += ref_get(x, start + p * channels + c);
    *mean = sum / (double)(pixels * width);
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < width; c++) {
            double centred = ref_get(x, start + p * channels + c) - *mean;

            square += centred * centred;
        }
    *inverse = 1 / sqrt(square / (double)(pixels * width) + eps);
}

d2c_status
d2c_ref_groupnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, d2c_tensor beta,
                          int groups, float eps, d2c_act act)
{
    int64_t pixels = x.dim[1], channels = x.dim[2], width = channels / groups;

    (void)be;
    for (int64_t b = 0; b < x.dim[0]; b++)
        for (int64_t g = 0; g < groups; g++) {
            int64_t start = b * pixels * channels + g * width;
            double mean, inverse;

            group_statistics(&mean, &inverse, x, start, width, eps);
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t c = 0; c < width; c++) {
                    int64_t i = start + p * channels + c;
                    double value = (ref_get(x, i) - mean) * inverse;

                    ref_set(y, i,
                            d2c_ref_act(act, value * ref_get(gamma, g * width + c) +
                                                 ref_get(beta, g * width + c)));
                }
        }
    return D2C_OK;
}

d2c_status
d2c_ref_upsample_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    (void)be;
    for (int64_t b = 0; b < y.dim[0]; b++)
        for (int64_t p = 0; p < y.dim[1]; p++)
            for (int64_t q = 0; q < y.dim[2]; q++)
                for (int64_t c = 0; c < y.dim[3]; c++)
                    ref_set(y, pixel(y, b, p, q) + c, ref_get(x, pixel(x, b, p / 2, q / 2) + c));
    return D2C_OK;
}

/* The maximum or mean of one channel over the window at output pixel (p, q). */
static double
pool(d2c_tensor x, const d2c_window *w, d2c_pool_kind kind, int64_t b, int64_t p, int64_t q, int64_t channel)
{
    double sum = 0, largest = -INFINITY;
    int count = 0;

    for (int i = 0; i < w->height; i++)
        for (int j = 0; j < w->width; j++) {
            int64_t at = pixel(x, b, p * w->stride - w->top + i, q * w->stride - w->left + j);
            double value = at >= 0 ? ref_get(x, at + channel) : 0;

            if (at < 0)
                continue;
            sum += value;
            largest = value > largest || isnan(value) ? value : largest;
            count++;
        }
    return kind == D2C_POOL_MAX ? largest : sum / count;
}

d2c_status
d2c_ref_pool_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_window *window,
                     d2c_pool_kind kind)
{
    (void)be;
    for (int64_t b = 0; b < y.dim[0]; b++)
        for (int64_t p = 0; p < y.dim[1]; p++)
            for (int64_t q = 0; q < y.dim[2]; q++)
                for (int64_t c = 0; c < y.dim[3]; c++)
                    ref_set(y, pixel(y, b, p, q) + c, pool(x, window, kind, b, p, q, c));
    return D2C_OK;
}
