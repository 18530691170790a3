/*
 * classifier.h: a small classifier of the training images, whose last hidden layer measures samples by content.
 *
 * pixels -> 256 -> 64 -> classes, rectified, trained by SGD with momentum.  It sees neither the samples nor the real
 * images, so its features favour no selection; they are the second opinion beside the components of the pixels.
 */
#ifndef D2C_EVAL_CLASSIFIER_H
#define D2C_EVAL_CLASSIFIER_H

#include <stdint.h>

#include "base/status.h"
#include "eval/pixels.h"

#define D2C_CLASSIFIER_WIDTH 64 /* of the features */
#define D2C_CLASSIFIER_MAX_CLASSES 1000

typedef struct d2c_classifier d2c_classifier;

/* Every image needs a label of at least 0; a pure function of the set, the epochs, the matrix library and its kind of
 * processor, whatever the number of threads. */
d2c_status d2c_classifier_train(d2c_classifier **classifier, const d2c_pixel_set *train, int epochs,
                                d2c_error *err);
void d2c_classifier_free(d2c_classifier *classifier);

/* features[n, D2C_CLASSIFIER_WIDTH] of n images spread over the set. */
d2c_status d2c_classifier_features(double *features, const d2c_classifier *classifier,
                                   const d2c_pixel_set *set, int64_t n, d2c_error *err);

/* The share of the set's images whose label it finds; NaN when they have none. */
d2c_status d2c_classifier_accuracy(double *accuracy, const d2c_classifier *classifier,
                                   const d2c_pixel_set *set, d2c_error *err);

#endif
