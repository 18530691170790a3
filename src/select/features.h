/*
 * features.h: selections by features: k-center greedy, herding, moderate, gadc.
 *
 * Compiled into d2c.so and into libd2c alike, so that a backend and the engine pick the same rows; nothing but libc, no
 * allocation.  Rows come in the order of their ids: ties go to the first.  Sums are doubles in a fixed order.
 *
 * Gadc follows the idea of GADC (arXiv 2606.05883).  The objective of a set S of picks among N rows is, all of it in
 * squared units of the features,
 *
 *   1/N sum_x min_{s in S} |x - s|^2  +  1.25 |mean_S - mean|^2  +  sum_j (deviation_S,j - deviation_j)^2.
 *
 * The first term is the squared 2-Wasserstein distance of the rows to the nearest distribution on S: every row's mass goes
 * to its nearest pick, so no entropy and no plan is needed.  GADC itself uses an entropic partial transport with capacities
 * and adds a classifier's cross-entropy, which is left out.  Greedy picks are improved by exchanges, pick by pick, until
 * none helps or ten sweeps are done; this from the best first pick and from the first three of k-center, and the best set
 * wins.
 */
#ifndef D2C_SELECT_FEATURES_H
#define D2C_SELECT_FEATURES_H

#include <stddef.h>
#include <stdint.h>

/* The numbers that the SQL type stores as well. */
typedef enum d2c_feature_method {
    D2C_FEATURE_KCENTER = 7,
    D2C_FEATURE_HERDING = 8,
    D2C_FEATURE_MODERATE = 9,
    D2C_FEATURE_GADC = 10
} d2c_feature_method;

/* Gadc keeps the distances of all pairs, in less than 1 GB. */
#define D2C_GADC_ROWS 11585

typedef struct d2c_feature_rows {
    const float **feature; /* [count], of finite floats [width] each */
    int64_t count;         /* 1 to 2^31 - 1; for gadc at most D2C_GADC_ROWS */
    int64_t width;         /* 1 to 2^28 */
    void (*poll)(void *);  /* called within milliseconds, and may leave by longjmp; NULL: nobody */
    void *closure;         /* poll's argument */
} d2c_feature_rows;

/* Bytes of workspace that d2c_select_features needs for n picks. */
size_t d2c_select_features_space(d2c_feature_method method, int64_t count, int64_t width, int64_t n);

/* Writes the rows that are picked to chosen[n], in the order they are picked; n is between 1 and count. */
void d2c_select_features(int64_t *chosen, const d2c_feature_rows *rows, d2c_feature_method method, int64_t n,
                         void *space);

#endif
