/*
 * params.h: the parameters of a network as named slices of one flat range.
 *
 * Values, gradients, the optimizer's moments, the EMA and the bf16 shadow are parallel ranges of device memory, so the
 * optimizer, the norm and a checkpoint are loops over one range.  Trainable parameters come first, frozen ones last;
 * each starts at a multiple of 64 elements unless it continues a group (d2c_params_add_group), whose members lie
 * back to back so that they can be used as one matrix.
 *
 * An inference network that computes in f32 in the host's memory needs no copy of what a file holds as it is used:
 * d2c_params_open leaves such parameters where they are mapped, and the range has the others.
 */
#ifndef D2C_NN_PARAMS_H
#define D2C_NN_PARAMS_H

#include <stdint.h>

#include "nn/weights.h"
#include "ops/ops.h"

typedef enum d2c_init {
    D2C_INIT_ZERO,
    D2C_INIT_ONE,
    D2C_INIT_XAVIER, /* U(+-sqrt(6/(in+out))), in and out from the first dim and the product of the others */
    D2C_INIT_NORMAL02, /* N(0, 0.02^2) */
    D2C_INIT_GIVEN     /* set by the network itself: position tables */
} d2c_init;

typedef struct d2c_param {
    char name[96];
    int ndim;
    int64_t dim[4];
    int64_t offset, count; /* elements from the start of the range */
    d2c_init init;
    int trainable;
    int eight;           /* has an e4m3 copy where the range has them */
    int channels_last;   /* [out, height, width, in]; files have torch's [out, in, height, width] */
    int group;           /* 1 + index of the first of its group; 0 when it is in none */
    const float *mapped; /* its values in the file, NULL when they are in the range */
} d2c_param;

typedef struct d2c_params {
    d2c_param *item;
    int count, capacity;
    int64_t total;             /* elements of the whole range, padding included */
    int64_t trainable;         /* elements of its trainable front */
    float *value;              /* [total] device */
    uint16_t *shadow;          /* [total] bf16, or NULL */
    uint8_t *eight;            /* [total] e4m3, of the parameters that have it, or NULL */
    float *scale;              /* their scales, or NULL */
    float *grad, *m, *v, *ema; /* [total], or NULL when not training */
    d2c_weights *file;         /* that mapped values are in; NULL when there are none */
} d2c_params;

/* Whether a network can compute in that precision on the backend: f32, or bf16 and fp8 (bf16 with e4m3 operands of the
 * large products) where the hardware multiplies them. */
d2c_status d2c_precision_check(const d2c_backend *be, d2c_dtype precision, d2c_error *err);

d2c_status d2c_params_add(d2c_params *params, const char *name, d2c_init init, int trainable, int ndim,
                          const int64_t *dim, d2c_error *err);
/* As above, directly behind the parameter added last, without padding. */
d2c_status d2c_params_add_group(d2c_params *params, const char *name, d2c_init init, int trainable, int ndim,
                                const int64_t *dim, d2c_error *err);

/* Allocates the ranges: values always, the shadow for bf16, the rest when training.  All zero. */
d2c_status d2c_params_allocate(d2c_params *params, d2c_backend *be, int with_shadow, int training,
                               d2c_error *err);
/* And the e4m3 copies. */
d2c_status d2c_params_allocate_eight(d2c_params *params, d2c_backend *be, d2c_error *err);
void d2c_params_free(d2c_params *params, d2c_backend *be);

/* Draws the initial values: a function of seed and names alone.  Then refreshes shadow and EMA. */
d2c_status d2c_params_initialize(d2c_params *params, d2c_backend *be, uint64_t seed, d2c_error *err);
/* shadow = bf16(value), and the e4m3 copies, after values were changed from outside. */
d2c_status d2c_params_refresh(d2c_params *params, d2c_backend *be, d2c_error *err);

/* Bytes of values and of their copies in other types, mapped ones included. */
size_t d2c_params_bytes(const d2c_params *params);

/* Where a parameter's values are: in `range`, or mapped when that is params->value. */
float *d2c_params_at(const d2c_params *params, const d2c_param *p, const float *range);

/* NULL when there is none of that name. */
const d2c_param *d2c_params_find(const d2c_params *params, const char *name);
d2c_tensor d2c_params_tensor(const d2c_params *params, const char *name, const float *range);
/* The linear layer whose tensors are name.weight and name.bias; the weight's dims after the first are flattened. */
d2c_weight d2c_params_linear(const d2c_params *params, const char *name);

/* A convolution's weight [out, in, height, width] in the file, kept with its channels last (d2c_conv2d_forward), and its
 * bias: name.weight and, unless there is none, name.bias.  d2c_params_linear gives both. */
d2c_status d2c_params_add_conv(d2c_params *params, const char *name, int64_t out, int64_t in, int height,
                               int width, int with_bias, d2c_error *err);

/* Reads every parameter "prefix + name" from the file into `range` (params->value, ->ema, ...); the shapes must agree,
 * dims of 1 at the end apart.  A missing tensor is an error that names it.  Loading the values refreshes the shadow. */
d2c_status d2c_params_load(d2c_params *params, d2c_backend *be, float *range, const d2c_weights *file,
                           const char *prefix, d2c_error *err);

/* How a file names what the network calls `parameter`: up to D2C_NAME_PARTS tensors, whose rows one after another are
 * the parameter (query, key and value apart); returns how many.  0, of a parameter that the network itself sets: the file
 * has none, and loading leaves it as it is. */
#define D2C_NAME_PARTS 3
#define D2C_NAME_SIZE 192
typedef int (*d2c_naming)(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter,
                          const void *closure);

/* The same from a file with names of its own. */
d2c_status d2c_params_load_named(d2c_params *params, d2c_backend *be, float *range, const d2c_weights *file,
                                 d2c_naming naming, const void *closure, d2c_error *err);

/* Whether the file has every parameter in its shape. */
d2c_status d2c_params_check_named(const d2c_params *params, const d2c_weights *file, d2c_naming naming,
                                  const void *closure, d2c_error *err);

/* Checks that, before anything is allocated by a config's numbers; then allocates and loads an inference network's
 * parameters; precision: what it computes in.  The file is held where values are used from its mapping. */
d2c_status d2c_params_open(d2c_params *params, d2c_backend *be, d2c_dtype precision, d2c_weights *file,
                           d2c_naming naming, const void *closure, d2c_error *err);

/* The naming of files that have the network's own names behind a prefix, which is the closure. */
int d2c_name_with_prefix(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *prefix);

/* One parameter's values from host memory, for what no file holds as it is used. */
d2c_status d2c_params_put(d2c_params *params, d2c_backend *be, float *range, const char *name,
                          const float *values, d2c_error *err);

#endif
