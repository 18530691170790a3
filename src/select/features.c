/* features.c: the rules by which rows are picked by their features (features.h). */
#include "select/features.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
#define MEAN_WEIGHT 1.25
#define SWEEPS 10
#define FAR_STARTS 3
#define LEAST_GAIN 1e-12 /* of the objective; less is rounding */

/* Vectors of twice the width where there are: AVX2 alone, as a fused multiply-add would round differently. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) &&                 \
    !defined(__SANITIZE_ADDRESS__)
#define WIDE_VECTORS __attribute__((optimize("O3"), target_clones("avx2", "default")))
#else
#define WIDE_VECTORS
#endif

typedef struct ranked {
    double distance;
    int64_t row;
} ranked;

/* What the rules work in; carved from the caller's space. */
typedef struct search {
    const d2c_feature_rows *rows;
    int64_t count, width;
    double *mean;     /* [width], of all rows */
    double *other;    /* [width]: a center, what herding wants, a median, or deviations */
    double *sum;      /* [width], of the other picks, about the mean */
    double *squares;  /* [width] */
    double *nearest;  /* [count], squared distance to the nearest pick */
    ranked *order;    /* [count] */
    float *column;    /* [count] */
    int64_t *picks;   /* [n] */
    double *distance; /* [count][count], squared; gadc */
    bool *picked;     /* [count] */
} search;

/* The next part of the space, or the bytes so far when there is none. */
static void *
carve(char *space, size_t *used, size_t count, size_t size)
{
    char *part = space != NULL ? space + *used : NULL;

    *used += (count * size + 15) / 16 * 16;
    return part;
}

static size_t
carve_all(search *s, char *space, d2c_feature_method method, size_t count, size_t width, size_t n)
{
    size_t used = 0;

    s->mean = carve(space, &used, width, sizeof(double));
    s->other = carve(space, &used, width, sizeof(double));
    s->sum = carve(space, &used, width, sizeof(double));
    s->squares = carve(space, &used, width, sizeof(double));
    s->nearest = carve(space, &used, count, sizeof(double));
    s->order = carve(space, &used, count, sizeof(ranked));
    s->column = carve(space, &used, count, sizeof(float));
    s->picks = carve(space, &used, n, sizeof(int64_t));
    s->distance = carve(space, &used, method == D2C_FEATURE_GADC ? count * count : 0, sizeof(double));
    s->picked = carve(space, &used, count, sizeof(bool));
    return used;
}

size_t
d2c_select_features_space(d2c_feature_method method, int64_t count, int64_t width, int64_t n)
{
    search s;

    return carve_all(&s, NULL, method, (size_t)count, (size_t)width, (size_t)n);
}

static void
poll_caller(const search *s)
{
    if (s->rows->poll != NULL)
        s->rows->poll(s->rows->closure);
}

