/*
 * test_ops_check.c: what ops refuse and with which words, views, conversions, and tables that lack entries.
 */
#include <stddef.h>

#include "base/philox.h"
#include "check.h"
#include "base/bf16.h"
#include "base/float8.h"
#include "base/half.h"
#include "ops/ops.h"

static d2c_backend *be;

/* Enough memory for every tensor here. */
static float f[4096];
static uint16_t h[4096];
static int64_t n[64];

#define NONE d2c_absent()
#define F1(a) d2c_tensor1(f, D2C_F32, a)
#define F2(a, b) d2c_tensor2(f, D2C_F32, a, b)
#define F3(a, b, c) d2c_tensor3(f, D2C_F32, a, b, c)
#define F4(a, b, c, d) d2c_tensor4(f, D2C_F32, a, b, c, d)
#define H2(a, b) d2c_tensor2(h, D2C_BF16, a, b)
#define H3(a, b, c) d2c_tensor3(h, D2C_BF16, a, b, c)
#define I1(a) d2c_tensor1(n, D2C_I64, a)

static const d2c_weight weight = {
    .value = {f, NULL, D2C_F32, 2, {4, 6}, {6, 1}},
    .bias = {f, NULL, D2C_F32, 1, {4}, {1}},
    .grad = {f, NULL, D2C_F32, 2, {4, 6}, {6, 1}},
};

/* The call fails with D2C_INTERNAL, names its op, and says why. */
#define REFUSED(call, op, reason)                                                                            \
    do {                                                                                                     \
        CHECK((call) == D2C_INTERNAL);                                                                       \
        CHECK(strncmp(be->error.message, "operation " op ": ", strlen("operation " op ": ")) == 0);          \
        if (strstr(be->error.message, reason) == NULL) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, be->error.message);                           \
            check_current++;                                                                                 \
        }                                                                                                    \
        CHECK(strncmp(be->error.detail, "Tensors: ", 9) == 0);                                               \
    } while (0)

#define TAKEN(call) CHECK_OK(call, &be->error)

static void
test_presence_and_types(void)
{
    d2c_tensor wide = F2(3, 4);

    REFUSED(d2c_linear_forward(be, NONE, NONE, F2(3, 6), &weight, D2C_ACT_NONE), "linear_forward",
            "y is absent");
    REFUSED(d2c_add_rows(be, H3(1, 2, 3), F2(2, 3)), "add_rows", "x has the wrong type");
    REFUSED(d2c_gather(be, F2(3, 4), F2(5, 4), F1(3)), "gather", "index has the wrong type");
    wide.dtype = D2C_F64;
    REFUSED(d2c_axpby(be, wide, 1, F2(3, 4), 1), "axpby", "y has the wrong type");
    wide.dtype = (d2c_dtype)77;
    REFUSED(d2c_axpby(be, wide, 1, F2(3, 4), 1), "axpby", "y has the wrong type");
}

static void
test_sizes(void)
{
    REFUSED(d2c_linear_forward(be, F2(3, 4), NONE, F2(3, 5), &weight, D2C_ACT_NONE), "linear_forward",
            "weight should have size 5 in dimension 2");
    REFUSED(d2c_linear_forward(be, F2(2, 4), NONE, F2(3, 6), &weight, D2C_ACT_NONE), "linear_forward",
            "x should have size 2 in dimension 1");
    REFUSED(d2c_modulate_forward(be, F3(2, 3, 4), F3(2, 3, 1), F3(2, 3, 4), F2(2, 4), F2(2, 4), 1e-6f),
            "modulate_forward", "stat should have size 2 in dimension 3");
    REFUSED(d2c_modulate_forward(be, F3(2, 3, 4), F3(2, 3, 2), F3(2, 3, 4), F2(2, 4), F2(1, 4), 1e-6f),
            "modulate_forward", "scale should have size 2 in dimension 1");
    REFUSED(d2c_gate_residual_forward(be, F3(2, 3, 4), F3(2, 3, 5), F2(2, 4)), "gate_residual_forward",
            "y should have size 4");
    REFUSED(d2c_mse_loss(be, F1(2), NONE, F2(2, 8), F2(2, 7), NULL), "mse_loss", "target should have size 8");
    REFUSED(
        d2c_adamw_step(be, F1(5), F1(5), F1(4), NONE, NONE, F1(5), &(d2c_adamw){0}, &(d2c_step_record){0}),
        "adamw_step", "v should have size 5");
}

