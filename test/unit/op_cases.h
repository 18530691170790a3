/*
 * op_cases.h: the table of op tests, one row a case: {op, how it is run, dims, dtypes, flags, tolerance}.
 *
 * A case's function makes its tensors and calls the op; test_ops.c runs it on the reference and on every other backend
 * and compares every tensor that is not an input.
 */
#ifndef D2C_TEST_OP_CASES_H
#define D2C_TEST_OP_CASES_H

#include "op_attention.h"
#include "op_image.h"

/* A step record that an op reads. */
static inline const d2c_step_record *
record_of(op_fixture *f)
{
    d2c_step_record record = {.loss_scale = 0.37f};

    return op_given(f, "record", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, sizeof record / 4), &record).data;
}

/* ---- matrix products: d = N, in, out ----------------------------------------------------------------------- */

static d2c_status
run_linear_forward(op_fixture *f, const op_case *c)
{
    d2c_weight w = make_weight(f, c, c->d[1], c->d[2]);
    d2c_tensor x = op_input(f, "x", rows_of(c, c->in, c->d[0], c->d[1]));
    d2c_tensor y = op_output(f, "y", OP_SET, rows_of(c, c->out, c->d[0], c->d[2]));
    d2c_tensor pre = d2c_absent();

    if (has(c, WITH_PRE))
        pre = op_output(f, "pre", OP_SET, rows_of(c, c->out, c->d[0], c->d[2]));
    return d2c_linear_forward(f->be, y, pre, x, &w, c->flags & ACT_MASK);
}

/* An e4m3 tensor with a scale. */
static d2c_tensor
make_eight(op_fixture *f, const char *name, int64_t rows, int64_t width, float scale)
{
    d2c_tensor t = op_random(f, name, OP_INPUT, d2c_tensor2(OP_VIEW, D2C_F8, rows, width), 30, 0);

    t.scale = op_given(f, "scale", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, 1), &scale).data;
    return t;
}

/* e4m3 operands */
static d2c_status
run_linear_forward_eight(op_fixture *f, const op_case *c)
{
    d2c_weight w = make_weight(f, c, c->d[1], c->d[2]);
    d2c_tensor x = make_eight(f, "x", c->d[0], c->d[1], 0.03f);

    w.eight = make_eight(f, "eight", c->d[2], c->d[1], 0.007f);
    return d2c_linear_forward(f->be,
                              op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_BF16, c->d[0], c->d[2])),
                              d2c_absent(), x, &w, c->flags & ACT_MASK);
}

static d2c_status
run_linear_backward_input(op_fixture *f, const op_case *c)
{
    int accumulate = has(c, ACCUMULATE);
    d2c_weight w = make_weight(f, c, c->d[1], c->d[2]);
    d2c_tensor dy = op_input(f, "dy", d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[2]));
    d2c_tensor dx =
        op_output(f, "dx", accumulate ? OP_ADD : OP_SET, d2c_tensor2(OP_VIEW, c->out, c->d[0], c->d[1]));
    d2c_tensor pre = d2c_absent();

    if (c->flags & ACT_MASK)
        pre = op_input(f, "pre", d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[1]));
    return d2c_linear_backward_input(f->be, dx, dy, &w, pre, c->flags & ACT_MASK, accumulate);
}

static d2c_status
run_linear_backward_weight(op_fixture *f, const op_case *c)
{
    d2c_weight w = {.value = d2c_absent()};
    d2c_tensor dy = op_input(f, "dy", d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[2]));
    d2c_tensor x = op_input(f, "x", d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[1]));

    w.grad = op_output(f, "grad", OP_ADD, d2c_tensor2(OP_VIEW, D2C_F32, c->d[2], c->d[1]));
    if (!has(c, NO_BIAS))
        w.bias_grad = op_output(f, "bias_grad", OP_ADD, d2c_tensor1(OP_VIEW, D2C_F32, c->d[2]));
    return d2c_linear_backward_weight(f->be, &w, dy, x);
}

/* ---- norms and gates: d = B, T, C -------------------------------------------------------------------------- */

#define NORM_EPS 1e-6f

/* x with a mean that matters, as a residual stream has. */
static d2c_tensor
make_stream(op_fixture *f, const op_case *c, d2c_dtype dtype)
{
    return op_random(f, "x", OP_INPUT, tokens_of(dtype, c), 2, 0.7);
}

/* The statistics of x, the oracle's. */
static d2c_tensor
make_stat(op_fixture *f, const op_case *c, d2c_tensor x)
{
    op_buffer *stat = op_add_buffer(f, "stat", OP_INPUT, d2c_tensor3(OP_VIEW, D2C_F32, c->d[0], c->d[1], 2));
    d2c_tensor y = tokens_of(D2C_F32, c);

    y.data = malloc((size_t)d2c_tensor_count(y) * sizeof(float));
    if (y.data == NULL || d2c_layernorm_forward(f->oracle, y, op_on_host(f, stat->view), op_on_host(f, x),
                                                d2c_absent(), d2c_absent(), NORM_EPS) != D2C_OK)
        abort();
    free(y.data);
    return op_upload(f, stat);
}

