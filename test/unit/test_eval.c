/* test_eval.c: Frechet distances against scipy, components and nearest neighbours against numpy. */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "eval/classifier.h"
#include "eval/evaluate.h"
#include "eval/frechet.h"
#include "eval/nearest.h"
#include "eval/pca.h"

static FILE *
open_golden(const char *name)
{
    char path[1024];
    FILE *file;

    snprintf(path, sizeof path, "%s/eval/%s", GOLDEN, name);
    file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    return file;
}

static void
read_numbers(FILE *file, double *to, int count)
{
    while (count-- > 0)
        CHECK(fscanf(file, "%lf", to++) == 1);
}

static void
frechet_as_scipy(void)
{
    double mean1[16], mean2[16], cov1[256], cov2[256], expected, distance, back;
    FILE *file = open_golden("frechet.txt");
    int width, cases = 0;
    d2c_error err;

    while (fscanf(file, "%d %lf", &width, &expected) == 2) {
        read_numbers(file, mean1, width);
        read_numbers(file, cov1, width * width);
        read_numbers(file, mean2, width);
        read_numbers(file, cov2, width * width);
        CHECK_OK(d2c_frechet(&distance, width, mean1, cov1, mean2, cov2, &err), &err);
        CHECK_NEAR(distance, expected, 1e-6 * (1 + expected));
        CHECK_OK(d2c_frechet(&back, width, mean2, cov2, mean1, cov1, &err), &err);
        CHECK_NEAR(distance, back, 1e-6 * (1 + expected));
        cases++;
    }
    CHECK(cases == 7);
    fclose(file);
}

/* Of Gaussians with the covariances a I and b I the distance is width (sqrt(a) - sqrt(b))^2. */
static void
frechet_of_wide_moments(void)
{
    enum { WIDTH = 200 };
    double *cov1 = calloc(WIDTH * WIDTH, sizeof *cov1), *cov2 = calloc(WIDTH * WIDTH, sizeof *cov2);
    double mean[WIDTH] = {0}, distance;
    d2c_error err;
    int i;

    for (i = 0; i < WIDTH; i++) {
        cov1[i * WIDTH + i] = 4;
        cov2[i * WIDTH + i] = 9;
    }
    CHECK_OK(d2c_frechet(&distance, WIDTH, mean, cov1, mean, cov2, &err), &err);
    CHECK_NEAR(distance, WIDTH, 1e-9);
    free(cov1);
    free(cov2);
}

enum { ROTATED = 16, BASIS = 6, ROWS = 4 };

static double
draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) / 16777216.0 - 0.5;
}

/* Six directions at right angles. */
static void
make_basis(double basis[BASIS][ROTATED], uint32_t *state)
{
    int k, other, i;

    for (k = 0; k < BASIS; k++) {
        double length = 0;

        for (i = 0; i < ROTATED; i++)
            basis[k][i] = draw(state);
        for (other = 0; other < k; other++) {
            double share = 0;

            for (i = 0; i < ROTATED; i++)
                share += basis[k][i] * basis[other][i];
            for (i = 0; i < ROTATED; i++)
                basis[k][i] -= share * basis[other][i];
        }
        for (i = 0; i < ROTATED; i++)
            length += basis[k][i] * basis[k][i];
        for (i = 0; i < ROTATED; i++)
            basis[k][i] /= sqrt(length);
    }
}

/* cov += x x' / 3 of rows in three of the directions, each rounded to single precision; returns the trace. */
static double
add_rows(double cov[ROTATED * ROTATED], double basis[3][ROTATED], uint32_t *state)
{
    double trace = 0;
    int row, k, i, j;

    for (row = 0; row < ROWS; row++) {
        double x[ROTATED] = {0};

        for (k = 0; k < 3; k++) {
            double share = draw(state);

            for (i = 0; i < ROTATED; i++)
                x[i] += share * basis[k][i];
        }
        for (i = 0; i < ROTATED; i++)
            x[i] = (float)x[i];
        for (i = 0; i < ROTATED; i++) {
            for (j = 0; j < ROTATED; j++)
                cov[i * ROTATED + j] += x[i] * x[j] / 3;
            trace += x[i] * x[i] / 3;
        }
    }
    return trace;
}

