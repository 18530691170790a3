/*
 * product.h: matrix products on cuBLASLt, planned once for each shape.
 *
 * A product is C [m, n] = A [m, k] B [k, n], row-major with strides, with an epilogue.  Its plan holds descriptors and
 * the algorithm; plans are kept by shape, types, strides, epilogue and alignment.  The algorithm is the library's first
 * proposal without split-K, so that it is the same in every process and sums are taken in one fixed order; or, for a shape
 * met while d2c_tune is on, the fastest of several that were measured (split-K then allowed where its sums are in a fixed
 * order).
 * Where the library proposes none, as it may for bf16 rows of odd length, a small kernel of our own multiplies.
 *
 * Operands are both f32, multiplied as f32 and never as TF32, both bf16, or both e4m3 with a scale each; sums are f32.
 */
#ifndef D2C_KERNELS_PRODUCT_H
#define D2C_KERNELS_PRODUCT_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What happens to a sum before it is stored.  GELU is the tanh form. */
typedef enum d2c_epilogue {
    D2C_EPILOGUE_NONE = 0,
    D2C_EPILOGUE_GELU,         /* c = gelu(sum); aux, optional, receives the sum */
    D2C_EPILOGUE_GELU_GRADIENT /* c = sum * gelu'(aux) */
} d2c_epilogue;

/* Strides count elements, from one row to the next as it lies in memory.  Zero the struct before filling it: plans are
 * found by its bytes. */
typedef struct d2c_matmul {
    int64_t m, n, k;
    int64_t a_stride, b_stride, c_stride;
    int64_t aux_stride;   /* 0: no aux */
    int32_t a_turned;     /* a lies as [k, m] */
    int32_t b_turned;     /* b lies as [n, k] */
    int32_t operand_type; /* d2c_dtype of a and b */
    int32_t result_type;  /* of c and aux, and of bias unless the operands are e4m3: then it is bf16 */
    int32_t has_bias;     /* sum += bias [n], in front of the epilogue */
    int32_t accumulate;   /* the product is added to c */
    int32_t epilogue;     /* d2c_epilogue */
    int32_t reserved;
} d2c_matmul;

/* Where a product's matrices lie. */
typedef struct d2c_matmul_data {
    const void *a, *b, *bias;
    void *c, *aux;
    const float *a_scale, *b_scale; /* of e4m3 operands */
} d2c_matmul_data;

static inline int64_t
d2c_round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Queues the product.  A new shape is planned first; that is D2C_INTERNAL during a capture. */
d2c_status d2c_matmul_run(d2c_cuda *cuda, const d2c_matmul *p, const d2c_matmul_data *at);

/* Whether the product, whose epilogue is an activation, is the fastest way here.  apart(argument) is the other one: it
 * does the same without that epilogue, and may be called to measure it. */
d2c_status d2c_matmul_fuses(d2c_cuda *cuda, int *fuses, const d2c_matmul *p, const d2c_matmul_data *at,
                            d2c_status (*apart)(void *argument), void *argument);

/* product_small.cu: the product without aux and epilogue, for any alignment. */
d2c_status d2c_cuda_matmul_small(d2c_cuda *cuda, const d2c_matmul *p, const d2c_matmul_data *at);

/* epilogue.cu: pre [N, C] = from [N, C] unless it is absent; y [N, C] = act(from), or act(pre) as it is stored.  Rows may
 * be strided; y may be `from`. */
d2c_status d2c_cuda_finish_rows(d2c_cuda *cuda, d2c_tensor y, d2c_tensor pre, d2c_tensor from, d2c_act act);

/* "NVIDIA H100, cuBLASLt 13.1": what the last bits depend on. */
void d2c_products_describe(char *text, size_t size, const char *device_name);

d2c_status d2c_products_open(d2c_products **products, d2c_cuda *cuda, d2c_error *err);
void d2c_products_close(d2c_products *products);

#ifdef __cplusplus
}
#endif

#endif