static d2c_status
run_modulate_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = make_stream(f, c, D2C_F32);
    d2c_tensor shift = op_input(f, "shift", rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor scale = op_input(f, "scale", rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor y = op_output(f, "y", OP_SET, tokens_of(c->out, c));
    d2c_tensor stat = op_output(f, "stat", OP_SET, d2c_tensor3(OP_VIEW, D2C_F32, c->d[0], c->d[1], 2));

    return d2c_modulate_forward(f->be, y, stat, x, shift, scale, NORM_EPS);
}

static d2c_status
run_modulate_backward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = make_stream(f, c, D2C_F32), stat = make_stat(f, c, x);
    d2c_tensor scale = op_input(f, "scale", rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor dy = op_input(f, "dy", tokens_of(c->in, c));
    d2c_tensor dx = op_output(f, "dx", OP_ADD, tokens_of(D2C_F32, c));
    d2c_tensor dshift = op_output(f, "dshift", OP_SET, rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor dscale = op_output(f, "dscale", OP_SET, rows_of(c, D2C_F32, c->d[0], c->d[2]));

    return d2c_modulate_backward(f->be, dx, dshift, dscale, dy, x, stat, scale);
}

static d2c_status
run_gate_residual_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor y = op_input(f, "y", tokens_of(c->in, c));
    d2c_tensor gate = op_input(f, "gate", rows_of(c, D2C_F32, c->d[0], c->d[2]));

    return d2c_gate_residual_forward(f->be, op_output(f, "x", OP_ADD, tokens_of(D2C_F32, c)), y, gate);
}

static d2c_status
run_gate_residual_backward(op_fixture *f, const op_case *c)
{
    d2c_tensor dx = op_input(f, "dx", tokens_of(D2C_F32, c));
    d2c_tensor y = op_input(f, "y", tokens_of(c->in, c));
    d2c_tensor gate = op_input(f, "gate", rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor dy = op_output(f, "dy", OP_SET, tokens_of(c->in, c));
    d2c_tensor dgate = op_output(f, "dgate", OP_SET, rows_of(c, D2C_F32, c->d[0], c->d[2]));

    return d2c_gate_residual_backward(f->be, dy, dgate, dx, y, gate);
}

/* In place, x is changed. */
static d2c_status
run_gate_modulate_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = make_stream(f, c, D2C_F32);
    d2c_tensor y = op_input(f, "y", tokens_of(c->in, c));
    d2c_tensor gate = op_input(f, "gate", rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor shift = op_input(f, "shift", rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor scale = op_input(f, "scale", rows_of(c, D2C_F32, c->d[0], c->d[2]));
    d2c_tensor h = op_output(f, "h", OP_SET, tokens_of(c->out, c));
    d2c_tensor stat = op_output(f, "stat", OP_SET, d2c_tensor3(OP_VIEW, D2C_F32, c->d[0], c->d[1], 2));
    d2c_tensor out = x;

    if (has(c, IN_PLACE))
        f->buffer[0].role = OP_CHANGED;
    else
        out = op_output(f, "out", OP_SET, tokens_of(D2C_F32, c));
    return d2c_gate_modulate_forward(f->be, out, h, stat, x, y, gate, shift, scale, NORM_EPS);
}

static d2c_status
run_layernorm_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = make_stream(f, c, c->in), gamma = d2c_absent(), beta = d2c_absent(), stat = d2c_absent();
    d2c_tensor y = op_output(f, "y", OP_SET, tokens_of(c->out, c));

    if (!has(c, PLAIN)) {
        gamma = op_random(f, "gamma", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, c->d[2]), 0.3, 1);
        beta = op_input(f, "beta", d2c_tensor1(OP_VIEW, D2C_F32, c->d[2]));
        stat = op_output(f, "stat", OP_SET, d2c_tensor3(OP_VIEW, D2C_F32, c->d[0], c->d[1], 2));
    }
    return d2c_layernorm_forward(f->be, y, stat, x, gamma, beta, NORM_EPS);
}

static d2c_status
run_rmsnorm_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = make_stream(f, c, c->in), y = op_output(f, "y", OP_SET, tokens_of(c->out, c));

    return d2c_rmsnorm_forward(
        f->be, y, x, op_random(f, "gamma", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, c->d[2]), 0.3, 1),
        NORM_EPS);
}

static d2c_status
run_layernorm_backward(op_fixture *f, const op_case *c)
{
    d2c_tensor x = make_stream(f, c, c->in), stat = make_stat(f, c, x);
    d2c_tensor dy = op_input(f, "dy", tokens_of(c->in, c));
    d2c_tensor dx = op_output(f, "dx", OP_SET, tokens_of(c->out, c));
    d2c_tensor gamma = d2c_absent(), dgamma = d2c_absent(), dbeta = d2c_absent();

    if (!has(c, PLAIN))
        gamma = op_random(f, "gamma", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, c->d[2]), 0.3, 1);
    if (!has(c, PLAIN) && !has(c, FROZEN)) {
        dgamma = op_output(f, "dgamma", OP_ADD, d2c_tensor1(OP_VIEW, D2C_F32, c->d[2]));
        dbeta = op_output(f, "dbeta", OP_ADD, d2c_tensor1(OP_VIEW, D2C_F32, c->d[2]));
    }
    return d2c_layernorm_backward(f->be, dx, dgamma, dbeta, dy, x, stat, gamma);
}

/* ---- elementwise: d = rows, width -------------------------------------------------------------------------- */

static d2c_status
run_act_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor view = d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[1]);
    d2c_tensor x = op_random(f, "x", OP_INPUT, view, has(c, LARGE) ? 60 : 3, 0);

    return d2c_act_forward(f->be, op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, c->out, c->d[0], c->d[1])),
                           x, c->flags & ACT_MASK);
}

static d2c_status
run_act_backward(op_fixture *f, const op_case *c)
{
    d2c_tensor view = d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[1]);
    d2c_tensor x = op_random(f, "x", OP_INPUT, view, has(c, LARGE) ? 60 : 3, 0);
    d2c_tensor dy = op_input(f, "dy", d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[1]));
    d2c_tensor dx = dy;

    if (has(c, IN_PLACE))
        f->buffer[1].role = OP_CHANGED;
    else
        dx = op_output(f, "dx", OP_SET, d2c_tensor2(OP_VIEW, c->out, c->d[0], c->d[1]));
    return d2c_act_backward(f->be, dx, dy, x, c->flags & ACT_MASK);
}

/* STRIDED: gate and value are the halves of one tensor's rows. */
static d2c_status
run_glu_forward(op_fixture *f, const op_case *c)
{
    int64_t rows = c->d[0], width = c->d[1];
    d2c_tensor gate, value, y = op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, c->out, rows, width));

    if (has(c, STRIDED)) {
        d2c_tensor both = op_random(f, "both", OP_INPUT, d2c_tensor2(OP_VIEW, c->in, rows, 2 * width), 2, 0);
        char *half = (char *)both.data + (size_t)width * d2c_dtype_size(c->in);

        gate = d2c_rows(both.data, c->in, rows, width, 2 * width);
        value = d2c_rows(half, c->in, rows, width, 2 * width);
    } else {
        gate = op_random(f, "gate", OP_INPUT, d2c_tensor2(OP_VIEW, c->in, rows, width), 2, 0);
        value = op_input(f, "value", d2c_tensor2(OP_VIEW, c->in, rows, width));
    }
    return d2c_glu_forward(f->be, y, gate, value, c->flags & ACT_MASK);
}

/* PLAIN: b = 0, and y starts as NaN, which must not be read. */
static d2c_status
run_axpby(op_fixture *f, const op_case *c)
{
    d2c_tensor x = op_input(f, "x", d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1]));

    if (has(c, PLAIN))
        return d2c_axpby(f->be,
                         op_random(f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1]), NAN, 0),
                         -1.5f, x, 0);
    return d2c_axpby(f->be, op_output(f, "y", OP_ADD, d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1])), 0.25f,
                     x, 1);
}

static d2c_status
run_cast(op_fixture *f, const op_case *c)
{
    d2c_tensor x = op_random(f, "x", OP_INPUT, rows_of(c, c->in, c->d[0], c->d[1]), 5, 0);

    return d2c_cast(f->be, op_output(f, "y", OP_SET, rows_of(c, c->out, c->d[0], c->d[1])), x);
}

