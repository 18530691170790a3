/*
 * frechet.c: the Frechet distance by symmetric eigen-decompositions.
 *
 * The trace of (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of A S2 A with A = S1^(1/2),
 * which is symmetric and positive semi-definite, so no complex numbers, no added diagonal and no failing
 * matrix square root.
 */
#include "eval/frechet.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rounding leaves small negative eigenvalues in singular matrices; one beyond this share of the largest is an
 * error. */
#define NEGATIVE_SHARE 1e-6

static d2c_status
check_covariance(int width, const double *cov, const char *which, d2c_error *err)
{
    double largest = 0;
    int i, j;

    for (i = 0; i < width * width; i++) {
        if (!isfinite(cov[i]))
            return d2c_fail(err, D2C_NOT_FINITE, "%s covariance is not finite", which);
        largest = fmax(largest, fabs(cov[i]));
    }
    for (i = 0; i < width; i++)
        for (j = 0; j < i; j++)
            if (fabs(cov[i * width + j] - cov[j * width + i]) > NEGATIVE_SHARE * largest)
                return d2c_fail(err, D2C_BAD_DATA, "%s covariance is not symmetric", which);
    return D2C_OK;
}

/* value[width] ascending and not negative; matrix becomes the eigenvectors, one a column. */
static d2c_status
decompose(int width, double *matrix, double *value, char job, const char *which, d2c_error *err)
{
    int i, info = LAPACKE_dsyevd(LAPACK_ROW_MAJOR, job, 'U', width, matrix, width, value);

    if (info != 0)
        return d2c_fail(err, info > 0 ? D2C_INTERNAL : D2C_NO_MEMORY,
                        "eigenvalues of the %s covariance could not be computed", which);
    if (value[0] < -NEGATIVE_SHARE * fmax(value[width - 1], 1e-300))
        return d2c_fail(err, D2C_BAD_DATA, "%s covariance has a negative eigenvalue", which);
    for (i = 0; i < width; i++)
        value[i] = value[i] > 0 ? value[i] : 0;
    return D2C_OK;
}

/* product[i][j] = sum over k of a[i][k] b[k][j], all [width, width]; the order of the sum is that of k. */
static void
multiply(int width, double *product, const double *a, const double *b)
{
    int i, j, k;

    memset(product, 0, (size_t)width * (size_t)width * sizeof *product);
    for (i = 0; i < width; i++)
        for (k = 0; k < width; k++)
            for (j = 0; j < width; j++)
                product[i * width + j] += a[i * width + k] * b[k * width + j];
}

/* root = L^(1/2) Q^T of cov1 = Q L Q^T, so that root cov2 root^T has the eigenvalues of cov1 cov2. */
static void
scale_vectors(int width, double *root, double *transposed, const double *vector, const double *value)
{
    int i, k;

    for (k = 0; k < width; k++)
        for (i = 0; i < width; i++)
            root[k * width + i] = transposed[i * width + k] = sqrt(value[k]) * vector[i * width + k];
}

/* tr (cov1 cov2)^(1/2); scratch [3 * width + 1, width]. */
static d2c_status
trace_of_root(double *trace, int width, const double *cov1, const double *cov2, double *scratch,
              d2c_error *err)
{
    size_t square = (size_t)width * (size_t)width;
    double *a = scratch, *b = a + square, *c = b + square, *value = c + square;
    int i;

    memcpy(a, cov1, square * sizeof *a);
    D2C_TRY(decompose(width, a, value, 'V', "first", err));
    scale_vectors(width, b, c, a, value);
    multiply(width, a, b, cov2);
    multiply(width, b, a, c);
    D2C_TRY(decompose(width, b, value, 'N', "second", err));
    *trace = 0;
    for (i = 0; i < width; i++)
        *trace += sqrt(value[i]);
    return D2C_OK;
}

d2c_status
d2c_frechet(double *distance, int width, const double *mean1, const double *cov1, const double *mean2,
            const double *cov2, d2c_error *err)
{
    double *scratch, sum = 0, trace = 0;
    d2c_status status;
    int i;

    *distance = NAN;
    if (width <= 0 || width > 16384)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "moments of width %d cannot be compared", width);
    D2C_TRY(check_covariance(width, cov1, "first", err));
    D2C_TRY(check_covariance(width, cov2, "second", err));
    for (i = 0; i < width; i++) {
        double difference = mean1[i] - mean2[i];

        if (!isfinite(difference))
            return d2c_fail(err, D2C_NOT_FINITE, "mean is not finite");
        sum += difference * difference + cov1[i * width + i] + cov2[i * width + i];
    }
    scratch = malloc((3 * (size_t)width + 1) * (size_t)width * sizeof *scratch);
    if (scratch == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for moments of width %d", width);
    status = trace_of_root(&trace, width, cov1, cov2, scratch, err);
    free(scratch);
    if (status == D2C_OK)
        *distance = fmax(sum - 2 * trace, 0); /* rounding alone can take it below */
    return status;
}