/* In lanes that compilers turn into vector code. */
WIDE_VECTORS static double
squared_distance(const float *a, const double *b, int64_t width)
{
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    int j;

    for (; i + LANES <= width; i += LANES)
        for (j = 0; j < LANES; j++) {
            double difference = a[i + j] - b[i + j];

            lane[j] += difference * difference;
        }
    for (; i < width; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    for (j = 0; j < LANES; j++)
        sum += lane[j];
    return sum;
}

static void
find_mean(search *s)
{
    int64_t i, j;

    memset(s->mean, 0, sizeof(double) * (size_t)s->width);
    for (i = 0; i < s->count; i++) {
        for (j = 0; j < s->width; j++)
            s->mean[j] += s->rows->feature[i][j];
        poll_caller(s);
    }
    for (j = 0; j < s->width; j++)
        s->mean[j] /= (double)s->count;
}

static void
widen(double *out, const float *feature, int64_t width)
{
    int64_t j;

    for (j = 0; j < width; j++)
        out[j] = feature[j];
}

/* The row not yet picked with the greatest value, or the least; the first of equal ones. */
static int64_t
extreme(const search *s, const double *value, bool greatest)
{
    int64_t best = -1, i;

    for (i = 0; i < s->count; i++)
        if (!s->picked[i] && (best < 0 || (greatest ? value[i] > value[best] : value[i] < value[best])))
            best = i;
    return best;
}

/* First the row farthest from the mean, then always the row farthest from those picked. */
static void
pick_centers(int64_t *chosen, search *s, int64_t n)
{
    int64_t rank, i;

    memcpy(s->other, s->mean, sizeof(double) * (size_t)s->width);
    for (rank = 0; rank < n; rank++) {
        for (i = 0; i < s->count; i++) {
            double distance = squared_distance(s->rows->feature[i], s->other, s->width);

            /* The mean is no center: the first pick takes its place. */
            if (rank < 2 || distance < s->nearest[i])
                s->nearest[i] = distance;
            poll_caller(s);
        }
        chosen[rank] = extreme(s, s->nearest, true);
        s->picked[chosen[rank]] = true;
        widen(s->other, s->rows->feature[chosen[rank]], s->width);
    }
}

/* Always the row that brings the mean of those picked closest to the mean of all. */
static void
pick_herd(int64_t *chosen, search *s, int64_t n)
{
    int64_t rank, i, j;

    memset(s->other, 0, sizeof(double) * (size_t)s->width);
    for (rank = 0; rank < n; rank++) {
        /* (rank + 1) mean - sum of those picked: what the next row should be */
        for (j = 0; j < s->width; j++)
            s->other[j] += s->mean[j];
        for (i = 0; i < s->count; i++) {
            s->nearest[i] = squared_distance(s->rows->feature[i], s->other, s->width);
            poll_caller(s);
        }
        chosen[rank] = extreme(s, s->nearest, false);
        s->picked[chosen[rank]] = true;
        for (j = 0; j < s->width; j++)
            s->other[j] -= s->rows->feature[chosen[rank]][j];
    }
}

static int
compare_floats(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;

    return left < right ? -1 : left > right;
}

static int
compare_ranked(const void *a, const void *b)
{
    const ranked *left = a, *right = b;

    if (left->distance != right->distance)
        return left->distance < right->distance ? -1 : 1;
    return left->row < right->row ? -1 : left->row > right->row;
}

/* The median of each element, the mean of the middle two when there is no middle one. */
static void
find_median(double *median, search *s)
{
    int64_t i, j;

    for (j = 0; j < s->width; j++) {
        for (i = 0; i < s->count; i++)
            s->column[i] = s->rows->feature[i][j];
        qsort(s->column, (size_t)s->count, sizeof(float), compare_floats);
        median[j] = ((double)s->column[(s->count - 1) / 2] + s->column[s->count / 2]) / 2;
        poll_caller(s);
    }
}

/* The ranks around the middle of the order by (distance to the median, id). */
static void
pick_moderate(int64_t *chosen, search *s, int64_t n)
{
    int64_t first = (s->count - n) / 2, i;

    find_median(s->other, s);
    for (i = 0; i < s->count; i++)
        s->order[i] = (ranked){squared_distance(s->rows->feature[i], s->other, s->width), i};
    qsort(s->order, (size_t)s->count, sizeof(ranked), compare_ranked);
    for (i = 0; i < n; i++)
        chosen[i] = s->order[first + i].row;
}

/* Squared distances of all pairs; one half is computed and mirrored. */
static void
measure_pairs(search *s)
{
    int64_t i, other;

    for (i = 0; i < s->count; i++) {
        widen(s->sum, s->rows->feature[i], s->width);
        for (other = 0; other <= i; other++) {
            double distance = squared_distance(s->rows->feature[other], s->sum, s->width);

            s->distance[i * s->count + other] = distance;
            s->distance[other * s->count + i] = distance;
            poll_caller(s);
        }
    }
}

/* The standard deviation of each element over all rows. */
static void
find_deviation(double *deviation, const search *s)
{
    int64_t i, j;

    memset(deviation, 0, sizeof(double) * (size_t)s->width);
    for (i = 0; i < s->count; i++) {
        for (j = 0; j < s->width; j++) {
            double difference = s->rows->feature[i][j] - s->mean[j];

            deviation[j] += difference * difference / (double)s->count;
        }
        poll_caller(s);
    }
    for (j = 0; j < s->width; j++)
        deviation[j] = sqrt(deviation[j]);
}

/* What a candidate adds to: sums and nearest distances of the picks but the one at the slot. */
static void
gather_others(search *s, const int64_t *chosen, int64_t n, int64_t slot)
{
    int64_t rank, j, x;

    memset(s->sum, 0, sizeof(double) * (size_t)s->width);
    memset(s->squares, 0, sizeof(double) * (size_t)s->width);
    for (x = 0; x < s->count; x++)
        s->nearest[x] = INFINITY;
    for (rank = 0; rank < n; rank++) {
        const float *feature = s->rows->feature[chosen[rank]];
        const double *distance = s->distance + chosen[rank] * s->count;

        if (rank == slot)
            continue;
        for (j = 0; j < s->width; j++) {
            double difference = feature[j] - s->mean[j];

            s->sum[j] += difference;
            s->squares[j] += difference * difference;
        }
        for (x = 0; x < s->count; x++)
            s->nearest[x] = distance[x] < s->nearest[x] ? distance[x] : s->nearest[x];
        poll_caller(s);
    }
}

/* The objective of the other picks and the candidate, which are so many together. */
static double
objective_with(const search *s, int64_t candidate, int64_t picks)
{
    const float *feature = s->rows->feature[candidate];
    const double *distance = s->distance + candidate * s->count, *deviation = s->other;
    double transport = 0, moments = 0;
    int64_t x, j;

    for (x = 0; x < s->count; x++)
        transport += distance[x] < s->nearest[x] ? distance[x] : s->nearest[x];
    for (j = 0; j < s->width; j++) {
        double difference = feature[j] - s->mean[j];
        double mean = (s->sum[j] + difference) / (double)picks;
        double variance = (s->squares[j] + difference * difference) / (double)picks - mean * mean;
        double spread = sqrt(variance > 0 ? variance : 0) - deviation[j];

        moments += MEAN_WEIGHT * mean * mean + spread * spread;
    }
    return transport / (double)s->count + moments;
}

/* The candidate with the least objective, the first of equal ones; -1 when none is below the limit. */
static int64_t
best_candidate(const search *s, int64_t picks, double limit)
{
    int64_t best = -1, i;

    for (i = 0; i < s->count; i++) {
        double objective;

        if (s->picked[i])
            continue;
        objective = objective_with(s, i, picks);
        if (objective < limit || (best < 0 && isinf(limit))) {
            best = i;
            limit = objective;
        }
        poll_caller(s);
    }
    return best;
}

/* Exchanges each pick for the row that serves best in its place; false when none does. */
static bool
sweep(int64_t *chosen, search *s, int64_t n)
{
    bool improved = false;
    int64_t slot;

    for (slot = 0; slot < n; slot++) {
        double objective;
        int64_t better;

        gather_others(s, chosen, n, slot);
        objective = objective_with(s, chosen[slot], n);
        better = best_candidate(s, n, objective - LEAST_GAIN * objective);
        if (better < 0)
            continue;
        s->picked[chosen[slot]] = false;
        s->picked[better] = true;
        chosen[slot] = better;
        improved = true;
    }
    return improved;
}

/* Picks from this first row on, or from the best one for -1: greedily, then by exchanges; returns their objective. */
static double
pick_from(int64_t *chosen, search *s, int64_t n, int64_t start)
{
    int64_t rank;
    int i;

    memset(s->picked, 0, sizeof(bool) * (size_t)s->count);
    for (rank = 0; rank < n; rank++) {
        gather_others(s, chosen, rank, -1);
        chosen[rank] = rank == 0 && start >= 0 ? start : best_candidate(s, rank + 1, INFINITY);
        s->picked[chosen[rank]] = true;
    }
    for (i = 0; i < SWEEPS && sweep(chosen, s, n); i++)
        ;
    gather_others(s, chosen, n, n - 1);
    return objective_with(s, chosen[n - 1], n);
}

static void
pick_gadc(int64_t *chosen, search *s, int64_t n)
{
    int64_t starts[FAR_STARTS], count = s->count < FAR_STARTS ? s->count : FAR_STARTS, i;
    double least;

    pick_centers(starts, s, count);
    measure_pairs(s);
    find_deviation(s->other, s);
    least = pick_from(chosen, s, n, -1);
    for (i = 0; i < count; i++) {
        double objective = pick_from(s->picks, s, n, starts[i]);

        if (objective >= least - LEAST_GAIN * least)
            continue;
        least = objective;
        memcpy(chosen, s->picks, sizeof(int64_t) * (size_t)n);
    }
}

void
d2c_select_features(int64_t *chosen, const d2c_feature_rows *rows, d2c_feature_method method, int64_t n,
                    void *space)
{
    search s = {.rows = rows, .count = rows->count, .width = rows->width};

    carve_all(&s, space, method, (size_t)rows->count, (size_t)rows->width, (size_t)n);
    memset(s.picked, 0, sizeof(bool) * (size_t)s.count);
    find_mean(&s);
    switch (method) {
    case D2C_FEATURE_KCENTER:
        pick_centers(chosen, &s, n);
        break;
    case D2C_FEATURE_HERDING:
        pick_herd(chosen, &s, n);
        break;
    case D2C_FEATURE_MODERATE:
        pick_moderate(chosen, &s, n);
        break;
    case D2C_FEATURE_GADC:
        pick_gadc(chosen, &s, n);
        break;
    }
}
