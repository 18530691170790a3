/*
 * op_cases_large.h: the op table at the sizes of training, batch 256 of SiT-S/2 and XL/2, for a device.
 *
 * The device runs the whole case; the reference computes three parts of it, at the beginning, in the middle and at the
 * end of every dimension that `part` cuts down.  A dimension that is summed over is never cut.  A cut dimension's size
 * is like no other of the case, since op_in_whole knows it by that.
 *
 * Tolerances of sums over L terms, as NMSE:
 *   SUM(L)        f32 products, rounded to nearest: an addition is wrong by 0.4 * 2^-24 of the sum so far, which grows
 *                 with the root of the terms; L independent errors come to 2.8e-16 L.  Four times that, and at least
 *                 what the small table asks for.
 *   TRUNCATED(L)  bf16 products on tensor cores, which cut off rather than round and take 16 terms at a time: L/16
 *                 errors of at most 2^-24 of the sum so far, all towards zero, so that they add up.
 */
#ifndef D2C_TEST_OP_CASES_LARGE_H
#define D2C_TEST_OP_CASES_LARGE_H

#include "op_cases.h"

typedef struct large_case {
    op_case c;
    int64_t part[5]; /* 0: the whole dimension */
} large_case;

#define SUM(L) ((L)*1e-15 > TOL_F32 ? (L)*1e-15 : TOL_F32)
#define TRUNCATED(L)                                                                                         \
    ((L) / 16 * 0x1p-24 * ((L) / 16 * 0x1p-24) > TOL_F32 * 10 ? (L) / 16 * 0x1p-24 * ((L) / 16 * 0x1p-24)    \
                                                              : TOL_F32 * 10)

/* As in a network: o and lse are those that the same device's forward pass made. */
static d2c_status
run_attention_both(op_fixture *f, const op_case *c)
{
    int heads = (int)c->d[3];
    d2c_tensor qkv = op_input(f, "qkv", d2c_tensor3(OP_VIEW, c->in, c->d[0], c->d[1], 3 * c->d[2]));
    d2c_tensor dout = op_input(f, "dout", tokens_of(c->in, c));
    d2c_tensor o = op_output(f, "o", OP_SET, tokens_of(c->in, c));
    d2c_tensor lse = op_output(f, "lse", OP_SET, d2c_tensor3(OP_VIEW, D2C_F32, c->d[0], c->d[3], c->d[1]));
    d2c_tensor dqkv =
        op_output(f, "dqkv", OP_SET, d2c_tensor3(OP_VIEW, c->in, c->d[0], c->d[1], 3 * c->d[2]));

    D2C_TRY(d2c_attention_forward(f->be, o, lse, qkv, d2c_absent(), heads, attention_scale(c)));
    return d2c_attention_backward(f->be, dqkv, dout, o, lse, qkv, d2c_absent(), heads, attention_scale(c));
}

#define LARGE_CASE(op, in, out, flags, tolerance, p0, p1, p2, ...)                                           \
    {                                                                                                        \
        CASE(op, in, out, flags, tolerance, __VA_ARGS__),                                                    \
        {                                                                                                    \
            p0, p1, p2                                                                                       \
        }                                                                                                    \
    }
/* B, H, W, I, O or C; B and the last, where it is cut */
#define LARGE_IMAGE(op, in, out, flags, tolerance, p0, p4, ...)                                              \
    {                                                                                                        \
        CASE(op, in, out, flags, tolerance, __VA_ARGS__),                                                    \
        {                                                                                                    \
            p0, 0, 0, 0, p4                                                                                  \
        }                                                                                                    \
    }
#define ROWS 65536
#define ADALN 195840 /* (6 * 28 + 2) * 1152: the columns of all layers' modulation */

