/*
 * resample.c: resizing as PIL does it, to the bit.
 *
 * PIL resamples 8-bit images in two passes, columns first, with weights in fixed point and an 8-bit picture
 * between the passes.  Each output pixel depends on its own weights alone, so a crop of a resized picture is
 * computed without the rest: a window of the output is resampled.
 */
#include "image/image.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "image/codec.h"

#define PRECISION_BITS (32 - 8 - 2) /* 8 bits of result, 2 of headroom for weights below 0 and above 1 */

/* Where an output pixel reads: `count` input pixels from `first`, with their weights. */
typedef struct taps {
    int first, count;
    const int32_t *weight; /* [count] */
    const double *exact;   /* [count]: before they were rounded to fixed point */
} taps;

/* The taps of consecutive output pixels along one axis. */
typedef struct axis {
    taps *tap;       /* [count] */
    int32_t *weight; /* [count * width] */
    double *exact;   /* the same */
    int count;
} axis;

static double
filter_box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double
filter_bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double
filter_bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double
sinc(double x)
{
    return x == 0.0 ? 1.0 : sin(x * M_PI) / (x * M_PI);
}

static double
filter_lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct {
    double (*weight)(double x);
    double support;
} filters[] = {
    [D2C_FILTER_BOX] = {filter_box, 0.5},
    [D2C_FILTER_BILINEAR] = {filter_bilinear, 1.0},
    [D2C_FILTER_BICUBIC] = {filter_bicubic, 2.0},
    [D2C_FILTER_LANCZOS] = {filter_lanczos, 3.0},
};

/* Weights of one output pixel, normalized in double and rounded to fixed point away from zero. */
static void
make_taps(taps *tap, int32_t *weight, double *exact, int in_size, double center, double stretch,
          d2c_filter filter)
{
    double support = filters[filter].support * stretch, sum = 0.0;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5), i;

    first = first < 0 ? 0 : first;
    end = end > in_size ? in_size : end;
    for (i = 0; i < end - first; i++) {
        exact[i] = filters[filter].weight((i + first - center + 0.5) * (1.0 / stretch));
        sum += exact[i];
    }
    for (i = 0; i < end - first; i++) {
        exact[i] = sum != 0.0 ? exact[i] / sum : exact[i];
        weight[i] = (int32_t)((exact[i] < 0 ? -0.5 : 0.5) + exact[i] * (1 << PRECISION_BITS));
    }
    tap->first = first;
    tap->count = end - first;
    tap->weight = weight;
    tap->exact = exact;
}

static void
axis_free(axis *a)
{
    free(a->tap);
    free(a->weight);
    free(a->exact);
}

/* Taps of the output pixels offset .. offset + count - 1 of a line resized from in_size to out_size pixels.
 */
static d2c_status
axis_make(axis *a, int in_size, int64_t out_size, int64_t offset, int count, d2c_filter filter,
          d2c_error *err)
{
    double scale = (double)in_size / (double)out_size, stretch = scale < 1.0 ? 1.0 : scale;
    size_t width = (size_t)ceil(filters[filter].support * stretch) * 2 + 1, weights;
    int i;

    memset(a, 0, sizeof *a);
    a->tap = calloc((size_t)count, sizeof *a->tap);
    if (d2c_size_mul(&weights, width, (size_t)count) == 0) {
        a->weight = calloc(weights, sizeof *a->weight);
        a->exact = calloc(weights, sizeof *a->exact);
    }
    if (a->tap == NULL || a->weight == NULL || a->exact == NULL) {
        axis_free(a);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory while resizing an image");
    }
    a->count = count;
    for (i = 0; i < count; i++)
        make_taps(&a->tap[i], a->weight + (size_t)i * width, a->exact + (size_t)i * width, in_size,
                  ((double)(offset + i) + 0.5) * scale, stretch, filter);
    return D2C_OK;
}

