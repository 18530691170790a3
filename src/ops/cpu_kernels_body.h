/*
 * cpu_kernels_body.h: the kernels of cpu_kernels.h, compiled once for each instruction set.
 *
 * D2C_KERNELS names the table that the including file defines.  Loops are written for `omp simd`; a dtype is made a
 * constant by WITH_TYPE around a loop, so that each pair of dtypes has a loop of its own.
 */
#include "ops/cpu_kernels.h"

#include "ops/cpu_math.h"

#define SIMD _Pragma("omp simd")
#define SIMD_SUM(...) SIMD_PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#define SIMD_MAX(v) SIMD_PRAGMA(omp simd reduction(max : v))
#define SIMD_PRAGMA(text) _Pragma(#text)

/* Runs the statement with T a constant, the dtype of an operand that is f32 or bf16. */
#define WITH_TYPE(T, type, ...)                                                                              \
    do {                                                                                                     \
        if ((type) == D2C_BF16) {                                                                            \
            const d2c_dtype T = D2C_BF16;                                                                    \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            const d2c_dtype T = D2C_F32;                                                                     \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

/* The same with A a constant, the activation. */
#define WITH_ACT(A, act, ...)                                                                                \
    do {                                                                                                     \
        switch (act) {                                                                                       \
            ACT_CASE(A, D2C_ACT_NONE, __VA_ARGS__)                                                           \
            ACT_CASE(A, D2C_ACT_SILU, __VA_ARGS__)                                                           \
            ACT_CASE(A, D2C_ACT_GELU_TANH, __VA_ARGS__)                                                      \
            ACT_CASE(A, D2C_ACT_GELU_ERF, __VA_ARGS__)                                                       \
            ACT_CASE(A, D2C_ACT_RELU, __VA_ARGS__)                                                           \
            ACT_CASE(A, D2C_ACT_GELU_QUICK, __VA_ARGS__)                                                     \
        }                                                                                                    \
    } while (0)
#define ACT_CASE(A, value, ...)                                                                              \
    case value: {                                                                                            \
        const d2c_act A = value;                                                                             \
        __VA_ARGS__;                                                                                         \
        break;                                                                                               \
    }

/* Some compilers say which loops they leave scalar; that is no error. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

#include "ops/cpu_kernels_element.h"
#include "ops/cpu_kernels_norm.h"
#include "ops/cpu_kernels_attention.h"
#include "ops/cpu_kernels_image.h"
#include "ops/cpu_kernels_train.h"

const d2c_cpu_kernels D2C_KERNELS = {
    .name = D2C_KERNELS_NAME,
    .convert = kernel_convert,
    .axpby = kernel_axpby,
    .act = kernel_act,
    .act_gradient = kernel_act_gradient,
    .glu = kernel_glu,
    .norm = kernel_norm,
    .rms = kernel_rms,
    .gate_norm = kernel_gate_norm,
    .norm_gradient = kernel_norm_gradient,
    .gate = kernel_gate,
    .gate_gradient = kernel_gate_gradient,
    .column_sum = kernel_column_sum,
    .softmax = kernel_softmax,
    .softmax_gradient = kernel_softmax_gradient,
    .scale_rows = kernel_scale_rows,
    .row_dot = kernel_row_dot,
    .moments = kernel_moments,
    .normalize = kernel_normalize,
    .pool = kernel_pool,
    .normal = kernel_normal,
    .combine = kernel_combine,
    .square_error = kernel_square_error,
    .dit_error = kernel_dit_error,
    .cosine = kernel_cosine,
    .square_sum = kernel_square_sum,
    .adamw = kernel_adamw,
};
