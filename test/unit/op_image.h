/* op_image.h: the image ops of the op table (op_cases.h). */
#ifndef D2C_TEST_OP_IMAGE_H
#define D2C_TEST_OP_IMAGE_H

#include "op_case.h"

/* A case's window is one of these, by number in its flags. */
enum {
    SAME_3X3,  /* every size stays */
    DOWN_3X3,  /* halves even sizes: the autoencoder's, padded below and at the right only */
    POINT,     /* 1x1 */
    POINT_2,   /* 1x1, every second pixel */
    STEM_7X7,  /* ResNet's first */
    VALID_3X3, /* Inception's reductions */
    WIDE_7,    /* 1x7 */
    TALL_7,    /* 7x1 */
    SAME_5X5,
    SKEWED,    /* nothing about it is even */
    HALVE_3X3, /* ResNet's stride and its first pool */
    PATCH_4    /* pixels used once */
};

#define WINDOW(number) ((number) << WINDOW_SHIFT)

static const d2c_window windows[] = {
    [SAME_3X3] = {3, 3, 1, 1, 1, 1, 1},  [DOWN_3X3] = {3, 3, 2, 0, 0, 1, 1},
    [POINT] = {1, 1, 1, 0, 0, 0, 0},     [POINT_2] = {1, 1, 2, 0, 0, 0, 0},
    [STEM_7X7] = {7, 7, 2, 3, 3, 3, 3},  [VALID_3X3] = {3, 3, 2, 0, 0, 0, 0},
    [WIDE_7] = {1, 7, 1, 0, 3, 0, 3},    [TALL_7] = {7, 1, 1, 3, 0, 3, 0},
    [SAME_5X5] = {5, 5, 1, 2, 2, 2, 2},  [SKEWED] = {3, 2, 3, 2, 0, 1, 1},
    [HALVE_3X3] = {3, 3, 2, 1, 1, 1, 1}, [PATCH_4] = {4, 4, 4, 0, 0, 0, 0},
};

static inline const d2c_window *
window_of(const op_case *c)
{
    return &windows[c->flags >> WINDOW_SHIFT];
}

/* What the window makes of the case's x [B, H, W, ...]. */
static inline d2c_tensor
windowed(const op_case *c, int64_t channels)
{
    const d2c_window *w = window_of(c);

    return d2c_tensor4(OP_VIEW, c->out, c->d[0], (c->d[1] + w->top + w->bottom - w->height) / w->stride + 1,
                       (c->d[2] + w->left + w->right - w->width) / w->stride + 1, channels);
}

/* d = B, H, W, I, O */
static d2c_status
run_conv2d_forward(op_fixture *f, const op_case *c)
{
    const d2c_window *window = window_of(c);
    d2c_weight w = make_weight(f, c, c->d[3] * window->height * window->width, c->d[4]);
    d2c_tensor x = op_input(f, "x", d2c_tensor4(OP_VIEW, c->in, c->d[0], c->d[1], c->d[2], c->d[3]));

    return d2c_conv2d_forward(f->be, op_output(f, "y", OP_SET, windowed(c, c->d[4])), x, &w, window,
                              c->flags & ACT_MASK);
}

/* d = B, H, W, C, groups.  LARGE: the mean is a hundred deviations away. */
static d2c_status
run_groupnorm_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor view = d2c_tensor4(OP_VIEW, c->in, c->d[0], c->d[1], c->d[2], c->d[3]);
    d2c_tensor x = op_random(f, "x", OP_INPUT, view, 2, has(c, LARGE) ? 200 : 0.7);
    d2c_tensor gamma = op_random(f, "gamma", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, c->d[3]), 0.3, 1);
    d2c_tensor beta = op_input(f, "beta", d2c_tensor1(OP_VIEW, D2C_F32, c->d[3]));

    view.dtype = c->out;
    return d2c_groupnorm_forward(f->be, op_output(f, "y", OP_SET, view), x, gamma, beta, (int)c->d[4], 1e-6f,
                                 c->flags & ACT_MASK);
}

/* d = B, H, W, C */
static d2c_status
run_upsample_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = op_input(f, "x", d2c_tensor4(OP_VIEW, c->in, c->d[0], c->d[1], c->d[2], c->d[3]));
    d2c_tensor y = d2c_tensor4(OP_VIEW, c->out, c->d[0], 2 * c->d[1], 2 * c->d[2], c->d[3]);

    return d2c_upsample_forward(f->be, op_output(f, "y", OP_SET, y), x);
}

/* d = B, H, W, C, kind */
static d2c_status
run_pool_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = op_input(f, "x", d2c_tensor4(OP_VIEW, c->in, c->d[0], c->d[1], c->d[2], c->d[3]));

    return d2c_pool_forward(f->be, op_output(f, "y", OP_SET, windowed(c, c->d[3])), x, window_of(c),
                            (d2c_pool_kind)c->d[4]);
}

#endif