static uint8_t
clip8(int32_t sum)
{
    sum >>= PRECISION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* out[row][i] from in[row0 + row], every row of out. */
static void
resample_columns(d2c_image *out, const d2c_image *in, int row0, const axis *a)
{
    int channels = in->channels, row, i, c, k;

    for (row = 0; row < out->height; row++) {
        const uint8_t *from = in->pixels + (size_t)(row0 + row) * (size_t)in->width * (size_t)channels;
        uint8_t *to = out->pixels + (size_t)row * (size_t)out->width * (size_t)channels;

        for (i = 0; i < a->count; i++)
            for (c = 0; c < channels; c++) {
                const uint8_t *at = from + (size_t)a->tap[i].first * (size_t)channels + c;
                int32_t sum = 1 << (PRECISION_BITS - 1);

                for (k = 0; k < a->tap[i].count; k++)
                    sum += at[k * channels] * a->tap[i].weight[k];
                to[i * channels + c] = clip8(sum);
            }
    }
}

/* out[i] from rows of in, whose first row is row0 of the picture that the taps speak of. */
static void
resample_rows(d2c_image *out, const d2c_image *in, int row0, const axis *a)
{
    size_t stride = (size_t)in->width * (size_t)in->channels, x;
    int i, k;

    for (i = 0; i < a->count; i++) {
        const uint8_t *from = in->pixels + (size_t)(a->tap[i].first - row0) * stride;
        uint8_t *to = out->pixels + (size_t)i * stride;

        for (x = 0; x < stride; x++) {
            int32_t sum = 1 << (PRECISION_BITS - 1);

            for (k = 0; k < a->tap[i].count; k++)
                sum += from[(size_t)k * stride + x] * a->tap[i].weight[k];
            to[x] = clip8(sum);
        }
    }
}

/* A window of a resized picture: the picture's full size, the window's corner in it, and the window's size.
 */
typedef struct window {
    int64_t full_width, full_height, left, top;
    int width, height;
} window;

/* An axis of unchanged size has one tap of weight one, which copies. */
static d2c_status
resize_window(d2c_image *out, const d2c_image *in, window w, d2c_filter filter, d2c_error *err)
{
    axis columns, rows;
    d2c_image middle = {0};
    d2c_status status;
    int row0, row_end;

    memset(out, 0, sizeof *out);
    D2C_TRY(axis_make(&columns, in->width, w.full_width, w.left, w.width,
                      w.full_width == in->width ? D2C_FILTER_BOX : filter, err));
    status = axis_make(&rows, in->height, w.full_height, w.top, w.height,
                       w.full_height == in->height ? D2C_FILTER_BOX : filter, err);
    if (status != D2C_OK) {
        axis_free(&columns);
        return status;
    }
    row0 = rows.tap[0].first;
    row_end = rows.tap[w.height - 1].first + rows.tap[w.height - 1].count;
    status = d2c_image_allocate(&middle, w.width, row_end - row0, in->channels, err);
    if (status == D2C_OK)
        status = d2c_image_allocate(out, w.width, w.height, in->channels, err);
    if (status == D2C_OK) {
        resample_columns(&middle, in, row0, &columns);
        resample_rows(out, &middle, row0, &rows);
    }
    d2c_image_free(&middle);
    axis_free(&columns);
    axis_free(&rows);
    return status;
}

d2c_status
d2c_image_resize(d2c_image *out, const d2c_image *in, int width, int height, d2c_filter filter,
                 d2c_error *err)
{
    memset(out, 0, sizeof *out);
    if (width <= 0 || height <= 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "an image cannot be resized to %d x %d pixels", width,
                        height);
    D2C_TRY(d2c_image_check_size(width, height, D2C_LARGEST_PIXEL_LIMIT, err));
    return resize_window(out, in, (window){width, height, 0, 0, width, height}, filter, err);
}

/* out [rows, width of the taps, channels]; sums in double, as PIL's. */
static void
resample_columns_float(float *out, const d2c_image *in, const axis *a)
{
    int channels = in->channels, row, i, c, k;

    for (row = 0; row < in->height; row++) {
        const uint8_t *from = in->pixels + (size_t)row * (size_t)in->width * (size_t)channels;

        for (i = 0; i < a->count; i++)
            for (c = 0; c < channels; c++) {
                const uint8_t *at = from + (size_t)a->tap[i].first * (size_t)channels + c;
                double sum = 0;

                for (k = 0; k < a->tap[i].count; k++)
                    sum += at[k * channels] * a->tap[i].exact[k];
                *out++ = (float)sum;
            }
    }
}

/* out [rows of the taps, stride] from rows of in [any, stride]. */
static void
resample_rows_float(float *out, const float *in, size_t stride, const axis *a)
{
    size_t x;
    int i, k;

    for (i = 0; i < a->count; i++)
        for (x = 0; x < stride; x++) {
            const float *at = in + (size_t)a->tap[i].first * stride + x;
            double sum = 0;

            for (k = 0; k < a->tap[i].count; k++)
                sum += at[(size_t)k * stride] * a->tap[i].exact[k];
            *out++ = (float)sum;
        }
}

d2c_status
d2c_image_resize_float(float *out, const d2c_image *in, int width, int height, d2c_filter filter,
                       d2c_error *err)
{
    axis columns, rows;
    size_t stride, middle_size;
    float *middle = NULL;
    d2c_status status;

    D2C_TRY(d2c_image_check_size(width, height, D2C_LARGEST_PIXEL_LIMIT, err));
    D2C_TRY(axis_make(&columns, in->width, width, 0, width, filter, err));
    status = axis_make(&rows, in->height, height, 0, height, filter, err);
    if (status != D2C_OK) {
        axis_free(&columns);
        return status;
    }
    stride = (size_t)width * (size_t)in->channels;
    if (d2c_size_mul(&middle_size, stride * sizeof *middle, (size_t)in->height) == 0)
        middle = malloc(middle_size);
    if (middle != NULL) {
        resample_columns_float(middle, in, &columns);
        resample_rows_float(out, middle, stride, &rows);
    } else
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory while resizing an image");
    free(middle);
    axis_free(&columns);
    axis_free(&rows);
    return status;
}

/* Halves by BOX while the short side stays at least `size`; *in is replaced, and *owned tells whether to free
 * it. */
static d2c_status
halve(d2c_image *image, int *owned, int size, d2c_error *err)
{
    while ((image->width < image->height ? image->width : image->height) / 2 >= size) {
        d2c_image half;

        D2C_TRY(d2c_image_resize(&half, image, image->width / 2, image->height / 2, D2C_FILTER_BOX, err));
        if (*owned)
            d2c_image_free(image);
        *image = half;
        *owned = 1;
    }
    return D2C_OK;
}

d2c_status
d2c_image_adm_crop(d2c_image *out, const d2c_image *in, int size, d2c_error *err)
{
    d2c_image from = *in;
    int owned = 0;
    d2c_status status;

    memset(out, 0, sizeof *out);
    if (size <= 0 || size > 16384)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "an image cannot be cropped to %d pixels", size);
    status = halve(&from, &owned, size, err);
    if (status == D2C_OK) {
        double scale = (double)size / (from.width < from.height ? from.width : from.height);
        window w = {(int64_t)rint(from.width * scale), (int64_t)rint(from.height * scale), 0, 0, size, size};

        w.left = (w.full_width - size) / 2;
        w.top = (w.full_height - size) / 2;
        status = resize_window(out, &from, w, D2C_FILTER_BICUBIC, err);
    }
    if (owned)
        d2c_image_free(&from);
    return status;
}

