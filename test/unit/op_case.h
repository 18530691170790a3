/*
 * op_case.h: what a case of the op table is, its tolerances and flags (the table: op_cases.h).
 *
 * Tolerances are normalised mean squared errors (NMSE) against sums in double:
 *   EXACT   copies, layouts, draws: equal.
 *   F32     f32 arithmetic: rounding errors of 6e-8 that grow with the root of the length, below 3e-6 for the lengths
 *           here.  Products of bf16 operands get ten times as much: their f32 sums may be reordered by pairs.
 *   APPROX  f32 with approximated exp, tanh, erf, sine: relative errors up to 3e-5.
 *   BF16    the same f32 value rounded to bf16: only values near a tie differ, by one unit of 2^-8.
 *   BF16_2  one rounding to bf16 more or less on the way: an activation's input, the second product's operand, the bias
 *           of an e4m3 product.  Results are then apart by one unit of 2^-7..2^-8 as often as the first error is large:
 *           at most a quarter of a squared unit in the mean, 6.5e-6 of the mean square, times the square of an
 *           activation's slope.
 * They hold for tensors of the case's own type: beside bf16 results, f32 tensors (statistics, sums) are held to APPROX
 * at most, and beside f32 ones a bf16 shadow to BF16.
 */
#ifndef D2C_TEST_OP_CASE_H
#define D2C_TEST_OP_CASE_H

#include "op_fixture.h"

#define EXACT 0.0
#define TOL_F32 1e-11
#define TOL_APPROX 1e-9
#define TOL_BF16 1e-6
#define TOL_BF16_2 2e-5

enum {
    ACT_MASK = 7,      /* a d2c_act */
    WITH_PRE = 8,      /* linear: keep the value before the activation */
    NO_BIAS = 16,      /* linear: without; attention: with none */
    STRIDED = 32,      /* strided rows */
    ACCUMULATE = 64,   /* linear_backward_input */
    PLAIN = 128,       /* layernorm without gamma and beta; optional outputs absent */
    BROADCAST = 256,   /* attention's bias is [B, 1, 1, T] */
    IN_PLACE = 512,    /* gate_modulate_forward: out is x */
    ORDER_LAST = 1024, /* patchify: channels last */
    LARGE = 2048,      /* scores of some hundreds, activations far into the tails */
    FROZEN = 4096,     /* layernorm_backward: gamma without its gradient */
    CAUSAL = 8192,     /* attention's bias is [1, 1, T, T], and hides the tokens behind each */
    SHARED = 16384,    /* attention's bias is [1, H, T, T] */
    COUPLED = 32768,   /* adamw_step: Adam's weight decay */
    WINDOW_SHIFT = 16  /* the number of a window (op_image.h) from this bit on */
};

typedef struct op_case {
    const char *op;
    d2c_status (*run)(op_fixture *f, const struct op_case *c);
    int64_t d[5];
    d2c_dtype in, out;
    int flags;
    double tolerance;
} op_case;

static inline int
has(const op_case *c, int flag)
{
    return (c->flags & flag) != 0;
}

/* Rows [rows, width], strided where the case says so. */
static inline d2c_tensor
rows_of(const op_case *c, d2c_dtype dtype, int64_t rows, int64_t width)
{
    return d2c_rows(OP_VIEW, dtype, rows, width, has(c, STRIDED) ? 2 * width + 8 : width);
}

static inline d2c_tensor
tokens_of(d2c_dtype dtype, const op_case *c)
{
    return d2c_tensor3(OP_VIEW, dtype, c->d[0], c->d[1], c->d[2]);
}

/* Value and shadow hold the same numbers, so that both see the same weights. */
static d2c_weight
make_weight(op_fixture *f, const op_case *c, int64_t in, int64_t out)
{
    d2c_weight w = {.shadow =
                        op_random(f, "shadow", OP_INPUT, d2c_tensor2(OP_VIEW, D2C_BF16, out, in), 0.2, 0)};
    op_buffer *value = op_add_buffer(f, "value", OP_INPUT, d2c_tensor2(OP_VIEW, D2C_F32, out, in));
    d2c_tensor shadow = op_on_host(f, w.shadow);

    for (int64_t i = 0; i < out * in; i++)
        op_store(value->start + OP_GUARD, D2C_F32, i, op_load(shadow.data, D2C_BF16, i));
    w.value = op_upload(f, value);
    if (!has(c, NO_BIAS))
        w.bias = op_input(f, "bias", d2c_tensor1(OP_VIEW, D2C_F32, out));
    return w;
}

#endif
