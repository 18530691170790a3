/*
 * nearest.c: nearest training images by blocked matrix products.
 *
 * |a - b|^2 = |a|^2 + |b|^2 - 2 a.b in single precision finds the candidates; whatever its rounding could hide is
 * computed again in whole numbers, so the result is exact and does not depend on threads or libraries.
 */
#include "eval/nearest.h"

#include <dnnl.h>
#include <math.h>
#include <stdlib.h>

#define SAMPLE_ROWS 512
#define TRAIN_ROWS 1024

typedef struct workspace {
    float *a;       /* [SAMPLE_ROWS, size] */
    float *b;       /* [TRAIN_ROWS, size] */
    float *product; /* [SAMPLE_ROWS, TRAIN_ROWS] */
    double norm_a[SAMPLE_ROWS], norm_b[TRAIN_ROWS];
    int64_t best[SAMPLE_ROWS];
} workspace;

static void
fill_row(float *row, double *norm, const uint8_t *pixels, int size)
{
    double sum = 0;
    int i;

    for (i = 0; i < size; i++) {
        row[i] = pixels[i];
        sum += (double)pixels[i] * pixels[i];
    }
    *norm = sum;
}

static int64_t
exact_distance(const uint8_t *a, const uint8_t *b, int size)
{
    int64_t sum = 0;
    int i;

    for (i = 0; i < size; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* The error of a single-precision dot product of positive numbers is below size * 2^-24 of it. */
static int64_t
better(int64_t best, const workspace *w, int row, const uint8_t *sample, const uint8_t *train, int rows,
       int size)
{
    double slack = 3.0 * size * 0x1p-24;
    int i;

    for (i = 0; i < rows; i++) {
        double product = w->product[(size_t)row * TRAIN_ROWS + (size_t)i];

        if (w->norm_a[row] + w->norm_b[i] - (2.0 + slack) * product <= (double)best) {
            int64_t exact = exact_distance(sample, train + (size_t)i * (size_t)size, size);

            best = exact < best ? exact : best;
        }
    }
    return best;
}

/* The best of `count` samples, already in w->a, against one block of training images. */
static d2c_status
compare_block(workspace *w, const d2c_pixel_set *samples, int64_t first, int64_t n, int count,
              const uint8_t *train, int rows, d2c_error *err)
{
    int size = samples->size, i;

#pragma omp parallel for
    for (i = 0; i < rows; i++)
        fill_row(w->b + (size_t)i * (size_t)size, &w->norm_b[i], train + (size_t)i * (size_t)size, size);
    if (dnnl_sgemm('N', 'T', count, rows, size, 1.0f, w->a, size, w->b, size, 0.0f, w->product, TRAIN_ROWS) !=
        dnnl_success)
        return d2c_fail(err, D2C_INTERNAL, "a matrix product failed");
#pragma omp parallel for
    for (i = 0; i < count; i++) {
        int64_t index = d2c_spread(first + i, n, samples->count);

        w->best[i] =
            better(w->best[i], w, i, samples->pixels + (size_t)index * (size_t)size, train, rows, size);
    }
    return D2C_OK;
}

static d2c_status
search(workspace *w, double *distance, const d2c_pixel_set *samples, int64_t n, const d2c_pixel_set *train,
       d2c_error *err)
{
    size_t size = (size_t)samples->size;
    int64_t first, start;
    int i;

    for (first = 0; first < n; first += SAMPLE_ROWS) {
        int count = n - first < SAMPLE_ROWS ? (int)(n - first) : SAMPLE_ROWS;

        for (i = 0; i < count; i++) {
            fill_row(w->a + (size_t)i * size, &w->norm_a[i],
                     samples->pixels + (size_t)d2c_spread(first + i, n, samples->count) * size,
                     samples->size);
            w->best[i] = INT64_MAX;
        }
        for (start = 0; start < train->count; start += TRAIN_ROWS) {
            int64_t left = train->count - start;

            D2C_TRY(compare_block(w, samples, first, n, count, train->pixels + (size_t)start * size,
                                  left < TRAIN_ROWS ? (int)left : TRAIN_ROWS, err));
        }
        for (i = 0; i < count; i++)
            distance[first + i] = sqrt((double)w->best[i] / (double)size) / 255.0;
    }
    return D2C_OK;
}

d2c_status
d2c_nearest(double *distance, const d2c_pixel_set *samples, int64_t n, const d2c_pixel_set *train,
            d2c_error *err)
{
    workspace *w = calloc(1, sizeof *w);
    d2c_status status;

    if (samples->size != train->size) {
        free(w);
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the sets' images differ in size");
    }
    if (w != NULL) {
        w->a = malloc(SAMPLE_ROWS * (size_t)train->size * sizeof *w->a);
        w->b = malloc(TRAIN_ROWS * (size_t)train->size * sizeof *w->b);
        w->product = malloc((size_t)SAMPLE_ROWS * TRAIN_ROWS * sizeof *w->product);
    }
    if (w == NULL || w->a == NULL || w->b == NULL || w->product == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory for nearest images");
    else
        status = search(w, distance, samples, n, train, err);
    if (w != NULL) {
        free(w->a);
        free(w->b);
        free(w->product);
    }
    free(w);
    return status;
}
