/*
 * test_ops_gradient.c: every backward op of the reference against central differences of its forward op, in double.
 *
 * The reference's table is called directly, with every tensor in f64, which ops.c does not let through otherwise.  The
 * loss is the sum of the outputs times random cotangents, never a plain sum, which would hide permutations.  With steps
 * of 1e-4 the differences err by about 1e-8 (the square of the step times the third derivative, and 1e-16 over the
 * step in rounding): the gradients must agree to 1e-6 of their RMS.
 */
#include <stdlib.h>

#include "base/philox.h"
#include "check.h"
#include "ops/ops.h"

#define STEP 1e-4
#define AGREEMENT 1e-6
#define MAX_TENSORS 8
#define MAX_ELEMENTS 1024

/* A function from inputs to outputs.  Gradients of the inputs start from noise where the op adds to them. */
typedef struct problem {
    d2c_tensor in[MAX_TENSORS];
    d2c_tensor grad[MAX_TENSORS]; /* absent: the input has none */
    int added[MAX_TENSORS];       /* the op adds to this gradient */
    d2c_tensor out[MAX_TENSORS];
    d2c_tensor cotangent[MAX_TENSORS];
    d2c_tensor kept[MAX_TENSORS]; /* what forward leaves for backward: statistics and the like */
    d2c_status (*forward)(const struct problem *p);
    d2c_status (*backward)(const struct problem *p);
    d2c_act act;
    int64_t index[16];
    int draws; /* how many tensors have been drawn */
} problem;

static d2c_backend *be;
static double memory[96 * MAX_ELEMENTS];
static size_t memory_used;

/* A tensor of normals in double; the strides of `shape` are kept, gaps included. */
static d2c_tensor
draw(problem *p, d2c_tensor shape, double spread, double centre)
{
    int64_t span = shape.dim[0] * shape.stride[0];
    double *data = memory + memory_used;
    float four[4];

    if (span > MAX_ELEMENTS || memory_used + (size_t)span > sizeof memory / sizeof *memory)
        abort();
    memory_used += (size_t)span;
    p->draws++;
    for (int64_t i = 0; i < span; i++) {
        if (i % 4 == 0)
            d2c_philox_normal4(four, d2c_philox(12, (uint32_t)(i / 4), (uint64_t)p->draws, D2C_PURPOSE_TEST));
        data[i] = centre + spread * four[i % 4];
    }
    shape.data = data;
    shape.dtype = D2C_F64;
    return shape;
}

/* Shapes without memory. */
static d2c_tensor
shape1(int64_t a)
{
    return d2c_tensor1(NULL, D2C_F64, a);
}

static d2c_tensor
shape2(int64_t a, int64_t b)
{
    return d2c_tensor2(NULL, D2C_F64, a, b);
}

static d2c_tensor
shape3(int64_t a, int64_t b, int64_t c)
{
    return d2c_tensor3(NULL, D2C_F64, a, b, c);
}

static void
add_input(problem *p, int i, d2c_tensor shape, double centre, int added)
{
    p->in[i] = draw(p, shape, 1, centre);
    p->grad[i] = draw(p, shape, 1, 0);
    p->added[i] = added;
}

static void
add_output(problem *p, int i, d2c_tensor shape)
{
    p->out[i] = draw(p, shape, 1, 0);
    p->cotangent[i] = draw(p, shape, 1, 0);
}

static double *
element(d2c_tensor t, int64_t n)
{
    int64_t position = 0;

    for (int i = t.ndim - 1; i >= 0; i--) {
        position += n % t.dim[i] * t.stride[i];
        n /= t.dim[i];
    }
    return (double *)t.data + position;
}

static double
loss_of(const problem *p)
{
    double loss = 0;

    CHECK(p->forward(p) == D2C_OK);
    for (int k = 0; k < MAX_TENSORS && p->out[k].data != NULL; k++)
        for (int64_t n = 0; n < d2c_tensor_count(p->out[k]); n++)
            loss += *element(p->out[k], n) * *element(p->cotangent[k], n);
    return loss;
}