static void
test_dimensions(void)
{
    d2c_tensor none = F2(3, 0), huge = F2(INT64_MAX / 2, 3), odd = F2(3, 4);

    REFUSED(d2c_modulate_forward(be, F2(6, 4), F3(2, 3, 2), F3(2, 3, 4), F2(2, 4), F2(2, 4), 1e-6f),
            "modulate_forward", "y has the wrong number of dimensions");
    REFUSED(d2c_gather(be, F3(2, 2, 4), F1(5), I1(4)), "gather", "table has the wrong number of dimensions");
    REFUSED(d2c_act_forward(be, F1(1), none, D2C_ACT_SILU), "act_forward", "x has impossible dimensions");
    REFUSED(d2c_act_forward(be, F1(1), huge, D2C_ACT_SILU), "act_forward", "x has impossible dimensions");
    odd.ndim = 5;
    REFUSED(d2c_act_forward(be, F1(12), odd, D2C_ACT_SILU), "act_forward", "x has impossible dimensions");
    odd.ndim = 0;
    REFUSED(d2c_act_forward(be, F1(12), odd, D2C_ACT_SILU), "act_forward", "x has impossible dimensions");
}

static void
test_strides(void)
{
    d2c_tensor backwards = F2(3, 6), columns = F2(3, 6);

    backwards.stride[0] = -6;
    columns.stride[1] = 2;
    columns.stride[0] = 12;
    REFUSED(d2c_act_forward(be, F2(3, 6), d2c_rows(f, D2C_F32, 3, 6, 8), D2C_ACT_SILU), "act_forward",
            "x has strides");
    REFUSED(d2c_linear_backward_weight(be, &weight, F2(3, 4), d2c_rows(f, D2C_F32, 3, 6, 8)),
            "linear_backward_weight", "x has strides");
    REFUSED(d2c_linear_forward(be, F2(3, 4), NONE, backwards, &weight, D2C_ACT_NONE), "linear_forward",
            "x has strides");
    REFUSED(d2c_linear_forward(be, F2(3, 4), NONE, columns, &weight, D2C_ACT_NONE), "linear_forward",
            "x has strides");
    REFUSED(d2c_linear_forward(be, d2c_rows(f, D2C_F32, 3, 4, 2), NONE, F2(3, 6), &weight, D2C_ACT_NONE),
            "linear_forward", "y has strides");
    CHECK(strstr(be->error.detail, "y f32 [3, 4] strides [2, 1], pre absent, x f32 [3, 6]") != NULL);
}

/* [N, C] takes [B, T, C] where the leading dims can be joined, [B, n] takes what follows B. */
static void
test_joined_dims(void)
{
    d2c_tensor blocks = F3(2, 3, 6), x = F3(2, 3, 6);
    d2c_weight convolution = weight;

    convolution.value = F4(4, 1, 3, 2);
    TAKEN(
        d2c_linear_forward(be, d2c_tensor3(f + 512, D2C_F32, 2, 3, 4), NONE, x, &convolution, D2C_ACT_NONE));
    TAKEN(d2c_linear_forward(be, d2c_tensor1(f + 512, D2C_F32, 4), NONE, F1(6), &weight, D2C_ACT_NONE));
    TAKEN(d2c_mse_loss(be, d2c_tensor1(f + 2048, D2C_F32, 2), NONE, F4(2, 3, 2, 2), F2(2, 12), NULL));
    TAKEN(d2c_draw_normal(be, F1(3), 1, I1(3), I1(3), D2C_PURPOSE_NOISE));
    blocks.stride[0] = 40;
    REFUSED(d2c_linear_forward(be, F2(6, 4), NONE, blocks, &weight, D2C_ACT_NONE), "linear_forward",
            "x has strides");
    blocks.stride[1] = 8;
    blocks.stride[0] = 24;
    TAKEN(d2c_linear_forward(be, d2c_tensor2(f + 512, D2C_F32, 6, 4), NONE, blocks, &weight, D2C_ACT_NONE));
}

