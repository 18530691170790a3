/* evaluate.c: the measures of evaluate.h, put together. */
#include "eval/evaluate.h"

#include <stdlib.h>
#include <string.h>

#include "eval/frechet.h"
#include "eval/nearest.h"
#include "eval/pca.h"

static d2c_status
measure_frechet(double *distance, const d2c_pca *pca, const d2c_pixel_set *real, const d2c_pixel_set *samples,
                int64_t n, d2c_error *err)
{
    size_t width = (size_t)pca->components, each = width + width * width;
    double *moments = malloc(2 * each * sizeof *moments);
    d2c_status status;

    if (moments == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for moments");
    status = d2c_pca_moments(moments, moments + width, pca, samples, n, err);
    if (status == D2C_OK)
        status = d2c_pca_moments(moments + each, moments + each + width, pca, real, n, err);
    if (status == D2C_OK)
        status = d2c_frechet(distance, pca->components, moments, moments + width, moments + each,
                             moments + each + width, err);
    free(moments);
    return status;
}

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static d2c_status
measure_nearest(d2c_evaluation *result, const d2c_pixel_set *train, const d2c_pixel_set *samples,
                d2c_error *err)
{
    int64_t n = result->count, i;
    double *distance = malloc((size_t)n * sizeof *distance);
    d2c_status status;

    if (distance == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for %lld distances", (long long)n);
    status = d2c_nearest(distance, samples, n, train, err);
    if (status == D2C_OK) {
        qsort(distance, (size_t)n, sizeof *distance, ascending);
        result->nearest_median = (distance[(n - 1) / 2] + distance[n / 2]) / 2;
        for (i = 0; i < n; i++)
            result->nearest_mean += distance[i] / (double)n;
    }
    free(distance);
    return status;
}

static d2c_status
choose_count(int64_t *chosen, const d2c_pixel_set *real, const d2c_pixel_set *samples, int64_t count,
             d2c_error *err)
{
    int64_t most = real->count < samples->count ? real->count : samples->count;

    if (count > most) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "there are not %lld images in both sets", (long long)count);
        d2c_detail(err, "There are %lld samples and %lld real images.", (long long)samples->count,
                   (long long)real->count);
        return D2C_INVALID_ARGUMENT;
    }
    *chosen = count > 0 ? count : most;
    return *chosen >= 2
               ? D2C_OK
               : d2c_fail(err, D2C_INVALID_ARGUMENT, "a distance needs at least two images of each set");
}

d2c_status
d2c_evaluate(d2c_evaluation *result, const d2c_pixel_set *train, const d2c_pixel_set *real,
             const d2c_pixel_set *samples, int components, int64_t count, d2c_error *err)
{
    d2c_pca pca;
    d2c_status status;

    memset(result, 0, sizeof *result);
    if (real->size != train->size || samples->size != train->size)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the sets' images differ in size");
    D2C_TRY(choose_count(&result->count, real, samples, count, err));
    D2C_TRY(d2c_pca_fit(&pca, train, components, err));
    result->components = components;
    result->explained = pca.explained;
    status = measure_frechet(&result->frechet, &pca, real, samples, result->count, err);
    d2c_pca_free(&pca);
    return status == D2C_OK ? measure_nearest(result, train, samples, err) : status;
}