static double
difference(const problem *p, double *x)
{
    double old = *x, above, below;

    *x = old + STEP;
    above = loss_of(p);
    *x = old - STEP;
    below = loss_of(p);
    *x = old;
    return (above - below) / (2 * STEP);
}

/* Compares the gradient of input i, whose values before the backward pass are in `start`. */
static void
check_input(const problem *p, int i, const double *start)
{
    int64_t count = d2c_tensor_count(p->grad[i]);
    double power = 0, largest = 0;

    for (int64_t n = 0; n < count; n++) {
        double wanted = difference(p, element(p->in[i], n));
        double got = *element(p->grad[i], n) - (p->added[i] ? start[n] : 0);

        power += wanted * wanted;
        largest = fmax(largest, fabs(wanted - got));
    }
    CHECK(power > 0);
    if (!(largest <= AGREEMENT * sqrt(power / (double)count))) {
        fprintf(stderr, "gradient of input %d is off by %g of its RMS\n", i,
                largest / sqrt(power / (double)count));
        check_current++;
    }
}

static void
check_gradients(const problem *p)
{
    static double start[MAX_TENSORS][MAX_ELEMENTS];

    for (int i = 0; i < MAX_TENSORS && p->grad[i].data != NULL; i++)
        for (int64_t n = 0; n < d2c_tensor_count(p->grad[i]); n++)
            start[i][n] = *element(p->grad[i], n);
    CHECK(p->forward(p) == D2C_OK);
    CHECK(p->backward(p) == D2C_OK);
    for (int i = 0; i < MAX_TENSORS && p->grad[i].data != NULL; i++)
        check_input(p, i, start[i]);
    memory_used = 0;
}

/* ---- linear layers: y = act(x W^T + b), z = y V^T --------------------------------------------------------------- */

enum { X, W, B, V };

static d2c_status
two_layers_forward(const problem *p)
{
    d2c_weight w = {.value = p->in[W], .bias = p->in[B]}, v = {.value = p->in[V]};
    d2c_tensor y = p->kept[0], pre = p->act != D2C_ACT_NONE ? p->kept[1] : d2c_absent();

    D2C_TRY(be->ops->linear_forward(be, y, pre, p->in[X], &w, p->act));
    return be->ops->linear_forward(be, p->out[0], d2c_absent(), y, &v, D2C_ACT_NONE);
}

/* dx is added to, as the gradient of a stream that other layers use as well. */
static d2c_status
two_layers_backward(const problem *p)
{
    d2c_weight w = {.value = p->in[W], .grad = p->grad[W], .bias_grad = p->grad[B]};
    d2c_weight v = {.value = p->in[V], .grad = p->grad[V]};
    d2c_tensor dpre = p->kept[2], pre = p->act != D2C_ACT_NONE ? p->kept[1] : d2c_absent();

    D2C_TRY(be->ops->linear_backward_weight(be, &v, p->cotangent[0], p->kept[0]));
    D2C_TRY(be->ops->linear_backward_input(be, dpre, p->cotangent[0], &v, pre, p->act, 0));
    D2C_TRY(be->ops->linear_backward_weight(be, &w, dpre, p->in[X]));
    return be->ops->linear_backward_input(be, p->grad[X], dpre, &w, d2c_absent(), D2C_ACT_NONE, 1);
}

static void
check_linear(d2c_act act)
{
    problem p = {.forward = two_layers_forward, .backward = two_layers_backward, .act = act};

    add_input(&p, X, shape2(3, 5), 0, 1);
    add_input(&p, W, shape2(4, 5), 0, 1);
    add_input(&p, B, shape1(4), 0, 1);
    add_input(&p, V, shape2(6, 4), 0, 1);
    for (int i = 0; i < 3; i++)
        p.kept[i] = draw(&p, shape2(3, 4), 1, 0);
    add_output(&p, 0, shape2(3, 6));
    check_gradients(&p);
}

static void
test_linear(void)
{
    check_linear(D2C_ACT_NONE);
    check_linear(D2C_ACT_SILU);
    check_linear(D2C_ACT_GELU_TANH);
    check_linear(D2C_ACT_GELU_ERF);
    check_linear(D2C_ACT_RELU);
}

/* ---- attention ---------------------------------------------------------------------------------------------------- */