static void
test_linear_rules(void)
{
    REFUSED(d2c_linear_forward(be, F2(3, 4), F2(3, 4), F2(3, 6), &weight, D2C_ACT_NONE), "linear_forward",
            "pre needs an activation");
    REFUSED(d2c_linear_forward(be, F2(3, 4), NONE, F2(3, 6), &weight, (d2c_act)9), "linear_forward",
            "unknown activation");
    REFUSED(d2c_linear_forward(be, F2(3, 4), NONE, H2(3, 6), &weight, D2C_ACT_NONE), "linear_forward",
            "shadow");
    REFUSED(d2c_linear_backward_input(be, F2(3, 6), H2(3, 4), &weight, NONE, D2C_ACT_NONE, 0),
            "linear_backward_input", "shadow");
    REFUSED(d2c_linear_backward_input(be, F2(3, 6), F2(3, 4), &weight, NONE, D2C_ACT_SILU, 0),
            "linear_backward_input", "pre and activation");
    REFUSED(d2c_linear_backward_input(be, F2(3, 6), F2(3, 4), &weight, F2(3, 6), D2C_ACT_SILU, 1),
            "linear_backward_input", "accumulating");
    REFUSED(d2c_linear_backward_input(be, H2(3, 6), F2(3, 4), &weight, NONE, D2C_ACT_NONE, 1),
            "linear_backward_input", "accumulating");
    REFUSED(d2c_linear_backward_weight(be, &weight, H2(3, 4), F2(3, 6)), "linear_backward_weight",
            "differ in type");
}

static void
test_attention_rules(void)
{
    d2c_tensor bias = F4(2, 3, 5, 5);

    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), NONE, F3(2, 5, 12), NONE, 3, 1), "attention_forward",
            "three times");
    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), NONE, F3(2, 5, 18), NONE, 4, 1), "attention_forward",
            "do not divide");
    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), NONE, F3(2, 5, 18), NONE, 0, 1), "attention_forward",
            "do not divide");
    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), NONE, F3(2, 5, 18), NONE, -3, 1), "attention_forward",
            "do not divide");
    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), NONE, F3(2, 5, 18), NONE, 3, NAN), "attention_forward",
            "not finite");
    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), NONE, H3(2, 5, 18), NONE, 3, 1), "attention_forward",
            "differ in type");
    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), F3(2, 2, 5), F3(2, 5, 18), NONE, 3, 1),
            "attention_forward", "lse should have size 3");
    bias.stride[2] = 0;
    bias.stride[1] = -5;
    REFUSED(d2c_attention_forward(be, F3(2, 5, 6), NONE, F3(2, 5, 18), bias, 3, 1), "attention_forward",
            "bias has strides");
    REFUSED(
        d2c_attention_backward(be, F3(2, 5, 18), F3(2, 5, 6), F3(2, 5, 6), NONE, F3(2, 5, 18), NONE, 3, 1),
        "attention_backward", "lse is absent");
}

static void
test_norm_rules(void)
{
    REFUSED(d2c_layernorm_forward(be, F2(3, 4), NONE, F2(3, 4), F1(4), NONE, 1e-6f), "layernorm_forward",
            "gamma and beta");
    REFUSED(d2c_layernorm_backward(be, F2(3, 4), F1(4), NONE, F2(3, 4), F2(3, 4), F2(3, 2), F1(4)),
            "layernorm_backward", "dgamma and dbeta");
    REFUSED(d2c_layernorm_backward(be, F2(3, 4), F1(4), F1(4), F2(3, 4), F2(3, 4), F2(3, 2), NONE),
            "layernorm_backward", "dgamma needs gamma");
}