d2c_status
d2c_image_short_edge_crop(d2c_image *out, const d2c_image *in, int edge, int size, d2c_error *err)
{
    int64_t shorter = in->width < in->height ? in->width : in->height;
    window w = {edge * (int64_t)in->width / shorter, edge * (int64_t)in->height / shorter, 0, 0, size, size};

    memset(out, 0, sizeof *out);
    if (size <= 0 || size > edge || edge > 16384)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "an image cannot be cropped to %d pixels", size);
    w.left = (w.full_width - size) / 2;
    w.top = (w.full_height - size) / 2;
    return resize_window(out, in, w, D2C_FILTER_BICUBIC, err);
}

static int
scaled_side(int side, int longest, int edge)
{
    int result = (int)rint((double)side * edge / longest);

    return result < 1 ? 1 : result;
}

d2c_status
d2c_image_thumbnail(d2c_image *out, const d2c_image *in, int edge, d2c_error *err)
{
    int longest = in->width > in->height ? in->width : in->height;

    memset(out, 0, sizeof *out);
    if (edge <= 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a thumbnail's edge must be at least one pixel, not %d",
                        edge);
    if (edge > longest)
        edge = longest;
    return d2c_image_resize(out, in, scaled_side(in->width, longest, edge),
                            scaled_side(in->height, longest, edge), D2C_FILTER_BICUBIC, err);
}
