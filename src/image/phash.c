/*
 * phash.c: the perceptual hash of imagehash: the signs, against their median, of an image's lowest
 * frequencies.
 */
#include "image/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"

#define SIDE 32
#define LOW 8

/* DCT-II, unscaled: out[k] = sum of x[i] cos(pi k (2i + 1) / 2 SIDE).  Folding x onto its mirror image before
 * multiplying makes the coefficients of a flat picture exactly zero instead of noise around it: the
 * differences give the odd coefficients, the sums are a line of half the length for the even ones. */
static void
dct(double out[SIDE], const double x[SIDE])
{
    double line[SIDE], difference[SIDE / 2];
    int i, k, n, step;

    memcpy(line, x, sizeof line);
    for (n = SIDE, step = 1; n > 1; n /= 2, step *= 2) {
        for (i = 0; i < n / 2; i++)
            difference[i] = line[i] - line[n - 1 - i];
        for (i = 0; i < n / 2; i++)
            line[i] += line[n - 1 - i];
        for (k = 1; k < n; k += 2) {
            double total = 0;

            for (i = 0; i < n / 2; i++)
                total += difference[i] * cos(M_PI * k * (2 * i + 1) / (2 * n));
            out[k * step] = total;
        }
    }
    out[0] = line[0];
}

/* low[LOW][LOW]: the low block of the picture's transform, columns first. */
static void
transform(double low[LOW * LOW], const uint8_t *pixels)
{
    double line[SIDE], result[SIDE], half[LOW][SIDE];
    int row, column, i;

    for (column = 0; column < SIDE; column++) {
        for (i = 0; i < SIDE; i++)
            line[i] = pixels[i * SIDE + column];
        dct(result, line);
        for (row = 0; row < LOW; row++)
            half[row][column] = result[row];
    }
    for (row = 0; row < LOW; row++) {
        dct(result, half[row]);
        memcpy(low + row * LOW, result, LOW * sizeof *low);
    }
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static d2c_status
to_grey(d2c_image *out, const d2c_image *image, d2c_error *err)
{
    size_t i, count = (size_t)image->width * (size_t)image->height;

    D2C_TRY(d2c_image_allocate(out, image->width, image->height, 1, err));
    for (i = 0; i < count; i++)
        out->pixels[i] = image->channels == 1 ? image->pixels[i] : d2c_luma(image->pixels + 3 * i);
    return D2C_OK;
}

d2c_status
d2c_image_phash(uint64_t *hash, const d2c_image *image, d2c_error *err)
{
    double low[LOW * LOW], sorted[LOW * LOW], median;
    d2c_image grey, small;
    d2c_status status;
    int i;

    D2C_TRY(to_grey(&grey, image, err));
    status = d2c_image_resize(&small, &grey, SIDE, SIDE, D2C_FILTER_LANCZOS, err);
    d2c_image_free(&grey);
    if (status != D2C_OK)
        return status;
    transform(low, small.pixels);
    d2c_image_free(&small);
    memcpy(sorted, low, sizeof sorted);
    qsort(sorted, LOW * LOW, sizeof *sorted, compare);
    median = (sorted[LOW * LOW / 2 - 1] + sorted[LOW * LOW / 2]) / 2;
    *hash = 0;
    for (i = 0; i < LOW * LOW; i++)
        *hash = *hash << 1 | (low[i] > median);
    return D2C_OK;
}