/* y [B, P, Q, O] is whatever fits; what does not is refused. */
static void
test_window_rules(void)
{
    const d2c_window same = {3, 3, 1, 1, 1, 1, 1};
    d2c_window bad = same;
    d2c_weight w = {.value = d2c_tensor4(f, D2C_F32, 4, 3, 3, 2)};

    TAKEN(d2c_conv2d_forward(be, d2c_tensor4(f + 1024, D2C_F32, 1, 5, 6, 4), F4(1, 5, 6, 2), &w, &same,
                             D2C_ACT_NONE));
    REFUSED(d2c_conv2d_forward(be, F4(1, 4, 6, 4), F4(1, 5, 6, 2), &w, &same, D2C_ACT_NONE), "conv2d_forward",
            "y is not what the window makes of x");
    REFUSED(d2c_conv2d_forward(be, F4(1, 5, 6, 3), F4(1, 5, 6, 2), &w, &same, D2C_ACT_NONE), "conv2d_forward",
            "weight should have size 3 in dimension 1");
    REFUSED(d2c_conv2d_forward(be, F4(2, 5, 6, 4), F4(1, 5, 6, 2), &w, &same, D2C_ACT_NONE), "conv2d_forward",
            "x should have size 2 in dimension 1");
    REFUSED(d2c_conv2d_forward(be, F4(1, 5, 6, 4), F4(1, 5, 6, 3), &w, &same, D2C_ACT_NONE), "conv2d_forward",
            "the weight does not fit window and channels");
    REFUSED(d2c_conv2d_forward(be, F4(1, 5, 6, 4), F4(1, 5, 6, 2), &w, &same, (d2c_act)6), "conv2d_forward",
            "unknown activation");
    REFUSED(
        d2c_conv2d_forward(be, F4(1, 5, 6, 4), d2c_tensor4(h, D2C_BF16, 1, 5, 6, 2), &w, &same, D2C_ACT_NONE),
        "conv2d_forward", "shadow");
    bad.top = 3;
    REFUSED(d2c_conv2d_forward(be, F4(1, 7, 6, 4), F4(1, 5, 6, 2), &w, &bad, D2C_ACT_NONE), "conv2d_forward",
            "the padding is not less than the window");
    bad.top = -1;
    REFUSED(d2c_conv2d_forward(be, F4(1, 3, 6, 4), F4(1, 5, 6, 2), &w, &bad, D2C_ACT_NONE), "conv2d_forward",
            "the padding is not less than the window");
    bad = same;
    bad.stride = 0;
    REFUSED(d2c_pool_forward(be, F4(1, 5, 6, 2), F4(1, 5, 6, 2), &bad, D2C_POOL_MAX), "pool_forward",
            "the window is empty");
    bad.stride = 1;
    bad.width = 1 << 16;
    REFUSED(d2c_pool_forward(be, F4(1, 5, 6, 2), F4(1, 5, 6, 2), &bad, D2C_POOL_MAX), "pool_forward",
            "the window is too large");
    bad = (d2c_window){9, 9, 1, 1, 1, 1, 1};
    REFUSED(d2c_pool_forward(be, F4(1, 1, 1, 2), F4(1, 5, 6, 2), &bad, D2C_POOL_MEAN), "pool_forward",
            "y is not what the window makes of x");
    REFUSED(d2c_pool_forward(be, F4(1, 5, 6, 2), F4(1, 5, 6, 2), &same, (d2c_pool_kind)2), "pool_forward",
            "unknown kind of pool");
}

/* A convolution with a window of one pixel is a linear layer, whatever its backend has. */
static void
test_point_convolution(void)
{
    const d2c_window point = {1, 1, 1, 0, 0, 0, 0};
    d2c_ops without = *be->ops;
    d2c_backend backend = *be;
    d2c_weight w = {.value = d2c_tensor4(f, D2C_F32, 4, 1, 1, 2)};

    without.conv2d_forward = NULL;
    backend.ops = &without;
    CHECK_OK(d2c_conv2d_forward(&backend, d2c_tensor4(f + 1024, D2C_F32, 2, 3, 5, 4), F4(2, 3, 5, 2), &w,
                                &point, D2C_ACT_NONE),
             &backend.error);
    CHECK(d2c_conv2d_forward(&backend, F4(2, 2, 3, 4), F4(2, 3, 5, 2), &w, &(d2c_window){1, 1, 2, 0, 0, 0, 0},
                             D2C_ACT_NONE) == D2C_UNSUPPORTED);
}