static const large_case large_cases[] = {
    LARGE_CASE(linear_forward, BF16, BF16, 0, TOL_BF16, 60, 0, 44, ROWS, 1152, 3456),
    LARGE_CASE(linear_forward, BF16, BF16, 0, TOL_BF16, 60, 0, 44, ROWS, 1152, 1152),
    LARGE_CASE(linear_forward, BF16, BF16, GELU_TANH | WITH_PRE, TOL_BF16_2, 60, 0, 44, ROWS, 1152, 4608),
    LARGE_CASE(linear_forward, BF16, BF16, 0, TOL_BF16, 60, 0, 44, ROWS, 4608, 1152),
    LARGE_CASE(linear_forward, BF16, F32, 0, TRUNCATED(1152), 60, 0, 44, 256, 1152, ADALN),
    LARGE_CASE(linear_forward, BF16, BF16, GELU_TANH | WITH_PRE, TOL_BF16_2, 60, 0, 44, ROWS, 384, 1536),
    LARGE_CASE(linear_forward, BF16, BF16, 0, TOL_BF16, 60, 0, 44, 2048, 1152, 3456),
    LARGE_CASE(linear_forward, F32, F32, GELU_TANH | WITH_PRE, TOL_APPROX, 60, 0, 44, ROWS, 384, 1536),
    LARGE_CASE(linear_forward, F32, F32, 0, SUM(1536), 60, 0, 44, ROWS, 1536, 384),
    LARGE_CASE(linear_forward, F32, F32, 0, SUM(1152), 60, 0, 44, 2048, 1152, 3456),

    LARGE_CASE(linear_backward_input, BF16, BF16, 0, TOL_BF16, 60, 44, 0, ROWS, 1152, 3456),
    LARGE_CASE(linear_backward_input, BF16, BF16, 0, TOL_BF16, 60, 44, 0, ROWS, 1152, 4608),
    LARGE_CASE(linear_backward_input, BF16, BF16, GELU_TANH, TOL_BF16_2, 60, 44, 0, ROWS, 4608, 1152),
    LARGE_CASE(linear_backward_input, BF16, F32, ACCUMULATE, TRUNCATED(ADALN), 60, 44, 0, 256, 1152, ADALN),
    LARGE_CASE(linear_backward_input, BF16, BF16, GELU_TANH, TOL_BF16_2, 60, 44, 0, ROWS, 1536, 384),
    LARGE_CASE(linear_backward_input, F32, F32, GELU_TANH, TOL_APPROX, 60, 44, 0, ROWS, 1536, 384),
    LARGE_CASE(linear_backward_input, F32, F32, 0, SUM(1152), 60, 44, 0, ROWS, 384, 1152),

    LARGE_CASE(linear_backward_weight, BF16, BF16, 0, TRUNCATED(ROWS), 0, 60, 44, ROWS, 1152, 3456),
    LARGE_CASE(linear_backward_weight, BF16, BF16, 0, TRUNCATED(ROWS), 0, 60, 44, ROWS, 1152, 4608),
    LARGE_CASE(linear_backward_weight, BF16, BF16, 0, TRUNCATED(ROWS), 0, 60, 44, ROWS, 4608, 1152),
    LARGE_CASE(linear_backward_weight, BF16, BF16, 0, TRUNCATED(256), 0, 60, 44, 256, 1152, ADALN),
    LARGE_CASE(linear_backward_weight, F32, F32, 0, SUM(ROWS), 0, 60, 44, ROWS, 384, 1536),

    LARGE_CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 0, 0, 256, 256, 1152, 16),
    LARGE_CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 1, 0, 0, 256, 256, 384, 6),
    LARGE_CASE(attention_both, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 0, 0, 256, 256, 1152, 16),
    LARGE_CASE(attention_both, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 0, 0, 256, 256, 384, 6),
    LARGE_CASE(attention_both, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 0, 0, 64, 1024, 144, 2),
    LARGE_CASE(attention_both, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 0, 0, 64, 1024, 64, 1),
    LARGE_CASE(attention_both, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 0, 0, 256, 49, 384, 6),
    LARGE_CASE(attention_both, F32, F32, NO_BIAS, TOL_APPROX, 1, 0, 0, 64, 256, 384, 6),

    LARGE_CASE(attention_forward, F32, F32, NO_BIAS | PLAIN, TOL_APPROX, 1, 0, 0, 4, 1024, 512, 1),
    LARGE_CASE(attention_forward, BF16, BF16, NO_BIAS | PLAIN, TOL_BF16_2, 1, 0, 0, 4, 1024, 512, 1),
    LARGE_CASE(attention_forward, F32, F32, SHARED | PLAIN, TOL_APPROX, 0, 0, 0, 2, 120, 2048, 32),
    LARGE_CASE(attention_forward, BF16, BF16, SHARED | PLAIN, TOL_BF16_2, 0, 0, 0, 2, 120, 2048, 32),
    LARGE_CASE(attention_forward, BF16, BF16, CAUSAL | PLAIN, TOL_BF16_2, 1, 0, 0, 64, 77, 768, 12),

    LARGE_IMAGE(conv2d_forward, F32, F32, WINDOW(SAME_3X3), SUM(1152), 1, 5, 4, 256, 256, 128, 128),
    LARGE_IMAGE(conv2d_forward, BF16, F32, WINDOW(SAME_3X3), TRUNCATED(1152), 1, 5, 4, 256, 256, 128, 128),
    LARGE_IMAGE(conv2d_forward, BF16, F32, WINDOW(SAME_3X3), TRUNCATED(4608), 1, 20, 16, 32, 32, 512, 512),
    LARGE_IMAGE(conv2d_forward, BF16, BF16, WINDOW(DOWN_3X3), TOL_BF16_2, 1, 20, 16, 64, 64, 512, 512),
    LARGE_IMAGE(conv2d_forward, F32, F32, WINDOW(SAME_3X3), SUM(27), 1, 20, 4, 256, 256, 3, 128),
    LARGE_IMAGE(conv2d_forward, F32, F32, WINDOW(SAME_3X3), SUM(4608), 1, 0, 16, 32, 32, 512, 8),
    LARGE_IMAGE(conv2d_forward, BF16, BF16, WINDOW(STEM_7X7) | NO_BIAS, TOL_BF16_2, 1, 20, 32, 224, 224, 3,
                64),
    LARGE_IMAGE(conv2d_forward, BF16, BF16, WINDOW(POINT) | RELU, TOL_BF16_2, 1, 20, 32, 14, 14, 1024, 256),
    LARGE_IMAGE(conv2d_forward, F32, F32, WINDOW(WIDE_7) | RELU, SUM(1344), 1, 20, 32, 17, 17, 192, 192),
    LARGE_IMAGE(groupnorm_forward, F32, F32, SILU, TOL_APPROX, 1, 0, 4, 256, 256, 128, 32),
    LARGE_IMAGE(groupnorm_forward, F32, BF16, SILU, TOL_BF16, 1, 0, 16, 32, 32, 512, 32),
    LARGE_IMAGE(upsample_forward, F32, F32, 0, EXACT, 1, 0, 4, 128, 128, 256),
    LARGE_IMAGE(pool_forward, F32, F32, WINDOW(VALID_3X3), EXACT, 1, 0, 32, 147, 147, 64, D2C_POOL_MAX),
    LARGE_IMAGE(pool_forward, F32, F32, WINDOW(SAME_3X3), TOL_F32, 1, 0, 32, 35, 35, 192, D2C_POOL_MEAN),
    LARGE_CASE(rmsnorm_forward, F32, BF16, 0, TOL_BF16, 3, 0, 0, 64, 120, 4096),
    LARGE_CASE(glu_forward, BF16, BF16, GELU_TANH | STRIDED, TOL_BF16, 60, 0, 0, 7680, 10240),

    LARGE_CASE(modulate_forward, F32, BF16, STRIDED, TOL_BF16, 3, 0, 0, 256, 256, 1152),
    LARGE_CASE(modulate_forward, F32, F32, 0, TOL_F32, 3, 0, 0, 256, 256, 384),
    LARGE_CASE(modulate_backward, BF16, F32, STRIDED, TOL_F32 * 10, 3, 0, 0, 256, 256, 1152),
    LARGE_CASE(modulate_backward, F32, F32, 0, TOL_F32, 3, 0, 0, 256, 256, 384),
    LARGE_CASE(gate_residual_forward, BF16, F32, STRIDED, TOL_F32 * 10, 3, 0, 0, 256, 256, 1152),
    LARGE_CASE(gate_residual_backward, BF16, BF16, STRIDED, TOL_BF16, 3, 0, 0, 256, 256, 1152),
    LARGE_CASE(gate_modulate_forward, BF16, BF16, STRIDED, TOL_BF16, 3, 0, 0, 256, 256, 1152),
    LARGE_CASE(gate_modulate_forward, F32, F32, 0, TOL_F32, 3, 0, 0, 256, 256, 384),
    LARGE_CASE(layernorm_forward, F32, BF16, 0, TOL_BF16, 3, 0, 0, 256, 256, 1152),
    LARGE_CASE(layernorm_backward, BF16, BF16, 0, TOL_BF16, 0, 0, 0, 64, 256, 384),

    LARGE_CASE(act_forward, BF16, BF16, GELU_TANH, TOL_BF16, 60, 0, 0, ROWS, 4608),
    LARGE_CASE(act_backward, BF16, BF16, GELU_TANH, TOL_BF16_2, 60, 0, 0, ROWS, 4608),
    LARGE_CASE(axpby, F32, F32, 0, TOL_F32, 60, 0, 0, ROWS, 1152),
    LARGE_CASE(cast, F32, BF16, STRIDED, EXACT, 60, 0, 0, ROWS, 1152),
    LARGE_CASE(add_rows, F32, F32, 0, TOL_F32, 3, 0, 0, 256, 256, 1152),
    LARGE_CASE(gather, F32, F32, 0, EXACT, 60, 0, 0, 256, 1152, 1001),
    LARGE_CASE(scatter_add, F32, F32, 0, TOL_F32, 0, 0, 0, 256, 1152, 1001),
    LARGE_CASE(patchify, F32, BF16, 0, EXACT, 3, 0, 0, 256, 4, 32, 2, 4),
    LARGE_CASE(unpatchify, BF16, F32, ORDER_LAST, EXACT, 3, 0, 0, 256, 4, 32, 2, 4),
    LARGE_CASE(text_unfold, F32, BF16, 0, EXACT, 0, 0, 0, 256, 16, 384),
    LARGE_CASE(draw_normal, F32, F32, 0, EXACT, 3, 0, 0, 256, 4096),
    LARGE_CASE(diffuse, F32, F32, 0, TOL_F32, 3, 0, 0, 256, 4096),
    LARGE_CASE(mse_loss, F32, F32, 0, TOL_F32, 3, 0, 0, 256, 4096),
    LARGE_CASE(cosine_loss, F32, F16, 0, TOL_F32, 3, 0, 0, 256, 256, 768),
    LARGE_CASE(gradient_norm, F32, F32, 0, TOL_F32, 0, 0, 0, 33000003),
    LARGE_CASE(adamw_step, F32, F32, 0, TOL_F32, 4099, 0, 0, 33000003),
};

#endif
