/*
 * bicubic.c: torch's bicubic interpolation (bicubic.h).
 *
 * Where an output reads is computed in float and by a fused product, as torch does for float tensors: in double a tap on
 * a picture's right or lower side would be weighted otherwise by 1e-5.  Weights and sums are in double; torch rounds them.
 */
#include "image/bicubic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

/* Where the outputs along one axis read: `width` places each, with their weights. */
typedef struct axis {
    int count, width;
    int *place;     /* [count, width] */
    double *weight; /* [count, width] */
} axis;

/* Keys' kernel: 1 at 0; 0 at the other integers and beyond 2. */
static double
kernel(double x, double a)
{
    x = fabs(x);
    if (x <= 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0)
        return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    return 0.0;
}

static int
clamp(int i, int size)
{
    return i < 0 ? 0 : i < size ? i : size - 1;
}

static void
fill_plain(axis *a, int size, float step)
{
    int i, k;

    for (i = 0; i < a->count; i++) {
        float at = fmaf(step, (float)i + 0.5f, -0.5f), below = floorf(at), t = at - below;

        for (k = 0; k < 4; k++) {
            a->place[4 * i + k] = clamp((int)below - 1 + k, size);
            a->weight[4 * i + k] = kernel(t + 1.0 - k, -0.75);
        }
    }
}

/* Weights beyond the last tap stay 0. */
static void
fill_antialias(axis *a, int size, float step)
{
    float stretch = step >= 1.0f ? step : 1.0f, support = 2.0f * stretch;
    int i, k;

    for (i = 0; i < a->count; i++) {
        float center = step * ((float)i + 0.5f);
        double *weight = a->weight + (size_t)i * (size_t)a->width, sum = 0;
        int first = clamp((int)(center - support + 0.5f), size), end = (int)(center + support + 0.5f);

        end = end < size ? end : size;
        for (k = 0; k < end - first && k < a->width; k++) {
            a->place[(size_t)i * (size_t)a->width + (size_t)k] = first + k;
            weight[k] = kernel(((float)(k + first) - center + 0.5f) / stretch, -0.5);
            sum += weight[k];
        }
        for (k = 0; k < a->width && sum != 0; k++)
            weight[k] /= sum;
    }
}

static void
axis_free(axis *a)
{
    free(a->place);
    free(a->weight);
}

static d2c_status
axis_make(axis *a, int count, int size, d2c_bicubic kind, double step, d2c_error *err)
{
    float f = step > 0 ? (float)step : (float)size / (float)count;
    size_t taps;

    memset(a, 0, sizeof *a);
    a->count = count;
    a->width = kind == D2C_BICUBIC_PLAIN ? 4 : 2 * (int)ceilf(2.0f * (f >= 1.0f ? f : 1.0f)) + 1;
    if (d2c_size_mul(&taps, (size_t)count, (size_t)a->width) == 0) {
        a->place = calloc(taps, sizeof *a->place);
        a->weight = calloc(taps, sizeof *a->weight);
    }
    if (a->place == NULL || a->weight == NULL) {
        axis_free(a);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory while resizing");
    }
    (kind == D2C_BICUBIC_PLAIN ? fill_plain : fill_antialias)(a, size, f);
    return D2C_OK;
}

/* out [lines, a->count, width] from in [lines, size, width], along the middle axis. */
static void
resample(float *out, const float *in, int lines, int size, size_t width, const axis *a)
{
    size_t taps = (size_t)a->width, x, k;
    int line, i;

    for (line = 0; line < lines; line++)
        for (i = 0; i < a->count; i++) {
            const float *from = in + (size_t)line * (size_t)size * width;
            float *to = out + ((size_t)line * (size_t)a->count + (size_t)i) * width;
            const double *weight = a->weight + (size_t)i * taps;
            const int *place = a->place + (size_t)i * taps;

            for (x = 0; x < width; x++) {
                double sum = 0;

                for (k = 0; k < taps; k++)
                    sum += weight[k] * from[(size_t)place[k] * width + x];
                to[x] = (float)sum;
            }
        }
}

/* Columns first, then rows. */
static d2c_status
resample_both(float *out, const float *in, int in_height, int in_width, int channels, const axis *rows,
              const axis *columns, d2c_error *err)
{
    size_t line = (size_t)columns->count * (size_t)channels, bytes;
    float *middle = NULL;

    if (d2c_size_mul(&bytes, line, (size_t)in_height * sizeof *middle) == 0)
        middle = malloc(bytes);
    if (middle == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory while resizing");
    resample(middle, in, in_height, in_width, (size_t)channels, columns);
    resample(out, middle, 1, in_height, line, rows);
    free(middle);
    return D2C_OK;
}

d2c_status
d2c_bicubic_resize(float *out, int out_height, int out_width, const float *in, int in_height, int in_width,
                   int channels, d2c_bicubic kind, double step, d2c_error *err)
{
    d2c_status status;
    axis rows, columns;

    D2C_TRY(axis_make(&rows, out_height, in_height, kind, step, err));
    status = axis_make(&columns, out_width, in_width, kind, step, err);
    if (status == D2C_OK) {
        status = resample_both(out, in, in_height, in_width, channels, &rows, &columns, err);
        axis_free(&columns);
    }
    axis_free(&rows);
    return status;
}