#define HEADS 2
#define SCALE 0.625f

static d2c_status
attention_forward(const problem *p)
{
    return be->ops->attention_forward(be, p->out[0], p->kept[0], p->in[0], p->kept[1], HEADS, SCALE);
}

static d2c_status
attention_backward(const problem *p)
{
    return be->ops->attention_backward(be, p->grad[0], p->cotangent[0], p->out[0], p->kept[0], p->in[0],
                                       p->kept[1], HEADS, SCALE);
}

static void
check_attention(d2c_tensor bias_shape)
{
    problem p = {.forward = attention_forward, .backward = attention_backward};

    add_input(&p, 0, shape3(2, 5, 3 * 6), 0, 0);
    add_output(&p, 0, shape3(2, 5, 6));
    p.kept[0] = draw(&p, shape3(2, HEADS, 5), 1, 0);
    if (bias_shape.ndim > 0)
        p.kept[1] = draw(&p, bias_shape, 1, 0);
    check_gradients(&p);
}

static void
test_attention(void)
{
    d2c_tensor broadcast = d2c_tensor4(NULL, D2C_F64, 2, HEADS, 5, 5);

    check_attention(d2c_absent());
    check_attention(broadcast);
    broadcast.stride[0] = 5;
    broadcast.stride[1] = broadcast.stride[2] = 0;
    check_attention(broadcast);
}

/* ---- norms and gates ---------------------------------------------------------------------------------------------- */

static d2c_status
modulate_forward(const problem *p)
{
    return be->ops->modulate_forward(be, p->out[0], p->kept[0], p->in[0], p->in[1], p->in[2], 1e-6f);
}

static d2c_status
modulate_backward(const problem *p)
{
    return be->ops->modulate_backward(be, p->grad[0], p->grad[1], p->grad[2], p->cotangent[0], p->in[0],
                                      p->kept[0], p->in[2]);
}

static void
test_modulate(void)
{
    problem p = {.forward = modulate_forward, .backward = modulate_backward};

    add_input(&p, 0, shape3(2, 3, 7), 0.5, 1);
    add_input(&p, 1, d2c_rows(NULL, D2C_F64, 2, 7, 11), 0, 0);
    add_input(&p, 2, d2c_rows(NULL, D2C_F64, 2, 7, 13), 0, 0);
    p.kept[0] = draw(&p, shape3(2, 3, 2), 1, 0);
    add_output(&p, 0, shape3(2, 3, 7));
    check_gradients(&p);
}

/* out = x + gate * y: x is copied first, since the op changes it. */
static d2c_status
gate_forward(const problem *p)
{
    memcpy(p->out[0].data, p->in[2].data, (size_t)d2c_tensor_count(p->in[2]) * sizeof(double));
    return be->ops->gate_residual_forward(be, p->out[0], p->in[0], p->in[1]);
}

static d2c_status
gate_backward(const problem *p)
{
    return be->ops->gate_residual_backward(be, p->grad[0], p->grad[1], p->cotangent[0], p->in[0], p->in[1]);
}

static void
test_gate_residual(void)
{
    problem p = {.forward = gate_forward, .backward = gate_backward};

    add_input(&p, 0, shape3(2, 3, 7), 0, 0);
    add_input(&p, 1, d2c_rows(NULL, D2C_F64, 2, 7, 12), 0, 0);
    p.in[2] = draw(&p, shape3(2, 3, 7), 1, 0);
    add_output(&p, 0, shape3(2, 3, 7));
    check_gradients(&p);
}

static d2c_status
layernorm_forward(const problem *p)
{
    return be->ops->layernorm_forward(be, p->out[0], p->kept[0], p->in[0], p->in[1], p->in[2], 1e-6f);
}

static d2c_status
layernorm_backward(const problem *p)
{
    return be->ops->layernorm_backward(be, p->grad[0], p->grad[1], p->grad[2], p->cotangent[0], p->in[0],
                                       p->kept[0], p->in[1]);
}

