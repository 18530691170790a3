/* pca.h: principal components of pixels, and the moments of images in them. */
#ifndef D2C_EVAL_PCA_H
#define D2C_EVAL_PCA_H

#include "base/status.h"
#include "eval/pixels.h"

typedef struct d2c_pca {
    int size, components;
    double *mean;     /* [size], of pixels scaled to [0, 1] */
    double *vector;   /* [components, size], by falling variance */
    double explained; /* share of the variance that the components hold */
} d2c_pca;

/* Fitted on every image of the set.  The result does not depend on the number of threads. */
d2c_status d2c_pca_fit(d2c_pca *pca, const d2c_pixel_set *set, int components, d2c_error *err);
void d2c_pca_free(d2c_pca *pca);

/* features[n, components] of n images spread over the set. */
void d2c_pca_features(double *features, const d2c_pca *pca, const d2c_pixel_set *set, int64_t n);

#endif
