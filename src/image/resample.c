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

/* Where an output pixel reads: `count` input pixels from `first`. */
typedef struct taps {
    int first, count;
} taps;

/* An output line and what it reads.  The weights of a few output pixels are held at once, those of one at least: a long line
 * that is made short has many for each. */
typedef struct axis {
    int in_size;
    double scale, stretch;
    int64_t offset; /* of the first output pixel in the resized picture */
    int count;      /* output pixels */
    d2c_filter filter;
    size_t width;    /* weights of one output pixel, at most */
    int held;        /* output pixels whose weights are held */
    taps *tap;       /* [held] */
    int32_t *weight; /* [held, width]: rounded to fixed point; or: */
    double *exact;   /* the same before that */
} axis;

#define HELD_WEIGHTS ((size_t)1 << 20)

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

static double
center_of(const axis *a, int i)
{
    return ((double)(a->offset + i) + 0.5) * a->scale;
}

static taps
taps_of(const axis *a, int i)
{
    double center = center_of(a, i), support = filters[a->filter].support * a->stretch;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);

    first = first < 0 ? 0 : first;
    end = end > a->in_size ? a->in_size : end;
    return (taps){first, end - first};
}

static double
weight_of(const axis *a, double center, int at)
{
    return filters[a->filter].weight((at - center + 0.5) * (1.0 / a->stretch));
}

/* Weights of one output pixel, normalized in double and rounded to fixed point away from zero. */
static void
weigh(axis *a, int i, int held)
{
    taps t = taps_of(a, i);
    double center = center_of(a, i), sum = 0.0;
    size_t place = (size_t)held * a->width;
    int k;

    a->tap[held] = t;
    for (k = 0; k < t.count; k++)
        sum += weight_of(a, center, t.first + k);
    for (k = 0; k < t.count; k++) {
        double exact = weight_of(a, center, t.first + k);

        exact = sum != 0.0 ? exact / sum : exact;
        if (a->exact != NULL)
            a->exact[place + (size_t)k] = exact;
        else
            a->weight[place + (size_t)k] =
                (int32_t)((exact < 0 ? -0.5 : 0.5) + exact * (1 << PRECISION_BITS));
    }
}

/* Holds the weights of output pixels from `start` on; returns where those end. */
static int
hold(axis *a, int start)
{
    int end = a->count - start < a->held ? a->count : start + a->held, i;

    for (i = start; i < end; i++)
        weigh(a, i, i - start);
    return end;
}

static void
axis_free(axis *a)
{
    free(a->tap);
    free(a->weight);
    free(a->exact);
}

/* The output pixels offset .. offset + count - 1 of a line resized from in_size to out_size pixels. */
static d2c_status
axis_make(axis *a, int in_size, int64_t out_size, int64_t offset, int count, d2c_filter filter, int exact,
          d2c_error *err)
{
    double scale = (double)in_size / (double)out_size, stretch = scale < 1.0 ? 1.0 : scale;
    size_t width = (size_t)ceil(filters[filter].support * stretch) * 2 + 1;

    *a = (axis){.in_size = in_size,
                .scale = scale,
                .stretch = stretch,
                .offset = offset,
                .count = count,
                .filter = filter,
                .width = width < (size_t)in_size ? width : (size_t)in_size};
    a->held = a->width < HELD_WEIGHTS ? (int)(HELD_WEIGHTS / a->width) : 1;
    a->held = a->held < count ? a->held : count;
    a->tap = malloc((size_t)a->held * sizeof *a->tap);
    if (exact)
        a->exact = calloc((size_t)a->held * a->width, sizeof *a->exact);
    else
        a->weight = calloc((size_t)a->held * a->width, sizeof *a->weight);
    if (a->tap != NULL && (a->weight != NULL || a->exact != NULL))
        return D2C_OK;
    axis_free(a);
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory while resizing an image");
}