/* Samples in two subspaces with nothing in common: what is left of the product of the roots is rounding, of either sign. */
static void
frechet_of_orthogonal_moments(void)
{
    double mean[ROTATED] = {0}, cov[2][ROTATED * ROTATED], basis[BASIS][ROTATED], sum, distance;
    uint32_t state = 7;
    d2c_error err;
    int pair;

    for (pair = 0; pair < 40; pair++) {
        memset(cov, 0, sizeof cov);
        make_basis(basis, &state);
        sum = add_rows(cov[0], basis, &state) + add_rows(cov[1], basis + 3, &state);
        CHECK_OK(d2c_frechet(&distance, ROTATED, mean, cov[0], mean, cov[1], &err), &err);
        CHECK_NEAR(distance, sum, 1e-6);
    }
}

static void
frechet_refuses(void)
{
    double mean[2] = {0, 0}, good[4] = {1, 0, 0, 1}, bad[4], distance;
    d2c_error err;

    memcpy(bad, (double[4]){1, 0.5, -0.5, 1}, sizeof bad);
    CHECK(d2c_frechet(&distance, 2, mean, good, mean, bad, &err) == D2C_BAD_DATA);
    CHECK(strcmp(err.message, "second covariance is not symmetric") == 0);
    memcpy(bad, (double[4]){1, 2, 2, 1}, sizeof bad);
    CHECK(d2c_frechet(&distance, 2, mean, bad, mean, good, &err) == D2C_BAD_DATA);
    CHECK(strcmp(err.message, "first covariance has a negative eigenvalue") == 0);
    CHECK(d2c_frechet(&distance, 2, mean, good, mean, bad, &err) == D2C_BAD_DATA);
    memcpy(bad, (double[4]){1, 0, 0, NAN}, sizeof bad);
    CHECK(d2c_frechet(&distance, 2, mean, bad, mean, good, &err) == D2C_NOT_FINITE);
    mean[1] = INFINITY;
    CHECK(d2c_frechet(&distance, 2, mean, good, mean, good, &err) == D2C_NOT_FINITE);
    CHECK(isnan(distance));
    CHECK(d2c_frechet(&distance, 0, mean, good, mean, good, &err) == D2C_INVALID_ARGUMENT);
}

static void
read_set(FILE *file, d2c_pixel_set *set, int height, int width, int count)
{
    int i;
    unsigned byte;

    *set = (d2c_pixel_set){
        .width = width, .height = height, .channels = 1, .size = width * height, .count = count};
    set->pixels = malloc((size_t)set->size * (size_t)count);
    for (i = 0; i < set->size * count; i++) {
        CHECK(fscanf(file, "%2x", &byte) == 1);
        set->pixels[i] = (uint8_t)byte;
    }
}

