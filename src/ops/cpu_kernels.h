/*
 * cpu_kernels.h: the CPU backend's own loops, compiled once for each instruction set.
 *
 * A kernel is serial and pure: it works on the rows it is given, and threads.  Which rows a thread gets is decided
 * by the op (cpu_*.c), never here.  Tensors that may be f32 or bf16 come as a pointer and a dtype; row strides count
 * elements.  cpu_kernels_{generic,avx2,avx512}.c each compile cpu_kernels_body.h.
 */
#ifndef D2C_OPS_CPU_KERNELS_H
#define D2C_OPS_CPU_KERNELS_H

#include "base/philox.h"
#include "ops/ops.h"

/* An operand of a kernel: n elements, or rows `stride` elements apart. */
typedef struct d2c_rows_in {
    const void *data;
    d2c_dtype dtype;
    int64_t stride;
} d2c_rows_in;

typedef struct d2c_rows_out {
    void *data;
    d2c_dtype dtype;
    int64_t stride;
} d2c_rows_out;

/* What AdamW works on; ema and shadow may be NULL. */
typedef struct d2c_adamw_range {
    float *value, *m, *v, *ema;
    uint16_t *shadow;
    const float *grad;
    int64_t n;
} d2c_adamw_range;

typedef struct d2c_cpu_kernels {
    const char *name;

    /* y [n] = x [n] converted; f32, bf16 and f16 */
    void (*convert)(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n);
    /* y [n] = a x + b y; b = 0 does not read y */
    void (*axpby)(float *y, float a, const float *x, float b, int64_t n);
    /* y = act(x); dx = dy act'(x) */
    void (*act)(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, int64_t n, d2c_act act);
    void (*act_gradient)(void *dx, d2c_dtype dxt, const void *dy, d2c_dtype dyt, const void *x, d2c_dtype xt,
                         int64_t n, d2c_act act);

    /* y [rows, c] = act(gate) * value */
    void (*glu)(d2c_rows_out y, d2c_rows_in gate, d2c_rows_in value, int64_t rows, int64_t c, d2c_act act);

    /* y = LN(x) * (one + mul [c]) + add [c]; mul and add may be NULL; stat [rows, 2] may be NULL */
    void (*norm)(d2c_rows_out y, float *stat, d2c_rows_in x, const float *mul, const float *add, float one,
                 float eps, int64_t rows, int64_t c);
    /* y = x / sqrt(mean of x^2 + eps) * gamma [c] */
    void (*rms)(d2c_rows_out y, d2c_rows_in x, const float *gamma, float eps, int64_t rows, int64_t c);
    /* out [rows, c] = x + gate [c] * y, then h = LN(out) * (1 + scale) + shift */
    void (*gate_norm)(float *out, d2c_rows_out h, float *stat, const float *x, d2c_rows_in y,
                      const float *gate, const float *scale, const float *shift, float eps, int64_t rows,
                      int64_t c);
    /* dx = or += the gradient of norm; dadd and dmul [c] are added to, or NULL; work [c] */
    void (*norm_gradient)(d2c_rows_out dx, int accumulate, float *dmul, float *dadd, d2c_rows_in dy,
                          d2c_rows_in x, const float *stat, const float *mul, float one, float *work,
                          int64_t rows, int64_t c);
    /* x [rows, c] += gate [c] * y */
    void (*gate)(float *x, d2c_rows_in y, const float *gate, int64_t rows, int64_t c);
    /* dy = gate * dx; dgate [c] += sum over rows of dx * y */
    void (*gate_gradient)(d2c_rows_out dy, float *dgate, const float *dx, d2c_rows_in y, const float *gate,
                          int64_t rows, int64_t c);
    /* sum [c] += sum over rows of x */
    void (*column_sum)(float *sum, d2c_rows_in x, int64_t rows, int64_t c);

    /* Rows are `stride` apart.  p [rows, cols] = exp(v - max v), v = scale * s + bias, p = 0 or as good as up to the
     * stride; s is overwritten; lse = log sum exp v; inverse = 1 / sum of p */
    void (*softmax)(void *p, d2c_dtype pt, float *lse, float *inverse, float *s, const float *bias,
                    int64_t bias_stride, float scale, int64_t rows, int64_t cols, int64_t stride);
    /* On transposed scores [cols, rows], rows padded to the stride: p = exp(v - lse [stride]); ds = scale * p * (dp -
     * delta [stride]); bias as it is in softmax */
    void (*softmax_gradient)(void *p, void *ds, d2c_dtype pt, const float *s, const float *dp,
                             const float *bias, int64_t bias_stride, const float *lse, const float *delta,
                             float scale, int64_t rows, int64_t cols, int64_t stride);
    /* y [rows, c] = x [rows, c] * factor [rows]; factor NULL: 1 */
    void (*scale_rows)(d2c_rows_out y, d2c_rows_in x, const float *factor, int64_t rows, int64_t c);
    /* dot [rows] = sum over c of x * y */
    void (*row_dot)(float *dot, d2c_rows_in x, d2c_rows_in y, int64_t rows, int64_t c);

    /* shift [c] = the first of the pixels x [rows, c]; sum and square [c] = sums of x - shift and of its squares */
    void (*moments)(float *shift, float *sum, float *square, const void *x, d2c_dtype xt, int64_t rows,
                    int64_t c);
    /* y [rows, c] = act((x - mean [c]) * mul [c] + add [c]) */
    void (*normalize)(void *y, d2c_dtype yt, const void *x, d2c_dtype xt, const float *mean, const float *mul,
                      const float *add, int64_t rows, int64_t c, d2c_act act);
    /* y [c] = the maximum or mean of rows * columns pixels; rows of pixels are row_stride elements apart */
    void (*pool)(void *y, const void *x, d2c_dtype type, int64_t rows, int64_t columns, int64_t row_stride,
                 int64_t c, d2c_pool_kind kind);

    /* y [n] = the draw of one row */
    void (*normal)(float *y, uint64_t seed, uint64_t id, uint32_t stream, int64_t n);

    /* y [n] = a x + b z */
    void (*combine)(float *y, float a, const float *x, float b, const float *z, int64_t n);
    /* returns the sum of (v - target)^2; dv, may be NULL, = factor * (v - target) */
    double (*square_error)(float *dv, const float *v, const float *target, float factor, int64_t n);
    /* v [2n] is noise and fraction of the variance's range: returns the sum of (v - noise)^2 and of the divergence in bits,
     * where an error of 1 moves the mean by a square of `square` least variances; dv, may be NULL, = scale * gradient */
    double (*dit_error)(float *dv, const float *v, const float *noise, float square, float range, float scale,
                        int64_t n);
    /* returns cos(z, q); dz, may be NULL, = factor * its gradient */
    double (*cosine)(void *dz, d2c_dtype dzt, const void *z, d2c_dtype zt, const void *q, d2c_dtype qt,
                     float factor, int64_t n);
    double (*square_sum)(const float *x, int64_t n);
    void (*adamw)(const d2c_adamw_range *range, const d2c_adamw *setting, const d2c_step_record *record);
} d2c_cpu_kernels;

/* The best of the three for this processor, or for what DNNL_MAX_CPU_ISA allows. */
const d2c_cpu_kernels *d2c_cpu_kernels_pick(void);

extern const d2c_cpu_kernels d2c_cpu_kernels_generic;
#if defined(__x86_64__)
extern const d2c_cpu_kernels d2c_cpu_kernels_avx2;
extern const d2c_cpu_kernels d2c_cpu_kernels_avx512;
#endif

#endif
