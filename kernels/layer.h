/*
 * layer.h: a product with what comes before and after its rows, for linear layers and convolutions (linear.c).
 */
#ifndef D2C_KERNELS_LAYER_H
#define D2C_KERNELS_LAYER_H

#include "product.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out = act(product), or product * act'(pre) backward. */
typedef struct d2c_layer {
    d2c_cuda *cuda;
    d2c_matmul product;
    d2c_tensor a;           /* [rows, k] */
    d2c_tensor b;           /* the weights */
    d2c_tensor bias;        /* [n] f32 or absent */
    d2c_tensor bias_shadow; /* [n] bf16 or absent */
    d2c_tensor out;         /* [rows, n] */
    d2c_tensor pre;         /* [rows, n] written forward, read backward; may be absent */
    d2c_act act;
    int backward;
    int small;             /* the op's whole result is: its bias is added in f32 */
    int64_t operand_bytes; /* of scratch memory for the caller's own operands; a multiple of 256 */
    char *operand;
    void *bias_copy; /* [n] */
    float *scratch;  /* [run, n] */
    int64_t run;
} d2c_layer;

/* y [N, out] = act(x [N, in] W^T + b) and pre: d2c_linear_forward's tensors. */
void d2c_layer_forward(d2c_layer *l, d2c_cuda *cuda, d2c_tensor y, d2c_tensor pre, d2c_tensor x,
                       const d2c_weight *w, d2c_act act);

/* Whether a result of so many elements is small. */
int d2c_layer_is_small(int64_t count);

/* All of the layer's scratch memory at once, for asking again may move it.  A layer of fewer rows needs no more. */
d2c_status d2c_layer_scratch(d2c_layer *l);

/* Queues the layer, which has its scratch memory. */
d2c_status d2c_layer_run(d2c_layer *l);

/* Rows from `first` on. */
d2c_tensor d2c_layer_rows(d2c_tensor t, int64_t first, int64_t rows);

#ifdef __cplusplus
}
#endif

#endif