static void
check_layernorm(int affine)
{
    problem p = {.forward = layernorm_forward, .backward = layernorm_backward};

    add_input(&p, 0, shape2(4, 7), 0.5, 0);
    if (affine) {
        add_input(&p, 1, shape1(7), 1, 1);
        add_input(&p, 2, shape1(7), 0, 1);
    }
    p.kept[0] = draw(&p, shape2(4, 2), 1, 0);
    add_output(&p, 0, shape2(4, 7));
    check_gradients(&p);
}

static void
test_layernorm(void)
{
    check_layernorm(1);
    check_layernorm(0);
}

/* ---- activations -------------------------------------------------------------------------------------------------- */

static d2c_status
act_forward(const problem *p)
{
    return be->ops->act_forward(be, p->out[0], p->in[0], p->act);
}

static d2c_status
act_backward(const problem *p)
{
    return be->ops->act_backward(be, p->grad[0], p->cotangent[0], p->in[0], p->act);
}

static void
test_act(void)
{
    for (int act = D2C_ACT_NONE; act <= D2C_ACT_GELU_QUICK; act++) {
        problem p = {.forward = act_forward, .backward = act_backward, .act = (d2c_act)act};

        add_input(&p, 0, shape1(64), 0, 0);
        add_output(&p, 0, shape1(64));
        for (int64_t n = 0; n < 64; n++) /* a difference across ReLU's kink is no derivative */
            CHECK(fabs(*element(p.in[0], n)) > 10 * STEP);
        check_gradients(&p);
    }
}

/* ---- tables and layout: linear, so the backward op is the adjoint --------------------------------------------------- */

static d2c_status
gather_forward(const problem *p)
{
    return be->ops->gather(be, p->out[0], p->in[0], d2c_tensor1((void *)p->index, D2C_I64, 6));
}

static d2c_status
gather_backward(const problem *p)
{
    return be->ops->scatter_add(be, p->grad[0], p->cotangent[0], d2c_tensor1((void *)p->index, D2C_I64, 6));
}

static void
test_gather(void)
{
    problem p = {.forward = gather_forward, .backward = gather_backward, .index = {4, 0, 2, 4, 4, 1}};

    add_input(&p, 0, shape2(5, 3), 0, 1);
    add_output(&p, 0, shape2(6, 3));
    check_gradients(&p);
}

static d2c_status
patchify_forward(const problem *p)
{
    return be->ops->patchify(be, p->out[0], p->in[0], 2, (d2c_patch_order)p->index[0]);
}

static d2c_status
patchify_backward(const problem *p)
{
    return be->ops->unpatchify(be, p->grad[0], p->cotangent[0], 2, (d2c_patch_order)p->index[0]);
}

static d2c_status
unpatchify_forward(const problem *p)
{
    return be->ops->unpatchify(be, p->out[0], p->in[0], 2, (d2c_patch_order)p->index[0]);
}

static d2c_status
unpatchify_backward(const problem *p)
{
    return be->ops->patchify(be, p->grad[0], p->cotangent[0], 2, (d2c_patch_order)p->index[0]);
}

/* Tokens of 5 channels for pictures of 3: the two others get nothing and give nothing. */
static void
test_patches(void)
{
    d2c_tensor picture = d2c_tensor4(NULL, D2C_F64, 2, 3, 4, 6), tokens = shape3(2, 6, 2 * 2 * 5);

    for (int order = D2C_PATCH_CHANNEL_FIRST; order <= D2C_PATCH_CHANNEL_LAST; order++) {
        problem to = {.forward = patchify_forward, .backward = patchify_backward, .index = {order}};
        problem from = {.forward = unpatchify_forward, .backward = unpatchify_backward, .index = {order}};

        add_input(&to, 0, picture, 0, 0);
        add_output(&to, 0, tokens);
        check_gradients(&to);
        add_input(&from, 0, tokens, 0, 0);
        add_output(&from, 0, picture);
        check_gradients(&from);
    }
}

/* ---- losses: the cotangent of every sample's loss is loss_scale, as the op's contract says ------------------------------ */

static const d2c_step_record record = {.loss_scale = 0.37f};

static void
add_loss(problem *p, int64_t batch)
{
    add_output(p, 0, shape1(batch));
    for (int64_t b = 0; b < batch; b++)
        *element(p->cotangent[0], b) = record.loss_scale;
}

