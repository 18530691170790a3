/* evaluate.c: the measures of evaluate.h, put together. */
#include "eval/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/classifier.h"
#include "eval/frechet.h"
#include "eval/moments.h"
#include "eval/nearest.h"
#include "eval/pca.h"

#define CLASSIFIER_EPOCHS 8

/* features[2, n, width]: the samples', then the real images'. */
static d2c_status
compare_features(double *distance, const double *features, int64_t n, int width, d2c_error *err)
{
    d2c_running_moments samples = {0}, real = {0};
    d2c_status status = d2c_running_moments_start(&samples, width, err);

    if (status == D2C_OK)
        status = d2c_running_moments_start(&real, width, err);
    if (status == D2C_OK) {
        d2c_running_moments_add(&samples, features, n);
        d2c_running_moments_add(&real, features + (size_t)n * (size_t)width, n);
        d2c_running_moments_finish(&samples);
        d2c_running_moments_finish(&real);
        status = d2c_frechet(distance, width, samples.sum, samples.square, real.sum, real.square, err);
    }
    d2c_running_moments_free(&samples);
    d2c_running_moments_free(&real);
    return status;
}

static double *
allocate_features(int64_t n, int width, d2c_error *err)
{
    double *features = malloc(2 * (size_t)n * (size_t)width * sizeof *features);

    if (features == NULL)
        d2c_fail(err, D2C_NO_MEMORY, "out of memory for the features of %lld images", (long long)n);
    return features;
}

static d2c_status
measure_components(d2c_evaluation *result, const d2c_pixel_set *train, const d2c_pixel_set *real,
                   const d2c_pixel_set *samples, d2c_error *err)
{
    int width = result->components;
    double *features = allocate_features(result->count, width, err);
    d2c_pca pca;
    d2c_status status;

    if (features == NULL)
        return D2C_NO_MEMORY;
    status = d2c_pca_fit(&pca, train, width, err);
    if (status == D2C_OK) {
        result->explained = pca.explained;
        d2c_pca_features(features, &pca, samples, result->count);
        d2c_pca_features(features + (size_t)result->count * (size_t)width, &pca, real, result->count);
        status = compare_features(&result->frechet, features, result->count, width, err);
        d2c_pca_free(&pca);
    }
    free(features);
    return status;
}

static d2c_status
measure_classifier(d2c_evaluation *result, const d2c_pixel_set *train, const d2c_pixel_set *real,
                   const d2c_pixel_set *samples, d2c_error *err)
{
    int64_t n = result->count;
    double *features = allocate_features(n, D2C_CLASSIFIER_WIDTH, err);
    d2c_classifier *classifier;
    d2c_status status;

    if (features == NULL)
        return D2C_NO_MEMORY;
    status = d2c_classifier_train(&classifier, train, CLASSIFIER_EPOCHS, err);
    if (status == D2C_OK)
        status = d2c_classifier_features(features, classifier, samples, n, err);
    if (status == D2C_OK)
        status =
            d2c_classifier_features(features + (size_t)n * D2C_CLASSIFIER_WIDTH, classifier, real, n, err);
    if (status == D2C_OK)
        status = compare_features(&result->frechet_classifier, features, n, D2C_CLASSIFIER_WIDTH, err);
    if (status == D2C_OK)
        status = d2c_classifier_accuracy(&result->classifier_accuracy, classifier, real, err);
    d2c_classifier_free(classifier);
    free(features);
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
             const d2c_pixel_set *samples, int components, int64_t count, int classifier, d2c_error *err)
{
    memset(result, 0, sizeof *result);
    result->components = components;
    result->frechet_classifier = result->classifier_accuracy = NAN;
    if (real->size != train->size || samples->size != train->size)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the sets' images differ in size");
    D2C_TRY(choose_count(&result->count, real, samples, count, err));
    D2C_TRY(measure_components(result, train, real, samples, err));
    if (classifier)
        D2C_TRY(measure_classifier(result, train, real, samples, err));
    return measure_nearest(result, train, samples, err);
}
