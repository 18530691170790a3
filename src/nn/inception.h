/*
 * inception.h: the Inception-v3 that FID, sFID, Inception Score, precision and recall are measured with.
 *
 * The weights are those of pytorch-fid's pt_inception-2015-12-05 (<path>.conv.weight, <path>.bn.*, fc.weight); every
 * width is read from them.  The norms (eps 1e-3) are folded into the convolutions in double.  It computes in f32 always:
 * distances of features are too sensitive for less.
 */
#ifndef D2C_NN_INCEPTION_H
#define D2C_NN_INCEPTION_H

#include "image/image.h"
#include "nn/inception_layers.h"
#include "nn/model.h"

/* How a picture becomes 299 x 299 numbers around 0.  Features of different ways are not comparable. */
typedef enum d2c_inception_input {
    D2C_INCEPTION_PYTORCH_FID, /* bilinear between pixel centres, not antialiased; 2 x / 255 - 1 */
    D2C_INCEPTION_TENSORFLOW,  /* ADM's, torch-fidelity's: bilinear between pixel corners; (x - 128) / 128 */
    D2C_INCEPTION_CLEAN_FID    /* PIL's bicubic in f32, antialiased, cut to 0..255; then as TensorFlow's */
} d2c_inception_input;

typedef struct d2c_inception {
    d2c_inception_input input;
    d2c_inception_plan plan;
    d2c_params params;
    d2c_weight classifier;
    int features, classes, spatial; /* widths of a result: 2048, 1008, 17 * 17 * 7 */
} d2c_inception;

/* What the network makes of one picture, in host memory; logits and spatial may be NULL. */
typedef struct d2c_inception_result {
    float *features; /* [features]: pool3 */
    float *logits;   /* [classes]: without bias, as the Inception Score takes them */
    float
        *spatial; /* [spatial]: sFID's, the first 7 channels of Mixed_6d.branch1x1, (row, column, channel) */
} d2c_inception_result;

/* "pytorch-fid", "tensorflow", "clean-fid"; NULL: the first. */
d2c_status d2c_inception_input_named(d2c_inception_input *input, const char *name, d2c_error *err);

/* x [299, 299, 3] of an RGB picture of any size. */
d2c_status d2c_inception_prepare(float *x, const d2c_image *image, d2c_inception_input input, d2c_error *err);

d2c_status d2c_inception_open(d2c_inception **inception, d2c_backend *be, const d2c_weights *file,
                              d2c_inception_input input, d2c_error *err);
void d2c_inception_close(d2c_inception *inception, d2c_backend *be);

/* The network of a model of this kind; NULL for others. */
const d2c_inception *d2c_model_inception(const d2c_model *model);

d2c_status d2c_inception_run(const d2c_inception *inception, d2c_backend *be, d2c_scratch *scratch,
                             const d2c_inception_result *result, const d2c_image *image, d2c_error *err);

#endif