static d2c_status
mse_forward(const problem *p)
{
    return be->ops->mse_loss(be, p->out[0], d2c_absent(), p->in[0], p->kept[0], NULL);
}

static d2c_status
mse_backward(const problem *p)
{
    return be->ops->mse_loss(be, p->out[0], p->grad[0], p->in[0], p->kept[0], &record);
}

static void
test_mse_loss(void)
{
    problem p = {.forward = mse_forward, .backward = mse_backward};

    add_input(&p, 0, shape2(3, 11), 0, 0);
    p.kept[0] = draw(&p, shape2(3, 11), 1, 0);
    add_loss(&p, 3);
    check_gradients(&p);
}

/* The bound has a gradient by the fraction alone, which public codes have by detaching the noise: one half of v is the input,
 * the other one is kept.  The error's gradient is checked where the bound does not depend on it. */
static void
fill_half(const problem *p)
{
    for (int64_t b = 0; b < 3; b++)
        for (int64_t i = 0; i < 11; i++)
            *element(p->kept[3], b * 22 + 11 * p->act + i) = *element(p->in[0], b * 11 + i);
}

static d2c_status
dit_forward(const problem *p)
{
    fill_half(p);
    return be->ops->dit_loss(be, p->out[0], d2c_absent(), p->kept[3], p->kept[0], p->kept[1], p->kept[2],
                             NULL);
}

static d2c_status
dit_backward(const problem *p)
{
    fill_half(p);
    D2C_TRY(be->ops->dit_loss(be, p->out[0], p->kept[4], p->kept[3], p->kept[0], p->kept[1], p->kept[2],
                              &record));
    for (int64_t b = 0; b < 3; b++)
        for (int64_t i = 0; i < 11; i++)
            *element(p->grad[0], b * 11 + i) = *element(p->kept[4], b * 22 + 11 * p->act + i);
    return D2C_OK;
}

static void
test_dit_loss(void)
{
    static const double bound[3][4] = {{0.4, -2, -0.9, 0}, {0.008, -9.9, -9.1, 0}, {0.01, -4, -3, 1}};

    for (int half = 0; half < 2; half++) {
        problem p = {.forward = dit_forward, .backward = dit_backward, .act = (d2c_act)half};

        add_input(&p, 0, shape2(3, 11), 0, 0);
        p.kept[0] = draw(&p, shape2(3, 11), 1, 0);
        p.kept[1] = draw(&p, shape2(3, 11), 1, 0);
        p.kept[2] = draw(&p, shape2(3, 4), 1, 0);
        for (int i = 0; i < 12; i++)
            *element(p.kept[2], i) = i % 4 == 0 && half == 0 ? 0 : bound[i / 4][i % 4];
        p.kept[3] = draw(&p, shape2(3, 22), 1, 0);
        p.kept[4] = draw(&p, shape2(3, 22), 1, 0);
        add_loss(&p, 3);
        check_gradients(&p);
    }
}

static d2c_status
cosine_forward(const problem *p)
{
    return be->ops->cosine_loss(be, p->out[0], d2c_absent(), p->in[0], p->kept[0], 0.7f, NULL);
}

static d2c_status
cosine_backward(const problem *p)
{
    return be->ops->cosine_loss(be, p->out[0], p->grad[0], p->in[0], p->kept[0], 0.7f, &record);
}

static void
test_cosine_loss(void)
{
    problem p = {.forward = cosine_forward, .backward = cosine_backward};

    add_input(&p, 0, shape3(2, 4, 5), 0, 0);
    p.kept[0] = draw(&p, shape3(2, 4, 5), 1, 0);
    add_loss(&p, 2);
    check_gradients(&p);
}

int
main(void)
{
    d2c_error err;

    if (d2c_backend_open(&be, "reference", 1, &err) != D2C_OK)
        return 1;
    RUN(test_linear);
    RUN(test_attention);
    RUN(test_modulate);
    RUN(test_gate_residual);
    RUN(test_layernorm);
    RUN(test_act);
    RUN(test_gather);
    RUN(test_patches);
    RUN(test_mse_loss);
    RUN(test_dit_loss);
    RUN(test_cosine_loss);
    d2c_backend_close(be);
    return check_report();
}