static d2c_status
run_quantize(op_fixture *f, const op_case *c)
{
    d2c_tensor x =
        op_random(f, "x", OP_INPUT, d2c_tensor2(OP_VIEW, c->in, c->d[0], c->d[1]), has(c, PLAIN) ? 0 : 3, 0);
    d2c_tensor y = op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_F8, c->d[0], c->d[1]));

    y.scale = op_output(f, "scale", OP_SET, d2c_tensor1(OP_VIEW, D2C_F32, 1)).data;
    return d2c_quantize(f->be, y, x);
}

static d2c_status
run_add_rows(op_fixture *f, const op_case *c)
{
    d2c_tensor rows = op_input(f, "rows", d2c_tensor2(OP_VIEW, D2C_F32, c->d[1], c->d[2]));

    return d2c_add_rows(f->be, op_output(f, "x", OP_ADD, tokens_of(D2C_F32, c)), rows);
}

/* ---- embeddings and layout --------------------------------------------------------------------------------- */

/* d = N, C, V */
static d2c_status
run_gather(op_fixture *f, const op_case *c)
{
    d2c_tensor table = op_input(f, "table", d2c_tensor2(OP_VIEW, D2C_F32, c->d[2], c->d[1]));
    d2c_tensor index = op_index(f, "index", c->d[0], c->d[2]);

    return d2c_gather(f->be, op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1])),
                      table, index);
}

static d2c_status
run_scatter_add(op_fixture *f, const op_case *c)
{
    d2c_tensor dy = op_input(f, "dy", d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1]));
    d2c_tensor index = op_index(f, "index", c->d[0], c->d[2]);

    return d2c_scatter_add(
        f->be, op_output(f, "dtable", OP_ADD, d2c_tensor2(OP_VIEW, D2C_F32, c->d[2], c->d[1])), dy, index);
}

/* d = B, W; times in 0..1, as SiT has them. */
static d2c_status
run_timestep_embedding(op_fixture *f, const op_case *c)
{
    op_buffer *t = op_add_buffer(f, "t", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]));

    for (int64_t b = 0; b < c->d[0]; b++)
        op_store(t->start + OP_GUARD, D2C_F32, b, (double)b / (double)c->d[0] + 0.01);
    op_upload(f, t);
    return d2c_timestep_embedding(
        f->be, op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, c->out, c->d[0], c->d[1])), t->view);
}

/* d = B, C, H (and W = H + patch), patch, channels of the tokens */
static d2c_tensor
picture_of(d2c_dtype dtype, const op_case *c)
{
    return d2c_tensor4(OP_VIEW, dtype, c->d[0], c->d[1], c->d[2], c->d[2] + c->d[3]);
}

static d2c_tensor
patches_of(d2c_dtype dtype, const op_case *c)
{
    int64_t side = c->d[2] / c->d[3];

    return d2c_tensor3(OP_VIEW, dtype, c->d[0], side * (side + 1), c->d[3] * c->d[3] * c->d[4]);
}

static d2c_status
run_patchify(op_fixture *f, const op_case *c)
{
    d2c_tensor x = op_input(f, "x", picture_of(c->in, c));

    return d2c_patchify(f->be, op_output(f, "y", OP_SET, patches_of(c->out, c)), x, (int)c->d[3],
                        has(c, ORDER_LAST) ? D2C_PATCH_CHANNEL_LAST : D2C_PATCH_CHANNEL_FIRST);
}

static d2c_status
run_unpatchify(op_fixture *f, const op_case *c)
{
    d2c_tensor y = op_input(f, "y", patches_of(c->in, c));

    return d2c_unpatchify(f->be, op_output(f, "x", OP_SET, picture_of(c->out, c)), y, (int)c->d[3],
                          has(c, ORDER_LAST) ? D2C_PATCH_CHANNEL_LAST : D2C_PATCH_CHANNEL_FIRST);
}

/* The first token counts, the others by chance; the last row has no token at all. */
static d2c_tensor
make_mask(op_fixture *f, int64_t batch, int64_t tokens)
{
    op_buffer *mask = op_add_buffer(f, "mask", OP_INPUT, d2c_tensor2(OP_VIEW, D2C_F32, batch, tokens));

    for (int64_t i = 0; i < batch * tokens; i++)
        op_store(mask->start + OP_GUARD, D2C_F32, i,
                 i < (batch - 1) * tokens && (i % tokens == 0 || op_normal(f->seed, 78, i) > 0));
    return op_upload(f, mask);
}

static d2c_status
run_text_unfold(op_fixture *f, const op_case *c)
{
    d2c_tensor x = op_input(f, "x", tokens_of(c->in, c)), mask = make_mask(f, c->d[0], c->d[1]);

    return d2c_text_unfold(
        f->be, op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, c->out, c->d[0], c->d[1] * c->d[2])), x, mask);
}

/* ---- randomness: d = B, n ---------------------------------------------------------------------------------- */

#define DRAW_SEED 0x0123456789ABCDEFu

static d2c_status
run_draw_normal(op_fixture *f, const op_case *c)
{
    d2c_tensor id = op_index(f, "id", c->d[0], 1 << 30), epoch = op_index(f, "epoch", c->d[0], 1000);

    return d2c_draw_normal(f->be, op_output(f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1])),
                           DRAW_SEED, id, epoch, D2C_PURPOSE_NOISE);
}

static d2c_status
run_drop_labels(op_fixture *f, const op_case *c)
{
    d2c_tensor id = op_index(f, "id", c->d[0], 1 << 30), epoch = op_index(f, "epoch", c->d[0], 1000);
    d2c_tensor label = op_index(f, "label", c->d[0], 10), keep = d2c_absent();

    if (!has(c, PLAIN))
        keep = op_output(f, "keep", OP_SET, d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]));
    return d2c_drop_labels(f->be, op_output(f, "kept", OP_SET, d2c_tensor1(OP_VIEW, D2C_I64, c->d[0])), keep,
                           label, DRAW_SEED, id, epoch, 0.4f, 10);
}

/* ---- diffusion and losses: d = B, n or B, T, W ------------------------------------------------------------- */

/* d = B, path */
static d2c_status
run_path_coefficients(op_fixture *f, const op_case *c)
{
    op_buffer *t = op_add_buffer(f, "t", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]));

    for (int64_t b = 0; b < c->d[0]; b++)
        op_store(t->start + OP_GUARD, D2C_F32, b, (double)b / (double)c->d[0]);
    op_upload(f, t);
    return d2c_path_coefficients(
        f->be, op_output(f, "coefficient", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], 4)), t->view,
        (d2c_path)c->d[1]);
}