static void
test_image_rules(void)
{
    d2c_tensor cut = F4(1, 4, 4, 8);

    REFUSED(d2c_groupnorm_forward(be, F3(1, 6, 8), F3(1, 6, 8), F1(8), F1(8), 3, 1e-6f, D2C_ACT_NONE),
            "groupnorm_forward", "the groups do not divide the channels");
    REFUSED(d2c_groupnorm_forward(be, F3(1, 6, 8), F3(1, 6, 8), F1(8), F1(8), 0, 1e-6f, D2C_ACT_NONE),
            "groupnorm_forward", "the groups do not divide the channels");
    REFUSED(d2c_groupnorm_forward(be, F3(1, 6, 8), F3(1, 6, 8), F1(8), F1(4), 2, 1e-6f, D2C_ACT_NONE),
            "groupnorm_forward", "beta should have size 8");
    REFUSED(d2c_groupnorm_forward(be, F4(1, 2, 3, 8), F3(1, 5, 8), F1(8), F1(8), 2, 1e-6f, D2C_ACT_NONE),
            "groupnorm_forward", "x should have size 6 in dimension 2");
    REFUSED(d2c_groupnorm_forward(be, F3(1, 6, 8), F3(1, 6, 8), F1(8), F1(8), 2, 1e-6f, (d2c_act)6),
            "groupnorm_forward", "unknown activation");
    cut.stride[1] = 40;
    REFUSED(d2c_groupnorm_forward(be, cut, F3(1, 16, 8), F1(8), F1(8), 2, 1e-6f, D2C_ACT_NONE),
            "groupnorm_forward", "y has the wrong number of dimensions");
    REFUSED(d2c_upsample_forward(be, F4(1, 4, 5, 3), F4(1, 2, 3, 3)), "upsample_forward",
            "y is not twice as high and wide as x");
    REFUSED(d2c_upsample_forward(be, F4(1, 4, 6, 3), d2c_tensor4(h, D2C_BF16, 1, 2, 3, 3)),
            "upsample_forward", "y and x differ in type");
    REFUSED(d2c_rmsnorm_forward(be, F2(3, 4), F2(3, 4), F1(5), 1e-6f), "rmsnorm_forward",
            "gamma should have size 4");
    REFUSED(d2c_glu_forward(be, F2(3, 4), F2(3, 4), F2(3, 5), D2C_ACT_SILU), "glu_forward",
            "value should have size 4");
    REFUSED(d2c_glu_forward(be, F2(3, 4), F2(3, 4), F2(3, 4), (d2c_act)6), "glu_forward",
            "unknown activation");
}

static void
test_layout_rules(void)
{
    REFUSED(d2c_patchify(be, F3(1, 6, 12), F4(1, 3, 4, 5), 2, D2C_PATCH_CHANNEL_FIRST), "patchify",
            "does not divide");
    REFUSED(d2c_patchify(be, F3(1, 6, 12), F4(1, 3, 4, 6), 0, D2C_PATCH_CHANNEL_FIRST), "patchify",
            "does not divide");
    REFUSED(d2c_patchify(be, F3(1, 5, 12), F4(1, 3, 4, 6), 2, D2C_PATCH_CHANNEL_FIRST), "patchify",
            "number of tokens");
    REFUSED(d2c_unpatchify(be, F4(1, 3, 4, 6), F3(1, 6, 8), 2, D2C_PATCH_CHANNEL_LAST), "unpatchify",
            "at least the image's channels");
    REFUSED(d2c_unpatchify(be, F4(1, 3, 4, 6), F3(1, 6, 13), 2, D2C_PATCH_CHANNEL_LAST), "unpatchify",
            "at least the image's channels");
    REFUSED(d2c_patchify(be, F3(1, 6, 12), F4(1, 3, 4, 6), 2, (d2c_patch_order)2), "patchify",
            "unknown order");
    REFUSED(d2c_timestep_embedding(be, F2(2, 7), F1(2)), "timestep_embedding", "odd");
    REFUSED(d2c_text_unfold(be, F2(2, 11), F3(2, 3, 4), F2(2, 3)), "text_unfold", "as wide as a text");
}

