/*
 * evaluate.h: how far a set of samples is from real images, and how close to the training images.
 *
 * Distances are comparable only at equal n, in features fitted on the same training images.
 */
#ifndef D2C_EVAL_EVALUATE_H
#define D2C_EVAL_EVALUATE_H

#include <stdint.h>

#include "base/status.h"
#include "eval/pixels.h"

typedef struct d2c_evaluation {
    int64_t count;    /* samples, and as many real images */
    int components;   /* principal components of the training pixels */
    double explained; /* the share of their variance */
    double frechet;   /* in the components, of pixels in [0, 1] */
    double nearest_median,
        nearest_mean;           /* RMS over pixels, in [0, 1], of a sample to its nearest training image */
    double frechet_classifier;  /* in a small classifier's features; NaN when it was not asked for */
    double classifier_accuracy; /* on the real images; NaN without their labels */
} d2c_evaluation;

/* count 0: as many as both sets have.  The images compared are spread evenly over their set.  classifier: whether to
 * train one on the training images, which then need labels. */
d2c_status d2c_evaluate(d2c_evaluation *result, const d2c_pixel_set *train, const d2c_pixel_set *real,
                        const d2c_pixel_set *samples, int components, int64_t count, int classifier,
                        d2c_error *err);

#endif
