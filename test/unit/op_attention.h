/* op_attention.h: the attention ops of the op table (op_cases.h): d = B, T, C, heads. */
#ifndef D2C_TEST_OP_ATTENTION_H
#define D2C_TEST_OP_ATTENTION_H

#include "op_case.h"

/* A mask over keys that hides about a third of them, the first never. */
static int
hidden_key(const op_fixture *f, int64_t i, int64_t tokens)
{
    return i % tokens > 0 && op_normal(f->seed, 77, i) > 0.4;
}

/* The view as one of b images; a single one stands for all. */
static d2c_tensor
broadcast_images(d2c_tensor t, int64_t b)
{
    t.stride[0] = t.dim[0] == b ? t.stride[0] : 0;
    t.dim[0] = b;
    return t;
}

/* A full bias of every image or of all, or a mask: over keys, or causal. */
static d2c_tensor
make_attention_bias(op_fixture *f, const op_case *c)
{
    int64_t b = c->d[0], t = c->d[1], count = has(c, CAUSAL) ? t * t : b * t;
    d2c_tensor view = d2c_tensor4(OP_VIEW, D2C_F32, b, c->d[3], t, t);
    op_buffer *mask;

    if (has(c, NO_BIAS))
        return d2c_absent();
    view.dim[0] = has(c, SHARED) ? 1 : b;
    if (!has(c, BROADCAST | CAUSAL))
        return broadcast_images(op_input(f, "bias", view), b);
    view.stride[0] = has(c, CAUSAL) ? 0 : t;
    view.stride[1] = 0;
    view.stride[2] = has(c, CAUSAL) ? t : 0;
    mask = op_add_buffer(f, "bias", OP_INPUT, view);
    for (int64_t i = 0; i < count; i++)
        op_store(mask->start + OP_GUARD, D2C_F32, i,
                 (has(c, CAUSAL) ? i % t > i / t : hidden_key(f, i, t)) ? -1e9 : 0);
    return op_upload(f, mask);
}

static float
attention_scale(const op_case *c)
{
    return (has(c, LARGE) ? 50 : 1) / sqrtf((float)(c->d[2] / c->d[3]));
}

static d2c_status
run_attention_forward(op_fixture *f, const op_case *c)
{
    d2c_tensor qkv = op_input(f, "qkv", d2c_tensor3(OP_VIEW, c->in, c->d[0], c->d[1], 3 * c->d[2]));
    d2c_tensor bias = make_attention_bias(f, c), lse = d2c_absent();
    d2c_tensor o = op_output(f, "o", OP_SET, tokens_of(c->in, c));

    if (!has(c, PLAIN))
        lse = op_output(f, "lse", OP_SET, d2c_tensor3(OP_VIEW, D2C_F32, c->d[0], c->d[3], c->d[1]));
    return d2c_attention_forward(f->be, o, lse, qkv, bias, (int)c->d[3], attention_scale(c));
}

/* o and lse are the oracle's. */
static d2c_status
run_attention_backward(op_fixture *f, const op_case *c)
{
    d2c_tensor qkv = op_input(f, "qkv", d2c_tensor3(OP_VIEW, c->in, c->d[0], c->d[1], 3 * c->d[2]));
    d2c_tensor bias = make_attention_bias(f, c);
    d2c_tensor dout = op_input(f, "dout", tokens_of(c->in, c));
    op_buffer *o = op_add_buffer(f, "o", OP_INPUT, tokens_of(c->in, c));
    op_buffer *lse =
        op_add_buffer(f, "lse", OP_INPUT, d2c_tensor3(OP_VIEW, D2C_F32, c->d[0], c->d[3], c->d[1]));
    d2c_tensor dqkv;

    D2C_TRY(d2c_attention_forward(f->oracle, op_on_host(f, o->view), op_on_host(f, lse->view),
                                  op_on_host(f, qkv), op_on_host(f, bias), (int)c->d[3], attention_scale(c)));
    op_upload(f, o);
    op_upload(f, lse);
    dqkv = op_output(f, "dqkv", OP_SET, d2c_tensor3(OP_VIEW, c->in, c->d[0], c->d[1], 3 * c->d[2]));
    return d2c_attention_backward(f->be, dqkv, dout, o->view, lse->view, qkv, bias, (int)c->d[3],
                                  attention_scale(c));
}

#endif