static void
test_number_rules(void)
{
    REFUSED(d2c_draw_normal(be, F2(3, 4), 1, I1(3), I1(3), 256), "draw_normal", "unknown purpose");
    REFUSED(d2c_draw_normal(be, F2(3, 4), 1, I1(3), I1(3), -1), "draw_normal", "unknown purpose");
    REFUSED(d2c_drop_labels(be, NONE, NONE, I1(3), 1, I1(3), I1(3), 1.5f, 0), "drop_labels", "probability");
    REFUSED(d2c_drop_labels(be, NONE, NONE, I1(3), 1, I1(3), I1(3), NAN, 0), "drop_labels", "probability");
    REFUSED(d2c_path_coefficients(be, F2(3, 4), F1(3), (d2c_path)3), "path_coefficients", "unknown path");
    REFUSED(d2c_mse_loss(be, F1(2), F2(2, 8), F2(2, 8), F2(2, 8), NULL), "mse_loss", "step record");
    REFUSED(d2c_dit_loss(be, F1(2), F2(2, 8), F2(2, 8), F2(2, 4), F2(2, 4), F2(2, 4), NULL), "dit_loss",
            "step record");
    REFUSED(d2c_dit_loss(be, F1(2), NONE, F2(2, 8), F2(2, 5), F2(2, 5), F2(2, 4), NULL), "dit_loss",
            "twice as wide");
    REFUSED(d2c_cosine_loss(be, F1(2), F3(2, 1, 8), F3(2, 1, 8), F3(2, 1, 8), 1, NULL), "cosine_loss",
            "step record");
    REFUSED(d2c_finish_loss(be, NULL, F1(2)), "finish_loss", "step record");
    REFUSED(d2c_gradient_norm(be, NULL, F1(2)), "gradient_norm", "step record");
}

/* Indices are data: the error is the caller's, and nothing is read or written outside the table. */
static void
test_index_range(void)
{
    int64_t below[3] = {0, -1, 2}, above[3] = {4, 0, 5};

    CHECK(d2c_gather(be, d2c_tensor2(f + 512, D2C_F32, 3, 4), F2(5, 4), d2c_tensor1(below, D2C_I64, 3)) ==
          D2C_INVALID_ARGUMENT);
    CHECK(strcmp(be->error.message, "operation gather: index -1 is outside the table") == 0);
    CHECK(strcmp(be->error.detail, "Row 1 asks for it; the table has 5 rows.") == 0);
    CHECK(d2c_scatter_add(be, d2c_tensor2(f + 512, D2C_F32, 5, 4), F2(3, 4),
                          d2c_tensor1(above, D2C_I64, 3)) == D2C_INVALID_ARGUMENT);
    CHECK(strcmp(be->error.message, "operation scatter_add: index 5 is outside the table") == 0);
}

/* An error lists every tensor, however long the list, within its size. */
static void
test_long_detail(void)
{
    int64_t big = 1000000000;
    d2c_tensor t = d2c_tensor4(f, D2C_F32, big, 1, 1, 1);

    t.stride[0] = t.stride[1] = t.stride[2] = t.stride[3] = INT64_MIN;
    REFUSED(d2c_gate_modulate_forward(be, t, t, t, t, t, t, t, t, 1e-6f), "gate_modulate_forward",
            "out has the wrong number of dimensions");
    CHECK(strlen(be->error.detail) == sizeof be->error.detail - 1);
}

/* ---- conversions --------------------------------------------------------------------------------------------- */

/* Between a number and its upper neighbour, the middle goes to the even one and what is beside it to the nearer one. */
static void
check_rounding(uint16_t low, float (*from)(uint16_t), uint16_t (*to)(float))
{
    uint16_t high = (uint16_t)(low + 1);
    float middle = from(low) + (from(high) - from(low)) / 2;

    CHECK(to(middle) == (low & 1 ? high : low));
    CHECK(to(nextafterf(middle, from(low))) == low);
    CHECK(to(nextafterf(middle, from(high))) == high);
}

static void
test_bf16(void)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = d2c_bf16_to_float((uint16_t)bits);

        if (isnan(value))
            CHECK(isnan(d2c_bf16_to_float(d2c_bf16_from_float(value))));
        else
            CHECK(d2c_bf16_from_float(value) == bits);
    }
    for (uint16_t bits = 0x0080; bits < 0x7F7F; bits++)
        check_rounding(bits, d2c_bf16_to_float, d2c_bf16_from_float);
    CHECK(d2c_bf16_from_float(3.4e38f) == 0x7F80 && d2c_bf16_from_float(-3.4e38f) == 0xFF80);
    CHECK(d2c_bf16_to_float(0x3F80) == 1 && d2c_bf16_to_float(0xC049) == -3.140625f);
}

