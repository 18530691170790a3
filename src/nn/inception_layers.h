/* inception_layers.h: the layers of Inception-v3 for FID, as a list of steps with shapes (inception.c runs it). */
#ifndef D2C_NN_INCEPTION_LAYERS_H
#define D2C_NN_INCEPTION_LAYERS_H

#include "nn/params.h"

#define D2C_INCEPTION_EDGE 299  /* of the picture that the network takes */
#define D2C_INCEPTION_SPATIAL 7 /* channels that sFID looks at */
#define D2C_INCEPTION_BUFFERS 4

typedef struct d2c_inception_shape {
    int rows, columns, channels;
} d2c_inception_shape;

typedef enum d2c_inception_kind {
    D2C_INCEPTION_CONV, /* with its norm folded in, then a ReLU */
    D2C_INCEPTION_MAX,
    D2C_INCEPTION_MEAN
} d2c_inception_kind;

/* One convolution or pool: buffer `from` to buffer `to` and, where it ends a branch, on to its columns of the block's
 * output. */
typedef struct d2c_inception_step {
    char name[48]; /* of a convolution */
    d2c_inception_kind kind;
    d2c_window window;
    int from, to;
    d2c_inception_shape in, out;
    int joins;        /* the buffer of the block's output, or -1 */
    int first, width; /* the first of its columns there, and how many there are */
    d2c_weight weight;
} d2c_inception_step;

typedef struct d2c_inception_plan {
    d2c_inception_step *step;
    int steps, capacity;
    int spatial;             /* the step that sFID looks at */
    d2c_inception_shape out; /* of the last block, in buffer `last` */
    int last, classes;
    int64_t size[D2C_INCEPTION_BUFFERS]; /* elements */
} d2c_inception_plan;

/* Lays the network out with the widths that the file's tensors have, and adds its parameters: STEP.weight and STEP.bias
 * of each convolution, and fc.weight.  D2C_BAD_MODEL names the tensor that does not fit. */
d2c_status d2c_inception_plan_make(d2c_inception_plan *plan, d2c_params *params, const d2c_weights *file,
                                   d2c_error *err);
void d2c_inception_plan_free(d2c_inception_plan *plan);

#endif