static d2c_status
run_diffuse(op_fixture *f, const op_case *c)
{
    d2c_tensor view = d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1]);
    d2c_tensor x = op_input(f, "x", view), noise = op_input(f, "noise", view), target = d2c_absent();
    d2c_tensor coefficient = op_input(f, "coefficient", d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], 4));

    if (!has(c, PLAIN))
        target = op_output(f, "target", OP_SET, view);
    return d2c_diffuse(f->be, op_output(f, "xt", OP_SET, view), target, x, noise, coefficient);
}

static d2c_status
run_mse_loss(op_fixture *f, const op_case *c)
{
    d2c_tensor view = d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1]);
    d2c_tensor v = op_input(f, "v", view), target = op_input(f, "target", view), dv = d2c_absent();
    d2c_tensor loss = op_output(f, "loss", OP_SET, d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]));

    if (has(c, PLAIN))
        return d2c_mse_loss(f->be, loss, dv, v, target, NULL);
    dv = op_output(f, "dv", OP_SET, view);
    return d2c_mse_loss(f->be, loss, dv, v, target, record_of(f));
}

/* Images in turn: a step whose variance has a wide range, one near the data, and the first one. */
static d2c_tensor
bound_of(op_fixture *f, int64_t batch)
{
    static const float terms[3][4] = {
        {0.4f, -2.0f, -0.9f, 0}, {0.008f, -9.9f, -9.1f, 0}, {0.01f, -9.8f, -9.21f, 1}};
    float *bound = malloc((size_t)batch * sizeof terms[0]);
    d2c_tensor made;

    if (bound == NULL)
        abort();
    for (int64_t b = 0; b < batch; b++)
        memcpy(bound + 4 * b, terms[b % 3], sizeof terms[0]);
    made = op_given(f, "bound", OP_INPUT, d2c_tensor2(OP_VIEW, D2C_F32, batch, 4), bound);
    free(bound);
    return made;
}

static d2c_status
run_dit_loss(op_fixture *f, const op_case *c)
{
    d2c_tensor view = d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], c->d[1]), both = view, dv = d2c_absent();
    d2c_tensor noise = op_input(f, "noise", view), x = op_input(f, "x", view), v, bound, loss;

    both = d2c_tensor2(OP_VIEW, D2C_F32, c->d[0], 2 * c->d[1]);
    v = op_random(f, "v", OP_INPUT, both, 0.7, 0);
    bound = bound_of(f, c->d[0]);
    loss = op_output(f, "loss", OP_SET, d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]));
    if (has(c, PLAIN))
        return d2c_dit_loss(f->be, loss, dv, v, noise, x, bound, NULL);
    dv = op_output(f, "dv", OP_SET, both);
    return d2c_dit_loss(f->be, loss, dv, v, noise, x, bound, record_of(f));
}

/* z is f32 or bf16 (in), q as out says. */
static d2c_status
run_cosine_loss(op_fixture *f, const op_case *c)
{
    d2c_tensor z = op_random(f, "z", OP_INPUT, tokens_of(c->in, c), 1, 0.5);
    d2c_tensor q = op_random(f, "q", OP_INPUT, tokens_of(c->out, c), 1, 0.5), dz = d2c_absent();
    d2c_tensor loss = op_output(f, "loss", OP_SET, d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]));

    if (has(c, PLAIN))
        return d2c_cosine_loss(f->be, loss, dz, z, q, 0.5f, NULL);
    dz = op_output(f, "dz", OP_SET, tokens_of(c->in, c));
    return d2c_cosine_loss(f->be, loss, dz, z, q, 0.5f, record_of(f));
}

/* ---- records and optimizer: d = n -------------------------------------------------------------------------- */

/* A record that an op changes, compared as numbers. */
static d2c_step_record *
changing_record(op_fixture *f, d2c_step_record record)
{
    return op_given(f, "record", OP_CHANGED, d2c_tensor1(OP_VIEW, D2C_F32, sizeof record / 4), &record).data;
}

static d2c_status
run_finish_loss(op_fixture *f, const op_case *c)
{
    d2c_step_record *record = changing_record(f, (d2c_step_record){.loss_scale = 0.01f, .loss = 1.5f});

    return d2c_finish_loss(f->be, record,
                           op_random(f, "loss", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]), 0.2, 1));
}

/* PLAIN: without clipping. */
static d2c_status
run_gradient_norm(op_fixture *f, const op_case *c)
{
    d2c_step_record *record =
        changing_record(f, (d2c_step_record){.max_grad_norm = has(c, PLAIN) ? 0 : 1, .loss = 1});

    return d2c_gradient_norm(f->be, record, op_input(f, "grad", d2c_tensor1(OP_VIEW, D2C_F32, c->d[0])));
}

/* PLAIN: without EMA and shadow.  COUPLED: Adam. */
static d2c_status
run_adamw_step(op_fixture *f, const op_case *c)
{
    const d2c_adamw setting = {0.9f, 0.999f, 1e-8f, 0.01f, has(c, COUPLED)};
    d2c_step_record record = {.learning_rate = 0.01f,
                              .bias_correction1 = 0.271f,
                              .bias_correction2 = 0.002997f,
                              .ema_decay = 0.9f,
                              .clip_scale = 0.5f};
    d2c_tensor view = d2c_tensor1(OP_VIEW, D2C_F32, c->d[0]), ema = d2c_absent(), shadow = d2c_absent();
    const d2c_step_record *at =
        op_given(f, "record", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_F32, 16), &record).data;
    d2c_tensor value = op_output(f, "value", OP_CHANGED, view), m = op_output(f, "m", OP_CHANGED, view);
    d2c_tensor v = op_random(f, "v", OP_CHANGED, view, 0.1, 1), grad = op_input(f, "grad", view);

    if (!has(c, PLAIN)) {
        ema = op_output(f, "ema", OP_CHANGED, view);
        shadow = op_output(f, "shadow", OP_CHANGED, d2c_tensor1(OP_VIEW, D2C_BF16, c->d[0]));
    }
    return d2c_adamw_step(f->be, value, m, v, ema, shadow, grad, &setting, at);
}

/* ---- the table --------------------------------------------------------------------------------------------- */

#define CASE(op, in, out, flags, tolerance, ...)                                                             \
    {                                                                                                        \
#op, run_##op, {__VA_ARGS__ }, D2C_##in, D2C_##out, flags, tolerance                                 \
    }
#define GELU_TANH D2C_ACT_GELU_TANH
#define GELU_ERF D2C_ACT_GELU_ERF
#define SILU D2C_ACT_SILU
#define RELU D2C_ACT_RELU
#define GELU_QUICK D2C_ACT_GELU_QUICK

