/*
 * product.h: matrix products on cuBLASLt, planned once for each shape.
 *
 * A product is C [m, n] = A [m, k] B [k, n], row-major with strides, with an epilogue.  Its plan holds descriptors,
 * the algorithm and a workspace; plans are kept by shape.  The algorithm is the library's first proposal without
 * split-K, so that it is the same in every process and sums are taken in one fixed order; or, after d2c_tune, the
 * fastest of several that were measured (split-K then allowed where its sums are in a fixed order).
 */
#ifndef D2C_KERNELS_PRODUCT_H
#define D2C_KERNELS_PRODUCT_H

#include "cuda.h"

/* "NVIDIA H100, cuBLASLt 13.1": what the last bits depend on. */
void d2c_products_describe(char *text, size_t size, const char *device_name);

d2c_status d2c_products_open(d2c_products **products, d2c_cuda *cuda, d2c_error *err);
void d2c_products_close(d2c_products *products);

#endif
