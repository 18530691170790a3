/*
 * frechet.c: the Frechet distance by a symmetric eigen-decomposition.
 *
 * With S1 = R^T R the trace of (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of R S2 R^T, which is
 * symmetric and positive semi-definite, so no complex numbers, no added diagonal and no failing matrix square root.  R
 * has as many rows as S1 has rank, so few images of many features cost little.
 */
#include "eval/frechet.h"

#include <float.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rounding leaves small negative eigenvalues in singular matrices; one beyond this share of the largest is an
 * error. */
#define NEGATIVE_SHARE 1e-6

#define TILE 32 /* rows of a matrix of 2048 columns that stay in the cache: 512 KB */

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

static d2c_status
fail_negative(d2c_error *err, const char *which)
{
    return d2c_fail(err, D2C_BAD_DATA, "%s covariance has a negative eigenvalue", which);
}

/* to[i] -= own * row[i] */
static void
subtract(double *to, double own, const double *row, int width)
{
    int i;

#pragma omp simd
    for (i = 0; i < width; i++)
        to[i] -= own * row[i];
}

static int
index_of_largest(const double *value, int count)
{
    int best = 0, i;

    for (i = 1; i < count; i++)
        if (value[i] > value[best])
            best = i;
    return best;
}

/* root[rank, width] with cov = root^T root: Cholesky's decomposition, the largest variance that is left first, until
 * rounding is all that is left. */
static d2c_status
factor(int *rank, double *root, double *left, int width, const double *cov, d2c_error *err)
{
    double largest;
    int i, m;

    for (i = 0; i < width; i++)
        left[i] = cov[i * width + i];
    largest = left[index_of_largest(left, width)];
    for (*rank = 0; *rank < width; ++*rank) {
        int pivot = index_of_largest(left, width);
        double *row = root + *rank * width, variance = left[pivot];

        if (variance <= width * DBL_EPSILON * largest)
            break;
        memcpy(row, cov + pivot * width, (size_t)width * sizeof *row);
        for (m = 0; m < *rank; m++)
            subtract(row, root[m * width + pivot], root + m * width, width);
        for (i = 0; i < width; i++) {
            row[i] /= sqrt(variance);
            left[i] -= row[i] * row[i];
        }
        left[pivot] = 0;
    }
    for (i = 0; i < width; i++)
        if (left[i] < -NEGATIVE_SHARE * largest)
            return fail_negative(err, "first");
    return D2C_OK;
}

static double
largest_variance(int width, const double *cov)
{
    double largest = 0;
    int i;

    for (i = 0; i < width; i++)
        largest = fmax(largest, cov[i * width + i]);
    return largest;
}

/* value[size] of the symmetric matrix[size, size], which is lost; ascending and not negative.  Below zero by `rounding` at most
 * they are taken for zero: of covariances in different directions nothing else is left. */
static d2c_status
find_eigenvalues(int size, double *matrix, double *value, double rounding, d2c_error *err)
{
    int i, info = LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'N', 'L', size, matrix, size, value);

    if (info != 0)
        return d2c_fail(err, info > 0 ? D2C_INTERNAL : D2C_NO_MEMORY,
                        "eigenvalues of the covariances could not be computed");
    if (value[0] < -fmax(NEGATIVE_SHARE * fmax(value[size - 1], 1e-300), rounding))
        return fail_negative(err, "second");
    for (i = 0; i < size; i++)
        value[i] = value[i] > 0 ? value[i] : 0;
    return D2C_OK;
}

/* product[rows, columns] = a[rows, width] b[width, columns], or its lower triangle.  Rows of b are used while they are in
 * the cache; the order of each sum is that of b's rows. */
static void
multiply(double *product, const double *a, const double *b, int rows, int width, int columns, int lower)
{
    int start, i, j, k;

    memset(product, 0, (size_t)rows * (size_t)columns * sizeof *product);
    for (start = 0; start < width; start += TILE)
        for (i = 0; i < rows; i++)
            for (k = start; k < width && k < start + TILE; k++) {
                double *to = product + i * columns, own = a[i * width + k];
                const double *from = b + k * columns;

#pragma omp simd
                for (j = 0; j < (lower ? i + 1 : columns); j++)
                    to[j] += own * from[j];
            }
}

static void
transpose(double *to, const double *from, int rows, int columns)
{
    int i, j;

    for (i = 0; i < rows; i++)
        for (j = 0; j < columns; j++)
            to[j * rows + i] = from[i * columns + j];
}

/* tr (cov1 cov2)^(1/2); scratch [3 * width + 1, width]. */
static d2c_status
trace_of_root(double *trace, int width, const double *cov1, const double *cov2, double *scratch,
              d2c_error *err)
{
    size_t square = (size_t)width * (size_t)width;
    double *root = scratch, *b = root + square, *c = b + square, *value = c + square;
    double rounding =
        (double)width * width * DBL_EPSILON * largest_variance(width, cov1) * largest_variance(width, cov2);
    int rank, i;

    *trace = 0;
    D2C_TRY(factor(&rank, root, value, width, cov1, err));
    if (rank == 0)
        return D2C_OK;
    multiply(b, root, cov2, rank, width, width, 0);
    transpose(c, root, rank, width);
    multiply(root, b, c, rank, width, rank, 1);
    D2C_TRY(find_eigenvalues(rank, root, value, rounding, err));
    for (i = 0; i < rank; i++)
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
