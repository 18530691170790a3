/* ops_image.c: checks and dispatch of what image networks are made of (contracts: ops.h). */
#include <math.h>

#include "ops/check.h"
#include "ops/dispatch.h"

/* Sets *out to how many places a window of `size` has in `in` elements with `padding` around them; 0 when it has none. */
static void
count_places(int64_t *out, int64_t in, int64_t padding, int size, int stride)
{
    *out = in + padding < size ? 0 : (in + padding - size) / stride + 1;
}

static int
is_padding(int padding, int size)
{
    return padding >= 0 && padding < size;
}

/* The window is sane and y [B, P, Q, ...] is what it makes of x [B, H, W, ...]. */
static d2c_status
check_window(const d2c_op_call *call, const d2c_window *w)
{
    int64_t rows, columns;

    D2C_TRY(d2c_op_require(call, w->height > 0 && w->width > 0 && w->stride > 0, "the window is empty"));
    D2C_TRY(d2c_op_require(call, w->height <= 1 << 15 && w->width <= 1 << 15, "the window is too large"));
    D2C_TRY(d2c_op_require(call,
                           is_padding(w->top, w->height) && is_padding(w->bottom, w->height) &&
                               is_padding(w->left, w->width) && is_padding(w->right, w->width),
                           "the padding is not less than the window"));
    count_places(&rows, d2c_op_size(call, 'H'), (int64_t)w->top + w->bottom, w->height, w->stride);
    count_places(&columns, d2c_op_size(call, 'W'), (int64_t)w->left + w->right, w->width, w->stride);
    return d2c_op_require(call, d2c_op_size(call, 'P') == rows && d2c_op_size(call, 'Q') == columns,
                          "y is not what the window makes of x");
}

/* Makes [B, H*W, C] of a dense [B, H, W, C]; the check complains of any other. */
static void
join_pixels(d2c_tensor *t)
{
    if (t->ndim != 4 || t->stride[1] != t->dim[2] * t->stride[2])
        return;
    t->ndim = 3;
    t->dim[1] *= t->dim[2];
    t->stride[1] = t->stride[2];
    t->dim[2] = t->dim[3];
    t->stride[2] = t->stride[3];
}

static int
is_point(const d2c_window *w)
{
    return w->height == 1 && w->width == 1 &&
           w->stride == 1; /* a padding is less than the window, so there is none */
}

/* [B*H*W, C] of a dense [B, H, W, C]. */
static d2c_tensor
pixel_rows(d2c_tensor t)
{
    return d2c_tensor2(t.data, t.dtype, t.dim[0] * t.dim[1] * t.dim[2], t.dim[3]);
}

d2c_status
d2c_conv2d_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_weight *w, const d2c_window *window,
                   d2c_act act)
{
    d2c_weight flat = *w;
    d2c_op_arg args[] = {
        {"y", &y, "BPQO", ARG_FLOAT},
        {"x", &x, "BHWI", ARG_FLOAT},
        {"weight", &flat.value, "OK", ARG_F32 | ARG_TRAIL},
        {"shadow", &flat.shadow, "OK", ARG_BF16 | ARG_TRAIL | ARG_OPTIONAL},
        {"bias", &flat.bias, "O", ARG_F32 | ARG_OPTIONAL},
        {"bias_shadow", &flat.bias_shadow, "O", ARG_BF16 | ARG_OPTIONAL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "conv2d_forward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_is_act(act), "unknown activation"));
    D2C_TRY(check_window(&call, window));
    D2C_TRY(d2c_op_require(
        &call, d2c_op_size(&call, 'K') == (int64_t)window->height * window->width * d2c_op_size(&call, 'I'),
        "the weight does not fit window and channels"));
    D2C_TRY(d2c_op_require(&call, x.dtype != D2C_BF16 || flat.shadow.data != NULL,
                           "a bf16 x needs the weight's shadow"));
    if (is_point(window))
        return D2C_DISPATCH(be, linear_forward, pixel_rows(y), d2c_absent(), pixel_rows(x), &flat, act);
    return D2C_DISPATCH(be, conv2d_forward, y, x, &flat, window, act);
}

d2c_status
d2c_groupnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, d2c_tensor beta,
                      int groups, float eps, d2c_act act)
{
    d2c_op_arg args[] = {
        {"y", &y, "BPC", ARG_FLOAT},
        {"x", &x, "BPC", ARG_FLOAT},
        {"gamma", &gamma, "C", ARG_F32},
        {"beta", &beta, "C", ARG_F32},
    };
    d2c_op_call call = D2C_OP_CALL(be, "groupnorm_forward", args);

    join_pixels(&y);
    join_pixels(&x);
    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_is_act(act), "unknown activation"));
    D2C_TRY(d2c_op_require(&call, groups > 0 && d2c_op_size(&call, 'C') % groups == 0,
                           "the groups do not divide the channels"));
    return D2C_DISPATCH(be, groupnorm_forward, y, x, gamma, beta, groups, eps, act);
}

d2c_status
d2c_upsample_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    d2c_op_arg args[] = {{"y", &y, "BPQC", ARG_FLOAT}, {"x", &x, "BHWC", ARG_FLOAT}};
    d2c_op_call call = D2C_OP_CALL(be, "upsample_forward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, y.dtype == x.dtype, "y and x differ in type"));
    D2C_TRY(d2c_op_require(&call, y.dim[1] == 2 * x.dim[1] && y.dim[2] == 2 * x.dim[2],
                           "y is not twice as high and wide as x"));
    return D2C_DISPATCH(be, upsample_forward, y, x);
}

d2c_status
d2c_pool_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_window *window, d2c_pool_kind kind)
{
    d2c_op_arg args[] = {{"y", &y, "BPQC", ARG_FLOAT}, {"x", &x, "BHWC", ARG_FLOAT}};
    d2c_op_call call = D2C_OP_CALL(be, "pool_forward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, y.dtype == x.dtype, "y and x differ in type"));
    D2C_TRY(d2c_op_require(&call, (unsigned)kind <= D2C_POOL_MEAN, "unknown kind of pool"));
    D2C_TRY(check_window(&call, window));
    return D2C_DISPATCH(be, pool_forward, y, x, window, kind);
}
