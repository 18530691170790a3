/*
 * dnnl_plan.h: oneDNN's matrix products and convolutions behind one call each, for oneDNN 2.6 and 3.x.
 *
 * A plan is a primitive and its memory objects for one product: dims, strides, dtypes and flags.  Plans are made on
 * first use and kept in a cache.  A cache is used by one host thread at a time, and its plans run on the number of
 * threads that it was opened with: oneDNN fixes that when it makes a primitive.
 */
#ifndef D2C_OPS_DNNL_PLAN_H
#define D2C_OPS_DNNL_PLAN_H

#include "ops/ops.h"

/* c [batch, m, n] = a [batch, m, k] b [batch, k, n].  Strides count elements: batch, row, column.  Zero the struct
 * before filling it: plans are found by its bytes. */
typedef struct d2c_product {
    int64_t batch, m, n, k; /* batch 0: a plain product, whose batch strides are not read */
    int64_t a_stride[3], b_stride[3], c_stride[3];
    int32_t a_type, b_type, c_type; /* d2c_dtype */
    int32_t has_bias;               /* c += bias [n] f32 */
    int32_t accumulate;             /* the product is added to c */
    int32_t packed;                 /* b lies as d2c_product_pack left it; b_stride is that of its source */
} d2c_product;

/* y [rows, columns, out] = act(convolution of the picture x [height, width, in] + b), dense.  The weights lie as
 * d2c_convolution_pack left them.  Zeroed before it is filled in. */
typedef struct d2c_convolution {
    int64_t height, width, in;
    int64_t rows, columns, out;
    d2c_window window;
    int32_t x_type, y_type; /* d2c_dtype; the weights are of x's */
    int32_t has_bias;       /* [out] f32 */
    int32_t act;            /* d2c_act, but not ReLU */
    int32_t unused;         /* whole words, without gaps */
} d2c_convolution;

typedef struct d2c_plan_cache d2c_plan_cache;

/* threads: of products; pack_threads: of packing, which is never done inside a parallel region. */
d2c_status d2c_plan_cache_open(d2c_plan_cache **cache, int threads, int pack_threads, d2c_error *err);
void d2c_plan_cache_close(d2c_plan_cache *cache);
int d2c_plan_cache_count(const d2c_plan_cache *cache);

/* Multiplies; waits until it is done. */
d2c_status d2c_product_run(d2c_plan_cache *cache, const d2c_product *product, void *c, const void *a,
                           const void *b, const float *bias, d2c_error *err);

/* Bytes that b needs in the layout that the product likes best, and its conversion into it. */
d2c_status d2c_product_pack_size(d2c_plan_cache *cache, const d2c_product *product, size_t *bytes,
                                 d2c_error *err);
d2c_status d2c_product_pack(d2c_plan_cache *cache, const d2c_product *product, void *packed, const void *b,
                            d2c_error *err);

/* The same of a convolution, whose weights are always packed. */
d2c_status d2c_convolution_run(d2c_plan_cache *cache, const d2c_convolution *convolution, void *y,
                               const void *x, const void *packed, const float *bias, d2c_error *err);
d2c_status d2c_convolution_pack_size(d2c_plan_cache *cache, const d2c_convolution *convolution, size_t *bytes,
                                     d2c_error *err);
d2c_status d2c_convolution_pack(d2c_plan_cache *cache, const d2c_convolution *convolution, void *packed,
                                const void *weights, d2c_error *err);

/* Whether this processor multiplies bf16 faster than f32. */
int d2c_dnnl_has_bf16(void);

/* Version and instruction set, as "oneDNN 2.6.3, isa 0x1f". */
void d2c_dnnl_describe(char *text, size_t size);

#endif