static const op_case op_cases[] = {
    CASE(linear_forward, F32, F32, 0, TOL_F32, 98, 96, 288),
    CASE(linear_forward, F32, F32, NO_BIAS, TOL_F32, 1, 40, 72),
    CASE(linear_forward, F32, F32, STRIDED, TOL_F32, 17, 72, 40),
    CASE(linear_forward, F32, F32, GELU_TANH | WITH_PRE, TOL_APPROX, 49, 96, 384),
    CASE(linear_forward, F32, F32, GELU_ERF, TOL_APPROX, 17, 40, 96),
    CASE(linear_forward, F32, F32, SILU | WITH_PRE | STRIDED, TOL_APPROX, 3, 96, 72),
    CASE(linear_forward, F32, F32, RELU, TOL_F32, 5, 33, 7),
    CASE(linear_forward, F32, F32, 0, TOL_F32, 49, 16, 1),
    CASE(linear_forward, F32, F32, GELU_QUICK, TOL_APPROX, 17, 40, 96),
    CASE(linear_forward, BF16, BF16, 0, TOL_BF16, 98, 96, 288),
    CASE(linear_forward, BF16, F32, 0, TOL_F32 * 10, 17, 72, 40),
    CASE(linear_forward, BF16, F32, STRIDED | NO_BIAS, TOL_F32 * 10, 1, 96, 33),
    CASE(linear_forward, F32, BF16, SILU, TOL_BF16, 4, 40, 96),
    CASE(linear_forward, BF16, BF16, GELU_TANH | WITH_PRE, TOL_BF16_2, 49, 96, 384),
    CASE(linear_forward, BF16, BF16, GELU_ERF | STRIDED, TOL_BF16_2, 17, 40, 72),
    CASE(linear_forward, BF16, BF16, SILU | WITH_PRE, TOL_BF16_2, 1, 40, 40),
    CASE(linear_forward, BF16, BF16, RELU, TOL_BF16, 5, 33, 7),
    CASE(linear_forward, BF16, BF16, GELU_QUICK, TOL_BF16_2, 17, 40, 96),
    CASE(linear_forward_eight, F8, BF16, 0, TOL_BF16_2, 98, 96, 288),
    CASE(linear_forward_eight, F8, BF16, NO_BIAS, TOL_BF16, 1, 48, 16),
    CASE(linear_forward_eight, F8, BF16, GELU_TANH, TOL_BF16_2, 17, 32, 64),

    CASE(linear_backward_input, F32, F32, 0, TOL_F32, 98, 96, 288),
    CASE(linear_backward_input, F32, F32, ACCUMULATE, TOL_F32, 17, 40, 72),
    CASE(linear_backward_input, F32, F32, GELU_TANH, TOL_APPROX, 49, 384, 96),
    CASE(linear_backward_input, F32, F32, GELU_ERF, TOL_APPROX, 1, 40, 33),
    CASE(linear_backward_input, F32, F32, SILU, TOL_APPROX, 3, 72, 96),
    CASE(linear_backward_input, F32, F32, RELU, TOL_F32, 3, 7, 5),
    CASE(linear_backward_input, BF16, BF16, 0, TOL_BF16, 98, 96, 288),
    CASE(linear_backward_input, BF16, F32, ACCUMULATE, TOL_F32 * 10, 17, 40, 72),
    CASE(linear_backward_input, BF16, F32, 0, TOL_F32 * 10, 1, 96, 40),
    CASE(linear_backward_input, F32, BF16, 0, TOL_BF16, 5, 40, 96),
    CASE(linear_backward_input, BF16, BF16, GELU_TANH, TOL_BF16_2, 49, 384, 96),
    CASE(linear_backward_input, BF16, BF16, SILU, TOL_BF16_2, 1, 40, 33),

    CASE(linear_backward_weight, F32, F32, 0, TOL_F32, 98, 96, 288),
    CASE(linear_backward_weight, F32, F32, NO_BIAS, TOL_F32, 17, 40, 72),
    CASE(linear_backward_weight, F32, F32, 0, TOL_F32, 1, 33, 7),
    CASE(linear_backward_weight, BF16, BF16, 0, TOL_F32 * 10, 98, 96, 288),
    CASE(linear_backward_weight, BF16, BF16, NO_BIAS, TOL_F32 * 10, 1, 40, 72),
    CASE(linear_backward_weight, BF16, BF16, 0, TOL_F32 * 10, 17, 7, 33),
    CASE(linear_backward_weight, BF16, BF16, 0, TOL_F32 * 10, 1030, 8, 264),

    CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 2, 49, 96, 3),
    CASE(attention_forward, F32, F32, NO_BIAS | PLAIN, TOL_APPROX, 1, 17, 72, 1),
    CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 3, 1, 40, 5),
    CASE(attention_forward, F32, F32, 0, TOL_APPROX, 2, 17, 40, 2),
    CASE(attention_forward, F32, F32, BROADCAST, TOL_APPROX, 3, 21, 96, 4),
    CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 1, 256, 128, 2),
    CASE(attention_forward, F32, F32, NO_BIAS | LARGE, TOL_APPROX, 2, 17, 40, 2),
    CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 2, 49, 96, 3),
    CASE(attention_forward, BF16, BF16, NO_BIAS | PLAIN, TOL_BF16_2, 1, 17, 72, 1),
    CASE(attention_forward, BF16, BF16, 0, TOL_BF16_2, 2, 17, 40, 2),
    CASE(attention_forward, BF16, BF16, BROADCAST, TOL_BF16_2, 3, 21, 96, 4),
    CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 256, 128, 2),
    CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 1, 33, 160, 1),
    CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 3, 1, 40, 5),
    CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 257, 72, 1),
    CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 65, 128, 1),
    CASE(attention_forward, BF16, BF16, 0, TOL_BF16_2, 1, 70, 128, 2),
    CASE(attention_forward, BF16, BF16, BROADCAST, TOL_BF16_2, 2, 35, 80, 1),
    CASE(attention_forward, F32, F32, CAUSAL | PLAIN, TOL_APPROX, 2, 77, 128, 2),
    CASE(attention_forward, F32, F32, SHARED | PLAIN, TOL_APPROX, 2, 40, 128, 2),
    CASE(attention_forward, F32, F32, NO_BIAS | PLAIN, TOL_APPROX, 1, 70, 512, 1),
    CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 1, 530, 48, 1),
    CASE(attention_forward, F32, F32, SHARED, TOL_APPROX, 1, 1030, 16, 2),
    CASE(attention_forward, F32, F32, BROADCAST, TOL_APPROX, 2, 533, 32, 1),
    CASE(attention_forward, BF16, BF16, CAUSAL | PLAIN, TOL_BF16_2, 2, 77, 128, 2),
    CASE(attention_forward, BF16, BF16, SHARED | PLAIN, TOL_BF16_2, 2, 40, 128, 2),
    CASE(attention_forward, BF16, BF16, NO_BIAS | PLAIN, TOL_BF16_2, 1, 70, 512, 1),
    CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 530, 48, 1),
    CASE(attention_forward, BF16, BF16, CAUSAL, TOL_BF16_2, 1, 1030, 32, 2),

    CASE(attention_backward, F32, F32, NO_BIAS, TOL_APPROX, 2, 49, 96, 3),
    CASE(attention_backward, F32, F32, NO_BIAS, TOL_APPROX, 1, 17, 72, 1),
    CASE(attention_backward, F32, F32, NO_BIAS, TOL_APPROX, 3, 1, 40, 5),
    CASE(attention_backward, F32, F32, 0, TOL_APPROX, 2, 17, 40, 2),
    CASE(attention_backward, F32, F32, BROADCAST, TOL_APPROX, 3, 21, 96, 4),
    CASE(attention_backward, F32, F32, NO_BIAS, TOL_APPROX, 1, 256, 128, 2),
    CASE(attention_backward, F32, F32, NO_BIAS | LARGE, TOL_APPROX, 2, 17, 40, 2),
    CASE(attention_backward, BF16, BF16, NO_BIAS, TOL_BF16_2, 2, 49, 96, 3),
    CASE(attention_backward, BF16, BF16, 0, TOL_BF16_2, 2, 17, 40, 2),
    CASE(attention_backward, BF16, BF16, BROADCAST, TOL_BF16_2, 3, 21, 96, 4),
    CASE(attention_backward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 256, 128, 2),
    CASE(attention_backward, F32, F32, NO_BIAS, TOL_APPROX, 1, 33, 160, 1),
    CASE(attention_backward, BF16, BF16, NO_BIAS, TOL_BF16_2, 3, 1, 40, 5),
    CASE(attention_backward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 257, 72, 1),
    CASE(attention_backward, BF16, BF16, NO_BIAS, TOL_BF16_2, 1, 65, 128, 1),
    CASE(attention_backward, BF16, BF16, 0, TOL_BF16_2, 1, 70, 128, 2),
    CASE(attention_backward, BF16, BF16, BROADCAST, TOL_BF16_2, 2, 35, 80, 1),

    CASE(modulate_forward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(modulate_forward, F32, F32, STRIDED, TOL_F32, 1, 1, 72),
    CASE(modulate_forward, F32, BF16, STRIDED, TOL_BF16, 3, 17, 40),
    CASE(modulate_forward, F32, BF16, 0, TOL_BF16, 2, 9, 1152),
    CASE(modulate_forward, F32, F32, STRIDED, TOL_F32, 2, 5, 1150),
    CASE(modulate_backward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(modulate_backward, F32, F32, STRIDED, TOL_F32, 1, 1, 72),
    CASE(modulate_backward, BF16, F32, STRIDED, TOL_F32 * 10, 3, 17, 40),
    CASE(modulate_backward, BF16, F32, 0, TOL_F32 * 10, 1, 70, 384),
    CASE(modulate_backward, F32, F32, STRIDED, TOL_F32, 2, 9, 1150),
    CASE(modulate_backward, F32, F32, 0, TOL_F32, 3, 1, 33),
    CASE(gate_residual_forward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(gate_residual_forward, BF16, F32, STRIDED, TOL_F32 * 10, 1, 17, 40),
    CASE(gate_residual_forward, F32, F32, STRIDED, TOL_F32, 2, 9, 1150),
    CASE(gate_residual_backward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(gate_residual_backward, BF16, BF16, STRIDED, TOL_BF16, 3, 17, 40),
    CASE(gate_residual_backward, F32, F32, STRIDED, TOL_F32, 1, 1, 72),
    CASE(gate_residual_backward, BF16, BF16, 0, TOL_BF16, 1, 70, 384),
    CASE(gate_residual_backward, F32, F32, STRIDED, TOL_F32, 2, 9, 1150),
    CASE(gate_modulate_forward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(gate_modulate_forward, F32, F32, STRIDED | IN_PLACE, TOL_F32, 1, 17, 72),
    CASE(gate_modulate_forward, BF16, BF16, STRIDED, TOL_BF16, 3, 1, 40),
    CASE(gate_modulate_forward, BF16, BF16, 0, TOL_BF16, 2, 9, 1152),
    CASE(gate_modulate_forward, BF16, F32, STRIDED | IN_PLACE, TOL_F32 * 10, 2, 5, 1150),
    CASE(layernorm_forward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(layernorm_forward, F32, F32, PLAIN, TOL_F32, 1, 1, 40),
    CASE(layernorm_forward, F32, BF16, 0, TOL_BF16, 3, 17, 72),
    CASE(layernorm_forward, BF16, F32, 0, TOL_F32 * 10, 1, 17, 33),
    CASE(layernorm_forward, BF16, BF16, 0, TOL_BF16, 1, 17, 768),
    CASE(rmsnorm_forward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(rmsnorm_forward, F32, BF16, 0, TOL_BF16, 3, 17, 1025),
    CASE(rmsnorm_forward, BF16, BF16, 0, TOL_BF16, 1, 1, 40),
    CASE(rmsnorm_forward, BF16, F32, 0, TOL_F32 * 10, 1, 9, 33),
    CASE(layernorm_backward, F32, F32, 0, TOL_F32, 2, 49, 96),
    CASE(layernorm_backward, F32, F32, PLAIN, TOL_F32, 1, 1, 40),
    CASE(layernorm_backward, BF16, BF16, 0, TOL_BF16, 3, 17, 72),
    CASE(layernorm_backward, F32, F32, 0, TOL_F32, 4, 257, 40),
    CASE(layernorm_backward, BF16, F32, FROZEN, TOL_F32 * 10, 2, 9, 129),

    CASE(act_forward, F32, F32, SILU, TOL_APPROX, 49, 96),
    CASE(act_forward, F32, F32, GELU_TANH, TOL_APPROX, 17, 33),
    CASE(act_forward, F32, F32, GELU_ERF, TOL_APPROX, 17, 33),
    CASE(act_forward, F32, F32, RELU, EXACT, 17, 33),
    CASE(act_forward, F32, F32, SILU | LARGE, TOL_APPROX, 17, 33),
    CASE(act_forward, F32, F32, GELU_TANH | LARGE, TOL_APPROX, 17, 33),
    CASE(act_forward, F32, F32, GELU_ERF | LARGE, TOL_APPROX, 17, 33),
    CASE(act_forward, F32, F32, GELU_QUICK, TOL_APPROX, 17, 33),
    CASE(act_forward, F32, F32, GELU_QUICK | LARGE, TOL_APPROX, 17, 33),
    CASE(act_forward, BF16, BF16, GELU_QUICK, TOL_BF16, 49, 96),
    CASE(act_forward, F32, BF16, SILU, TOL_BF16, 1, 7),
    CASE(act_forward, BF16, F32, GELU_TANH, TOL_APPROX, 17, 33),
    CASE(act_forward, BF16, BF16, SILU, TOL_BF16, 49, 96),
    CASE(act_backward, F32, F32, SILU, TOL_APPROX, 49, 96),
    CASE(act_backward, F32, F32, GELU_TANH | IN_PLACE, TOL_APPROX, 17, 33),
    CASE(act_backward, F32, F32, GELU_ERF, TOL_APPROX, 17, 33),
    CASE(act_backward, F32, F32, RELU, EXACT, 17, 33),
    CASE(act_backward, F32, F32, SILU | LARGE, TOL_APPROX, 17, 33),
    CASE(act_backward, F32, F32, GELU_TANH | LARGE, TOL_APPROX, 17, 33),
    CASE(act_backward, F32, F32, GELU_ERF | LARGE, TOL_APPROX, 17, 33),
    CASE(act_backward, F32, F32, GELU_QUICK, TOL_APPROX, 17, 33),
    CASE(act_backward, F32, F32, GELU_QUICK | LARGE, TOL_APPROX, 17, 33),
    CASE(act_backward, BF16, BF16, SILU | IN_PLACE, TOL_BF16, 3, 7),
    CASE(act_backward, BF16, F32, SILU, TOL_APPROX, 17, 33),
    CASE(glu_forward, F32, F32, GELU_TANH | STRIDED, TOL_APPROX, 17, 33),
    CASE(glu_forward, F32, F32, SILU, TOL_APPROX, 49, 96),
    CASE(glu_forward, F32, F32, STRIDED, TOL_F32, 5, 40),
    CASE(glu_forward, F32, BF16, RELU | STRIDED, TOL_BF16, 1, 7),
    CASE(glu_forward, BF16, F32, GELU_ERF | STRIDED, TOL_APPROX, 3, 33),
    CASE(glu_forward, BF16, BF16, GELU_TANH | STRIDED, TOL_BF16, 49, 128),
    CASE(axpby, F32, F32, 0, TOL_F32, 17, 33),
    CASE(axpby, F32, F32, PLAIN, EXACT, 17, 33),
    CASE(cast, F32, BF16, 0, EXACT, 17, 33),
    CASE(cast, F32, F16, STRIDED, EXACT, 17, 33),
    CASE(cast, BF16, F32, STRIDED, EXACT, 1, 72),
    CASE(cast, F16, F32, 0, EXACT, 5, 40),
    CASE(cast, F16, BF16, 0, EXACT, 5, 40),
    CASE(cast, F32, F32, STRIDED, EXACT, 5, 40),
    CASE(quantize, F32, F8, 0, EXACT, 17, 33),
    CASE(quantize, BF16, F8, 0, EXACT, 49, 96),
    CASE(quantize, F32, F8, PLAIN, EXACT, 3, 16),
    CASE(add_rows, F32, F32, 0, TOL_F32, 3, 17, 40),

    CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3), TOL_F32, 2, 9, 11, 16, 24),
    CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3) | SILU, TOL_APPROX, 1, 8, 8, 3, 128),
    CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3) | NO_BIAS, TOL_F32, 3, 5, 4, 40, 3),
    CASE(conv2d_forward, F32, F32, WINDOW(DOWN_3X3), TOL_F32, 2, 12, 10, 32, 32),
    CASE(conv2d_forward, F32, F32, WINDOW(DOWN_3X3), TOL_F32, 1, 7, 9, 5, 7),
    CASE(conv2d_forward, F32, F32, WINDOW(POINT) | RELU, TOL_F32, 2, 5, 7, 48, 33),
    CASE(conv2d_forward, F32, F32, WINDOW(POINT_2) | NO_BIAS, TOL_F32, 1, 9, 8, 16, 40),
    CASE(conv2d_forward, F32, F32, WINDOW(STEM_7X7) | RELU | NO_BIAS, TOL_F32, 1, 20, 17, 3, 64),
    CASE(conv2d_forward, F32, F32, WINDOW(VALID_3X3) | RELU, TOL_F32, 2, 11, 11, 17, 20),
    CASE(conv2d_forward, F32, F32, WINDOW(WIDE_7) | RELU, TOL_F32, 1, 5, 17, 24, 16),
    CASE(conv2d_forward, F32, F32, WINDOW(TALL_7), TOL_F32, 1, 17, 5, 24, 16),
    CASE(conv2d_forward, F32, F32, WINDOW(SAME_5X5) | GELU_TANH, TOL_APPROX, 1, 6, 3, 8, 12),
    CASE(conv2d_forward, F32, F32, WINDOW(SKEWED) | GELU_ERF, TOL_APPROX, 2, 10, 7, 6, 5),
    CASE(conv2d_forward, F32, F32, WINDOW(HALVE_3X3) | GELU_QUICK, TOL_APPROX, 2, 9, 8, 16, 16),
    CASE(conv2d_forward, F32, F32, WINDOW(PATCH_4), TOL_F32, 2, 12, 8, 3, 32),
    CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3), TOL_F32, 1, 1, 1, 1, 1),
    CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3), TOL_F32, 1, 33, 31, 64, 64),
    CASE(conv2d_forward, F32, BF16, WINDOW(SAME_3X3) | SILU, TOL_BF16, 1, 8, 6, 16, 24),
    CASE(conv2d_forward, F32, BF16, WINDOW(DOWN_3X3), TOL_BF16, 2, 8, 6, 16, 24),
    CASE(conv2d_forward, BF16, BF16, WINDOW(SAME_3X3), TOL_BF16_2, 2, 9, 11, 32, 48),
    CASE(conv2d_forward, BF16, BF16, WINDOW(SAME_3X3) | NO_BIAS | SILU, TOL_BF16_2, 1, 6, 5, 64, 32),
    CASE(conv2d_forward, BF16, F32, WINDOW(SAME_3X3) | RELU, TOL_F32 * 10, 1, 7, 9, 32, 40),
    CASE(conv2d_forward, BF16, F32, WINDOW(DOWN_3X3), TOL_F32 * 10, 1, 7, 9, 64, 64),
    CASE(conv2d_forward, BF16, F32, WINDOW(SAME_3X3), TOL_F32 * 10, 1, 8, 9, 3, 32),
    CASE(conv2d_forward, BF16, BF16, WINDOW(POINT), TOL_BF16_2, 2, 5, 7, 48, 33),
    CASE(conv2d_forward, BF16, BF16, WINDOW(SAME_3X3), TOL_BF16_2, 1, 8, 8, 16, 3),
    CASE(conv2d_forward, BF16, F32, WINDOW(SKEWED) | GELU_ERF, TOL_APPROX, 2, 10, 7, 6, 5),
    CASE(conv2d_forward, BF16, BF16, WINDOW(WIDE_7), TOL_BF16_2, 1, 5, 17, 24, 16),
    CASE(groupnorm_forward, F32, F32, 0, TOL_F32, 2, 9, 7, 64, 32),
    CASE(groupnorm_forward, F32, F32, SILU, TOL_APPROX, 1, 16, 17, 128, 32),
    CASE(groupnorm_forward, F32, F32, LARGE, TOL_APPROX, 2, 20, 30, 64, 8),
    CASE(groupnorm_forward, F32, F32, GELU_ERF, TOL_APPROX, 2, 5, 3, 33, 3),
    CASE(groupnorm_forward, F32, F32, RELU, TOL_F32, 3, 1, 1, 40, 4),
    CASE(groupnorm_forward, F32, F32, 0, TOL_F32, 1, 6, 5, 40, 1),
    CASE(groupnorm_forward, F32, F32, 0, TOL_F32, 1, 65, 33, 24, 24),
    CASE(groupnorm_forward, F32, BF16, SILU, TOL_BF16, 2, 9, 7, 64, 32),
    CASE(groupnorm_forward, BF16, F32, SILU, TOL_APPROX, 1, 17, 16, 96, 32),
    CASE(groupnorm_forward, BF16, BF16, 0, TOL_BF16, 2, 6, 5, 256, 32),
    CASE(upsample_forward, F32, F32, 0, EXACT, 2, 5, 3, 33),
    CASE(upsample_forward, BF16, BF16, 0, EXACT, 1, 4, 7, 64),
    CASE(pool_forward, F32, F32, WINDOW(HALVE_3X3), EXACT, 2, 9, 8, 16, D2C_POOL_MAX),
    CASE(pool_forward, F32, F32, WINDOW(VALID_3X3), EXACT, 1, 11, 9, 33, D2C_POOL_MAX),
    CASE(pool_forward, F32, F32, WINDOW(SKEWED), EXACT, 1, 10, 7, 5, D2C_POOL_MAX),
    CASE(pool_forward, BF16, BF16, WINDOW(SAME_3X3), EXACT, 1, 6, 7, 24, D2C_POOL_MAX),
    CASE(pool_forward, F32, F32, WINDOW(SAME_3X3), TOL_F32, 2, 8, 9, 24, D2C_POOL_MEAN),
    CASE(pool_forward, F32, F32, WINDOW(SKEWED), TOL_F32, 1, 10, 7, 5, D2C_POOL_MEAN),
    CASE(pool_forward, BF16, BF16, WINDOW(SAME_3X3), TOL_BF16, 1, 6, 7, 33, D2C_POOL_MEAN),

    CASE(gather, F32, F32, 0, EXACT, 33, 40, 7),
    CASE(scatter_add, F32, F32, 0, TOL_F32, 33, 40, 7),
    CASE(scatter_add, F32, F32, 0, TOL_F32, 1, 96, 11),
    CASE(timestep_embedding, F32, F32, 0, TOL_APPROX, 9, 256),
    CASE(timestep_embedding, F32, BF16, 0, TOL_BF16, 1, 40),
    CASE(patchify, F32, F32, 0, EXACT, 2, 3, 8, 2, 3),
    CASE(patchify, F32, BF16, 0, EXACT, 1, 1, 28, 4, 1),
    CASE(patchify, F32, F32, ORDER_LAST, EXACT, 2, 3, 6, 3, 5),
    CASE(patchify, F32, BF16, ORDER_LAST, EXACT, 1, 4, 8, 2, 8),
    CASE(unpatchify, F32, F32, 0, EXACT, 2, 3, 8, 2, 3),
    CASE(unpatchify, BF16, F32, ORDER_LAST, EXACT, 1, 4, 8, 2, 8),
    CASE(unpatchify, F32, F32, ORDER_LAST, EXACT, 2, 1, 28, 4, 1),
    CASE(text_unfold, F32, F32, 0, EXACT, 3, 16, 33),
    CASE(text_unfold, F32, BF16, 0, EXACT, 1, 5, 40),

    CASE(draw_normal, F32, F32, 0, EXACT, 3, 1025),
    CASE(draw_normal, F32, F32, 0, EXACT, 7, 1),
    CASE(drop_labels, F32, F32, 0, EXACT, 100),
    CASE(drop_labels, F32, F32, PLAIN, EXACT, 5),
    CASE(path_coefficients, F32, F32, 0, TOL_APPROX, 17, D2C_PATH_LINEAR),
    CASE(path_coefficients, F32, F32, 0, TOL_APPROX, 17, D2C_PATH_GVP),
    CASE(path_coefficients, F32, F32, 0, TOL_APPROX, 17, D2C_PATH_VP),
    CASE(diffuse, F32, F32, 0, TOL_F32, 3, 785),
    CASE(diffuse, F32, F32, PLAIN, TOL_F32, 1, 33),
    CASE(mse_loss, F32, F32, 0, TOL_F32, 3, 785),
    CASE(mse_loss, F32, F32, PLAIN, TOL_F32, 1, 33),
    CASE(dit_loss, F32, F32, 0, TOL_APPROX, 4, 784),
    CASE(dit_loss, F32, F32, 0, TOL_APPROX, 7, 33),
    CASE(dit_loss, F32, F32, PLAIN, TOL_APPROX, 3, 1500),
    CASE(cosine_loss, F32, F32, 0, TOL_F32, 2, 17, 72),
    CASE(cosine_loss, F32, F16, 0, TOL_F32, 1, 49, 40),
    CASE(cosine_loss, BF16, BF16, 0, TOL_BF16, 3, 1, 33),
    CASE(cosine_loss, F32, F16, PLAIN, TOL_F32, 1, 5, 40),
    CASE(finish_loss, F32, F32, 0, TOL_F32, 129),
    CASE(finish_loss, F32, F32, 0, TOL_F32, 1),
    CASE(gradient_norm, F32, F32, 0, TOL_F32, 10007),
    CASE(gradient_norm, F32, F32, PLAIN, TOL_F32, 1),
    CASE(adamw_step, F32, F32, 0, TOL_F32, 1033),
    CASE(adamw_step, F32, F32, PLAIN, TOL_F32, 7),
    CASE(adamw_step, F32, F32, COUPLED, TOL_F32, 1033),
};

#endif