static void
test_half(void)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = d2c_half_to_float((uint16_t)bits);

        if (isnan(value))
            CHECK(isnan(d2c_half_to_float(d2c_half_from_float(value))));
        else
            CHECK(d2c_half_from_float(value) == bits);
    }
    for (uint16_t bits = 0; bits < 0x7BFF; bits++) /* subnormal ones as well */
        check_rounding(bits, d2c_half_to_float, d2c_half_from_float);
    CHECK(d2c_half_from_float(65519.99f) == 0x7BFF && d2c_half_from_float(65520) == 0x7C00);
    CHECK(d2c_half_from_float(1e6f) == 0x7C00 && d2c_half_from_float(-INFINITY) == 0xFC00);
    CHECK(d2c_half_to_float(0x3C00) == 1 && d2c_half_to_float(0xC248) == -3.140625f);
    CHECK(d2c_half_to_float(0x0001) == 0x1p-24f && d2c_half_to_float(0x8400) == -0x1p-14f);
}

/* Every e4m3, midpoints and their neighbours, as ml_dtypes converts them; then what lies outside. */
static void
test_float8(void)
{
    FILE *file = fopen(GOLDEN "/ops/float8.txt", "r");
    unsigned bits, code;
    int lines = 0;

    CHECK(file != NULL);
    while (file != NULL && fscanf(file, "%x %x", &bits, &code) == 2) {
        float value;

        memcpy(&value, &bits, sizeof value);
        CHECK(d2c_f8_from_float(value) == code);
        CHECK(d2c_f8_from_float(d2c_f8_to_float((uint8_t)code)) == code);
        CHECK(lines > 126 || d2c_f8_to_float((uint8_t)code) == value); /* the e4m3 themselves come first */
        lines++;
    }
    CHECK(lines == 1018);
    if (file != NULL)
        fclose(file);
    CHECK(d2c_f8_from_float(1e9f) == 0x7E && d2c_f8_from_float(-INFINITY) == 0xFE);
    CHECK(isnan(d2c_f8_to_float(d2c_f8_from_float(NAN))));
}

/* ---- tables and devices -------------------------------------------------------------------------------------- */

/* A backend built against an older, shorter table: what it lacks is composed or refused, never called. */
static void
test_older_table(void)
{
    d2c_ops older = *be->ops;
    d2c_backend backend = {.ops = &older, .threads = 1};

    older.size = offsetof(d2c_ops, glu_forward);
    CHECK(d2c_glu_forward(&backend, F2(2, 4), F2(2, 4), F2(2, 4), D2C_ACT_SILU) == D2C_UNSUPPORTED);
    CHECK(strcmp(backend.error.message, "backend reference has no operation glu_forward") == 0);
    older.cast = NULL;
    CHECK(d2c_cast(&backend, F2(2, 4), F2(2, 4)) == D2C_UNSUPPORTED);
    CHECK(strcmp(backend.error.message, "backend reference has no operation cast") == 0);
}

/* Host backends finish before they return: events are free, captures are not there. */
static void
test_events(void)
{
    d2c_event *event = NULL;

    TAKEN(d2c_event_record(be, &event));
    CHECK(event == NULL);
    TAKEN(d2c_event_wait(be, event));
    d2c_event_free(be, event);
    CHECK(d2c_capture_begin(be) == D2C_UNSUPPORTED);
    CHECK(strcmp(be->error.message, "backend reference has no capture") == 0);
}