static void
evaluation_as_numpy(void)
{
    FILE *file = open_golden("images.txt");
    int height, width, trains, reals, count, components, i;
    double expected[4], nearest[64], distance[64];
    d2c_pixel_set train, real, samples;
    d2c_evaluation e;
    d2c_error err;

    CHECK(fscanf(file, "%d %d %d %d %d %d", &height, &width, &trains, &reals, &count, &components) == 6);
    read_set(file, &train, height, width, trains);
    read_set(file, &real, height, width, reals);
    read_set(file, &samples, height, width, count);
    read_numbers(file, expected, 4);
    read_numbers(file, nearest, count);
    fclose(file);
    CHECK_OK(d2c_evaluate(&e, &train, &real, &samples, components, 0, 0, &err), &err);
    CHECK(e.count == count && e.components == components);
    CHECK_NEAR(e.explained, expected[0], 1e-12);
    CHECK_NEAR(e.frechet, expected[1], 1e-9);
    CHECK(isnan(e.frechet_classifier) && isnan(e.classifier_accuracy));
    CHECK_NEAR(e.nearest_median, expected[2], 1e-12);
    CHECK_NEAR(e.nearest_mean, expected[3], 1e-12);
    CHECK_OK(d2c_nearest(distance, &samples, count, &train, &err), &err);
    for (i = 0; i < count; i++)
        CHECK_NEAR(distance[i], nearest[i], 1e-12);
    CHECK(distance[3] == 0.0);
    CHECK(d2c_evaluate(&e, &train, &real, &samples, 43, 0, 0, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_evaluate(&e, &train, &real, &samples, 4, 26, 0, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strcmp(err.detail, "There are 25 samples and 40 real images.") == 0);
    samples.size--;
    CHECK(d2c_evaluate(&e, &train, &real, &samples, 4, 0, 0, &err) == D2C_INVALID_ARGUMENT);
    free(train.pixels);
    free(real.pixels);
    free(samples.pixels);
}

/* More images than the blocks hold, against a plain loop; the farthest images and copies are among them. */
static void
nearest_over_many_blocks(void)
{
    enum { SIZE = 37, TRAIN = 2500, SAMPLES = 1100 };
    d2c_pixel_set train = {.size = SIZE, .count = TRAIN}, samples = {.size = SIZE, .count = SAMPLES};
    double *distance = malloc(SAMPLES * sizeof *distance);
    uint32_t state = 1;
    d2c_error err;
    int i, j, k;

    train.pixels = malloc(TRAIN * SIZE);
    samples.pixels = malloc(SAMPLES * SIZE);
    for (i = 0; i < (TRAIN + SAMPLES) * SIZE; i++) {
        state = state * 1664525u + 1013904223u;
        (i < TRAIN * SIZE ? train.pixels : samples.pixels - TRAIN * SIZE)[i] = (uint8_t)(state >> 24);
    }
    memset(train.pixels + 7 * SIZE, 255, SIZE);
    memset(samples.pixels + 1099 * SIZE, 254, SIZE);
    memcpy(samples.pixels + 600 * SIZE, train.pixels + 2400 * SIZE, SIZE);
    CHECK_OK(d2c_nearest(distance, &samples, SAMPLES, &train, &err), &err);
    for (i = 0; i < SAMPLES; i++) {
        long best = 1L << 40;

        for (j = 0; j < TRAIN; j++) {
            long sum = 0;

            for (k = 0; k < SIZE; k++) {
                int d = samples.pixels[i * SIZE + k] - train.pixels[j * SIZE + k];

                sum += d * d;
            }
            best = sum < best ? sum : best;
        }
        CHECK(distance[i] == sqrt((double)best / SIZE) / 255.0);
    }
    CHECK(distance[600] == 0.0 && distance[1099] == 1.0 / 255.0);
    free(train.pixels);
    free(samples.pixels);
    free(distance);
}

static void
spread_covers_the_set(void)
{
    CHECK(d2c_spread(0, 3, 10) == 0 && d2c_spread(1, 3, 10) == 3 && d2c_spread(2, 3, 10) == 6);
    CHECK(d2c_spread(9, 10, 10) == 9);
}

/* Three kinds of images: a bright left, right or middle third under noise; one in `flipped` carries a wrong label. */
static void
make_kinds(d2c_pixel_set *set, int count, uint32_t state, int flipped)
{
    int i, x;

    *set = (d2c_pixel_set){.size = 48, .count = count};
    set->pixels = malloc(48 * (size_t)count);
    set->label = malloc((size_t)count * sizeof *set->label);
    for (i = 0; i < count; i++) {
        int kind = i % 3;

        set->label[i] = flipped > 0 && i % flipped == 0 ? (kind + 1) % 3 : kind;
        for (x = 0; x < 48; x++) {
            state = state * 1664525u + 1013904223u;
            set->pixels[i * 48 + x] = (uint8_t)((state >> 24) * 3 / 4 + (x % 12 / 4 == kind ? 60 : 0));
        }
    }
}

static void
free_set(d2c_pixel_set *set)
{
    free(set->pixels);
    free(set->label);
}

/* It learns the kinds better than its labels, of which 86 % are right, and its features part the kinds: the distance
 * between halves of one mixture is far below that to images of one kind alone. */
static void
classifier_learns(void)
{
    d2c_pixel_set train, real, samples;
    d2c_classifier *classifier;
    d2c_evaluation same, other;
    double accuracy, first[64], again[64];
    d2c_error err;
    int i;

    make_kinds(&train, 3000, 1, 7);
    make_kinds(&real, 600, 2, 0);
    make_kinds(&samples, 600, 3, 0);
    CHECK_OK(d2c_classifier_train(&classifier, &train, 8, &err), &err);
    CHECK_OK(d2c_classifier_accuracy(&accuracy, classifier, &real, &err), &err);
    CHECK(accuracy > 0.95);
    CHECK_OK(d2c_classifier_features(first, classifier, &samples, 1, &err), &err);
    d2c_classifier_free(classifier);
    CHECK_OK(d2c_classifier_train(&classifier, &train, 8, &err), &err);
    CHECK_OK(d2c_classifier_features(again, classifier, &samples, 1, &err), &err);
    d2c_classifier_free(classifier);
    CHECK(memcmp(first, again, sizeof first) == 0);
    CHECK_OK(d2c_evaluate(&same, &train, &real, &samples, 4, 0, 1, &err), &err);
    for (i = 0; i < 600; i++)
        memcpy(samples.pixels + i * 48, samples.pixels + i / 3 * 3 * 48, 48);
    CHECK_OK(d2c_evaluate(&other, &train, &real, &samples, 4, 0, 1, &err), &err);
    CHECK(same.classifier_accuracy == accuracy && other.frechet_classifier > 20 * same.frechet_classifier);
    train.label[5] = -1;
    CHECK(d2c_evaluate(&other, &train, &real, &samples, 4, 0, 1, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(err.message, "training image 6 has no label") != NULL && err.hint[0] != '\0');
    free_set(&train);
    free_set(&real);
    free_set(&samples);
}

/* The features of an image of 784 pixels by a classifier that was trained where there are so many threads. */
static void
features_by(double features[D2C_CLASSIFIER_WIDTH], const d2c_pixel_set *set, int threads)
{
    d2c_classifier *classifier;
    int before = omp_get_max_threads();
    d2c_error err;

    omp_set_num_threads(threads);
    CHECK_OK(d2c_classifier_train(&classifier, set, 1, &err), &err);
    CHECK_OK(d2c_classifier_features(features, classifier, set, 1, &err), &err);
    CHECK(omp_get_max_threads() == threads);
    omp_set_num_threads(before);
    d2c_classifier_free(classifier);
}

/* At this size the matrix library's sums are others with another number of threads. */
static void
threads_change_no_classifier(void)
{
    double one[D2C_CLASSIFIER_WIDTH], other[D2C_CLASSIFIER_WIDTH];
    d2c_pixel_set set;

    make_kinds(&set, 256 * 784 / 48, 4, 0);
    set.size = 784;
    set.count = 256;
    features_by(one, &set, 1);
    features_by(other, &set, 2);
    CHECK(memcmp(one, other, sizeof one) == 0);
    features_by(other, &set, 8);
    CHECK(memcmp(one, other, sizeof one) == 0);
    free_set(&set);
}

int
main(void)
{
    RUN(frechet_as_scipy);
    RUN(frechet_of_wide_moments);
    RUN(frechet_of_orthogonal_moments);
    RUN(frechet_refuses);
    RUN(evaluation_as_numpy);
    RUN(nearest_over_many_blocks);
    RUN(spread_covers_the_set);
    RUN(classifier_learns);
    RUN(threads_change_no_classifier);
    return check_report();
}
