/*
 * pca.c: principal components of pixels.
 *
 * The covariance is exact: products of 8-bit pixels, summed over at most 256 images, are whole numbers below 2^24,
 * which single precision holds without rounding, so a fast matrix product gives the same bits on every machine, and
 * the sums of blocks are whole numbers below 2^53.
 */
#include "eval/pca.h"

#include <dnnl.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_ROWS 256 /* 256 * 255^2 < 2^24 */

typedef struct gram {
    double *sum;     /* [size] */
    double *product; /* [size, size] */
    float *block;    /* [EXACT_ROWS, size] */
    float *part;     /* [size, size] */
} gram;

static void
gram_free(gram *g)
{
    free(g->sum);
    free(g->product);
    free(g->block);
    free(g->part);
}

static d2c_status
gram_allocate(gram *g, int size, d2c_error *err)
{
    size_t n = (size_t)size;

    g->sum = calloc(n, sizeof *g->sum);
    g->product = calloc(n * n, sizeof *g->product);
    g->block = malloc(EXACT_ROWS * n * sizeof *g->block);
    g->part = malloc(n * n * sizeof *g->part);
    if (g->sum != NULL && g->product != NULL && g->block != NULL && g->part != NULL)
        return D2C_OK;
    gram_free(g);
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the covariance of %d values", size);
}

/* Adds the sums and the products of up to EXACT_ROWS images. */
static d2c_status
add_block(gram *g, const uint8_t *pixels, int rows, int size, d2c_error *err)
{
    int64_t i, square = (int64_t)size * size;
    int row, c;

    for (row = 0; row < rows; row++)
        for (c = 0; c < size; c++) {
            g->block[(size_t)row * (size_t)size + (size_t)c] = pixels[(size_t)row * (size_t)size + (size_t)c];
            g->sum[c] += pixels[(size_t)row * (size_t)size + (size_t)c];
        }
    if (dnnl_sgemm('T', 'N', size, size, rows, 1.0f, g->block, size, g->block, size, 0.0f, g->part, size) !=
        dnnl_success)
        return d2c_fail(err, D2C_INTERNAL, "a matrix product failed");
#pragma omp parallel for
    for (i = 0; i < square; i++)
        g->product[i] += g->part[i];
    return D2C_OK;
}

/* covariance[size, size] of pixels in [0, 1], in place of the products; mean likewise in place of the sums. */
static void
finish_covariance(gram *g, int64_t n, int size)
{
    double count = (double)n, scale = 1.0 / (255.0 * 255.0 * count * (count - 1));
    int i, j;

    for (i = 0; i < size; i++)
        for (j = 0; j < size; j++) {
            double *at = &g->product[(size_t)i * (size_t)size + (size_t)j];

            *at = (*at * count - g->sum[i] * g->sum[j]) * scale;
        }
    for (i = 0; i < size; i++)
        g->sum[i] /= 255.0 * count;
}

/* pca->vector from the largest eigenvalues of the covariance, which is destroyed. */
static d2c_status
find_vectors(d2c_pca *pca, double *covariance, d2c_error *err)
{
    int size = pca->size, k = pca->components, found, i, j;
    double *value = malloc((size_t)size * sizeof *value), trace = 0;
    double *vector = malloc((size_t)size * (size_t)k * sizeof *vector);
    lapack_int *support = malloc(2 * (size_t)k * sizeof *support), info = -1;

    for (i = 0; i < size; i++)
        trace += covariance[(size_t)i * (size_t)size + (size_t)i];
    if (value != NULL && vector != NULL && support != NULL)
        info = LAPACKE_dsyevr(LAPACK_ROW_MAJOR, 'V', 'I', 'U', size, covariance, size, 0, 0, size - k + 1,
                              size, 0, &found, value, vector, k, support);
    if (info == 0) {
        for (j = 0; j < k; j++) {
            pca->explained += trace > 0 ? value[j] / trace : 0;
            for (i = 0; i < size; i++)
                pca->vector[(size_t)(k - 1 - j) * (size_t)size + (size_t)i] =
                    vector[(size_t)i * (size_t)k + (size_t)j];
        }
    }
    free(value);
    free(vector);
    free(support);
    if (info == 0)
        return D2C_OK;
    return info < 0 ? d2c_fail(err, D2C_NO_MEMORY, "out of memory for principal components")
                    : d2c_fail(err, D2C_INTERNAL, "principal components could not be computed");
}

static d2c_status
fit(d2c_pca *pca, gram *g, const d2c_pixel_set *set, d2c_error *err)
{
    int64_t start;

    for (start = 0; start < set->count; start += EXACT_ROWS) {
        int64_t left = set->count - start;

        D2C_TRY(add_block(g, set->pixels + (size_t)start * (size_t)set->size,
                          left < EXACT_ROWS ? (int)left : EXACT_ROWS, set->size, err));
    }
    finish_covariance(g, set->count, set->size);
    pca->size = set->size;
    pca->mean = malloc((size_t)set->size * sizeof *pca->mean);
    pca->vector = malloc((size_t)pca->components * (size_t)set->size * sizeof *pca->vector);
    if (pca->mean == NULL || pca->vector == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for principal components");
    memcpy(pca->mean, g->sum, (size_t)set->size * sizeof *pca->mean);
    return find_vectors(pca, g->product, err);
}

d2c_status
d2c_pca_fit(d2c_pca *pca, const d2c_pixel_set *set, int components, d2c_error *err)
{
    gram g;
    d2c_status status;

    memset(pca, 0, sizeof *pca);
    if (components < 1 || components > set->size)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "images of %d values do not have %d components", set->size,
                        components);
    D2C_TRY(gram_allocate(&g, set->size, err));
    pca->components = components;
    status = fit(pca, &g, set, err);
    gram_free(&g);
    if (status != D2C_OK)
        d2c_pca_free(pca);
    return status;
}

void
d2c_pca_free(d2c_pca *pca)
{
    free(pca->mean);
    free(pca->vector);
    memset(pca, 0, sizeof *pca);
}

static void
project(double *feature, const d2c_pca *pca, const uint8_t *pixels)
{
    int k, i;

    for (k = 0; k < pca->components; k++) {
        const double *vector = pca->vector + (size_t)k * (size_t)pca->size;
        double sum = 0;

        for (i = 0; i < pca->size; i++)
            sum += vector[i] * (pixels[i] / 255.0 - pca->mean[i]);
        feature[k] = sum;
    }
}

void
d2c_pca_features(double *features, const d2c_pca *pca, const d2c_pixel_set *set, int64_t n)
{
    int64_t i;

#pragma omp parallel for
    for (i = 0; i < n; i++)
        project(features + (size_t)i * (size_t)pca->components, pca,
                set->pixels + (size_t)d2c_spread(i, n, set->count) * (size_t)set->size);
}