static uint8_t
clip8(int32_t sum)
{
    sum >>= PRECISION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* The sum of an output value over input values that lie `step` apart. */
static uint8_t
sum_taps(const uint8_t *from, size_t step, const int32_t *weight, int count)
{
    int32_t sum = 1 << (PRECISION_BITS - 1);
    int k;

    for (k = 0; k < count; k++)
        sum += from[(size_t)k * step] * weight[k];
    return clip8(sum);
}

/* out[row][i] from in[row0 + row], every row of out. */
static void
resample_columns(d2c_image *out, const d2c_image *in, int row0, axis *a)
{
    size_t channels = (size_t)in->channels, c;
    int start, end, row, i;

    for (start = 0; start < a->count; start = end) {
        end = hold(a, start);
        for (row = 0; row < out->height; row++)
            for (i = start; i < end; i++) {
                taps t = a->tap[i - start];
                const uint8_t *from =
                    in->pixels + ((size_t)(row0 + row) * (size_t)in->width + (size_t)t.first) * channels;
                uint8_t *to = out->pixels + ((size_t)row * (size_t)out->width + (size_t)i) * channels;

                for (c = 0; c < channels; c++)
                    to[c] = sum_taps(from + c, channels, a->weight + (size_t)(i - start) * a->width, t.count);
            }
    }
}

/* out[i] from rows of in, whose first row is row0 of the picture that the taps speak of. */
static void
resample_rows(d2c_image *out, const d2c_image *in, int row0, axis *a)
{
    size_t stride = (size_t)in->width * (size_t)in->channels, x;
    int start, end, i;

    for (start = 0; start < a->count; start = end) {
        end = hold(a, start);
        for (i = start; i < end; i++) {
            taps t = a->tap[i - start];
            const uint8_t *from = in->pixels + (size_t)(t.first - row0) * stride;

            for (x = 0; x < stride; x++)
                out->pixels[(size_t)i * stride + x] =
                    sum_taps(from + x, stride, a->weight + (size_t)(i - start) * a->width, t.count);
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
    taps last;
    int row0;

    memset(out, 0, sizeof *out);
    D2C_TRY(axis_make(&columns, in->width, w.full_width, w.left, w.width,
                      w.full_width == in->width ? D2C_FILTER_BOX : filter, 0, err));
    status = axis_make(&rows, in->height, w.full_height, w.top, w.height,
                       w.full_height == in->height ? D2C_FILTER_BOX : filter, 0, err);
    if (status != D2C_OK) {
        axis_free(&columns);
        return status;
    }
    row0 = taps_of(&rows, 0).first;
    last = taps_of(&rows, w.height - 1);
    status = d2c_image_allocate(&middle, w.width, last.first + last.count - row0, in->channels, err);
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

/* out [rows, output pixels, channels]; sums in double, as PIL's. */
static void
resample_columns_float(float *out, const d2c_image *in, axis *a)
{
    size_t channels = (size_t)in->channels, c;
    int start, end, row, i, k;

    for (start = 0; start < a->count; start = end) {
        end = hold(a, start);
        for (row = 0; row < in->height; row++)
            for (i = start; i < end; i++)
                for (c = 0; c < channels; c++) {
                    const double *weight = a->exact + (size_t)(i - start) * a->width;
                    taps t = a->tap[i - start];
                    const uint8_t *from =
                        in->pixels + ((size_t)row * (size_t)in->width + (size_t)t.first) * channels + c;
                    double sum = 0;

                    for (k = 0; k < t.count; k++)
                        sum += from[(size_t)k * channels] * weight[k];
                    out[((size_t)row * (size_t)a->count + (size_t)i) * channels + c] = (float)sum;
                }
    }
}

/* out [output pixels, stride] from rows of in [any, stride]. */
static void
resample_rows_float(float *out, const float *in, size_t stride, axis *a)
{
    size_t x;
    int start, end, i, k;

    for (start = 0; start < a->count; start = end) {
        end = hold(a, start);
        for (i = start; i < end; i++)
            for (x = 0; x < stride; x++) {
                const double *weight = a->exact + (size_t)(i - start) * a->width;
                taps t = a->tap[i - start];
                const float *from = in + (size_t)t.first * stride + x;
                double sum = 0;

                for (k = 0; k < t.count; k++)
                    sum += from[(size_t)k * stride] * weight[k];
                out[(size_t)i * stride + x] = (float)sum;
            }
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
    D2C_TRY(axis_make(&columns, in->width, width, 0, width, filter, 1, err));
    status = axis_make(&rows, in->height, height, 0, height, filter, 1, err);
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