static void
test_memory(void)
{
    char to[8] = "abcdefg", from[8];
    void *block = (void *)1;

    CHECK(d2c_alloc(be, &block, SIZE_MAX - 5, D2C_MEMORY_DEVICE) == D2C_NO_MEMORY);
    CHECK(block == NULL);
    TAKEN(d2c_alloc(be, &block, 8, D2C_MEMORY_PINNED));
    CHECK((uintptr_t)block % 256 == 0);
    TAKEN(d2c_upload(be, block, to, 8));
    TAKEN(d2c_copy(be, (char *)block + 1, block, 3));
    TAKEN(d2c_zero(be, (char *)block + 5, 1));
    TAKEN(d2c_download(be, from, block, 8));
    TAKEN(d2c_synchronize(be));
    CHECK(memcmp(from, "aabce\0g", 8) == 0);
    d2c_free(be, block, D2C_MEMORY_PINNED);
    d2c_free(be, NULL, D2C_MEMORY_DEVICE);
}

static void
check_unopened(const char *device, int threads, d2c_status status, const char *message)
{
    d2c_backend *other = be;
    d2c_error err;

    CHECK(d2c_backend_open(&other, device, threads, &err) == status);
    CHECK(other == NULL);
    if (strcmp(err.message, message) != 0) {
        fprintf(stderr, "device %s: %s\n", device, err.message);
        check_current++;
    }
    CHECK(err.hint[0] != '\0' || err.detail[0] != '\0');
    CHECK(d2c_backend_open(&other, device, threads, NULL) == status);
}

static void
test_open(void)
{
    d2c_error err;

    check_unopened("reference", 0, D2C_INVALID_ARGUMENT, "number of threads must be at least 1");
    check_unopened("gpu", 1, D2C_INVALID_ARGUMENT, "device \"gpu\" does not exist");
    check_unopened("", 1, D2C_INVALID_ARGUMENT, "device \"\" does not exist");
    check_unopened("cuda:", 1, D2C_INVALID_ARGUMENT, "device \"cuda:\" does not exist");
    check_unopened("cuda:-1", 1, D2C_INVALID_ARGUMENT, "device \"cuda:-1\" does not exist");
    check_unopened("cuda:1x", 1, D2C_INVALID_ARGUMENT, "device \"cuda:1x\" does not exist");
    check_unopened("cuda:1000", 1, D2C_INVALID_ARGUMENT, "device \"cuda:1000\" does not exist");
    CHECK(d2c_cast(be, NONE, F2(2, 4)) == D2C_INTERNAL);
    CHECK(d2c_backend_error(be, &err) == D2C_INTERNAL);
    CHECK(err.status == D2C_INTERNAL && strcmp(err.message, be->error.message) == 0);
    d2c_backend_close(NULL);
}

static void
test_views(void)
{
    d2c_tensor t = F4(2, 3, 4, 5), rows = d2c_rows(f, D2C_F32, 3, 4, 9);

    CHECK(t.stride[0] == 60 && t.stride[1] == 20 && t.stride[2] == 5 && t.stride[3] == 1);
    CHECK(d2c_tensor_count(t) == 120 && d2c_tensor_count(rows) == 12 && d2c_tensor_count(NONE) == 0);
    CHECK(rows.stride[0] == 9 && rows.stride[1] == 1);
    CHECK(d2c_dtype_size(D2C_F32) == 4 && d2c_dtype_size(D2C_BF16) == 2 && d2c_dtype_size(D2C_I64) == 8);
    CHECK(d2c_dtype_size(D2C_U8) == 1 && d2c_dtype_size(D2C_F16) == 2 && d2c_dtype_size((d2c_dtype)77) == 0);
}

int
main(void)
{
    d2c_error err;

    if (d2c_backend_open(&be, "reference", 1, &err) != D2C_OK)
        return 1;
    RUN(test_presence_and_types);
    RUN(test_sizes);
    RUN(test_dimensions);
    RUN(test_strides);
    RUN(test_joined_dims);
    RUN(test_linear_rules);
    RUN(test_attention_rules);
    RUN(test_norm_rules);
    RUN(test_window_rules);
    RUN(test_point_convolution);
    RUN(test_image_rules);
    RUN(test_layout_rules);
    RUN(test_number_rules);
    RUN(test_index_range);
    RUN(test_long_detail);
    RUN(test_bf16);
    RUN(test_half);
    RUN(test_float8);
    RUN(test_older_table);
    RUN(test_events);
    RUN(test_memory);
    RUN(test_open);
    RUN(test_views);
    d2c_backend_close(be);
    return check_report();
}
