/*
 * sit_backward.c: the backward pass, in reverse order of sit_forward.c.
 *
 * dx is the residual stream's gradient, added to by every norm; what is cheap is computed again: both norms and the
 * second residual stream; and of every block but the last, whose activations still stand, what the pass did not keep.  Each column of the adaLN product's gradient is set by exactly one op.
 */
#include <math.h>

#include "nn/sit_layers.h"

/* Scratch of the blocks, shared by all. */
typedef struct scratch {
    d2c_tensor dx;       /* [B, T, D] f32 */
    d2c_tensor dvectors; /* [B, (6L + 2) D] f32 */
    d2c_tensor dy;       /* [B, T, D] f32/bf16: gradient of a branch's output, then of its input */
    d2c_tensor dwide;    /* [B, T, 4D] f32/bf16: gradient of GELU's input, or of qkv */
    d2c_tensor h;        /* [B, T, D] f32/bf16: a norm, computed again */
    d2c_tensor stat;     /* [B, T, 2] f32 */
    d2c_tensor x2;       /* [B, T, D] f32: the residual stream between attention and MLP */
} scratch;

static void
take_scratch(scratch *s, const sit_run *run)
{
    d2c_dtype dtype = run->sit->precision;
    int64_t B = run->batch, T = run->tokens, D = run->sit->config.hidden;

    s->dx = sit_take3(run, D2C_F32, B, T, D);
    s->dvectors = sit_take2(run, D2C_F32, B, ((int64_t)SIT_VECTORS * run->sit->config.depth + 2) * D);
    s->dy = sit_take3(run, dtype, B, T, D);
    s->dwide = sit_take3(run, dtype, B, T, 4 * D);
    s->h = sit_take3(run, dtype, B, T, D);
    s->stat = sit_take3(run, D2C_F32, B, T, 2);
    s->x2 = sit_take3(run, D2C_F32, B, T, D);
}

/* dx is set, from dv through the final layer. */
static d2c_status
final_backward(const scratch *s, const d2c_sit_pass *pass, const sit_run *run, d2c_tensor dv)
{
    const d2c_sit_config *c = &run->sit->config;
    int64_t v = (int64_t)SIT_VECTORS * c->depth;
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor dy = sit_take3(run, run->sit->precision, run->batch, run->tokens,
                              (int64_t)c->patch * c->patch * c->out_channels);
    d2c_tensor scale = sit_vector(run, pass->vectors, v + SIT_SCALE1);

    SIT_OP(run, d2c_patchify(run->be, dy, dv, c->patch, D2C_PATCH_CHANNEL_LAST));
    SIT_OP(run, d2c_modulate_forward(run->be, s->h, s->stat, pass->last,
                                     sit_vector(run, pass->vectors, v + SIT_SHIFT1), scale, SIT_EPS));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &run->layers->final, sit_flat(dy), sit_flat(s->h)));
    SIT_OP(run, d2c_linear_backward_input(run->be, sit_flat(s->dy), sit_flat(dy), &run->layers->final,
                                          d2c_absent(), D2C_ACT_NONE, 0));
    SIT_OP(run, d2c_zero(run->be, s->dx.data, (size_t)d2c_tensor_count(s->dx) * sizeof(float)));
    SIT_OP(run, d2c_modulate_backward(run->be, s->dx, sit_vector(run, s->dvectors, v + SIT_SHIFT1),
                                      sit_vector(run, s->dvectors, v + SIT_SCALE1), s->dy, pass->last,
                                      s->stat, scale));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

static d2c_status
mlp_backward(const scratch *s, const sit_saved *a, const d2c_sit_pass *pass, const sit_run *run, int block)
{
    const sit_block *w = &run->layers->block[block];
    int64_t v = (int64_t)SIT_VECTORS * block;
    d2c_tensor scale = sit_vector(run, pass->vectors, v + SIT_SCALE2);

    SIT_OP(run, d2c_gate_residual_backward(run->be, s->dy, sit_vector(run, s->dvectors, v + SIT_GATE2), s->dx,
                                           a->y2, sit_vector(run, pass->vectors, v + SIT_GATE2)));
    SIT_OP(run, d2c_act_forward(run->be, a->f, a->pre, D2C_ACT_GELU_TANH));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->fc2, sit_flat(s->dy), sit_flat(a->f)));
    SIT_OP(run, d2c_linear_backward_input(run->be, sit_flat(s->dwide), sit_flat(s->dy), &w->fc2,
                                          sit_flat(a->pre), D2C_ACT_GELU_TANH, 0));
    SIT_OP(run, d2c_gate_modulate_forward(run->be, s->x2, s->h, s->stat, a->x, a->y1,
                                          sit_vector(run, pass->vectors, v + SIT_GATE1),
                                          sit_vector(run, pass->vectors, v + SIT_SHIFT2), scale, SIT_EPS));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->fc1, sit_flat(s->dwide), sit_flat(s->h)));
    SIT_OP(run, d2c_linear_backward_input(run->be, sit_flat(s->dy), sit_flat(s->dwide), &w->fc1, d2c_absent(),
                                          D2C_ACT_NONE, 0));
    SIT_OP(run,
           d2c_modulate_backward(run->be, s->dx, sit_vector(run, s->dvectors, v + SIT_SHIFT2),
                                 sit_vector(run, s->dvectors, v + SIT_SCALE2), s->dy, s->x2, s->stat, scale));
    return D2C_OK;
}

static d2c_status
attention_backward(const scratch *s, const sit_saved *a, const d2c_sit_pass *pass, const sit_run *run,
                   int block)
{
    const d2c_sit_config *c = &run->sit->config;
    const sit_block *w = &run->layers->block[block];
    int64_t v = (int64_t)SIT_VECTORS * block;
    float softmax_scale = 1.0f / sqrtf((float)(c->hidden / c->heads));
    d2c_tensor scale = sit_vector(run, pass->vectors, v + SIT_SCALE1);
    d2c_tensor dqkv =
        d2c_tensor3(s->dwide.data, s->dwide.dtype, run->batch, run->tokens, 3 * (int64_t)c->hidden);

    SIT_OP(run, d2c_gate_residual_backward(run->be, s->dy, sit_vector(run, s->dvectors, v + SIT_GATE1), s->dx,
                                           a->y1, sit_vector(run, pass->vectors, v + SIT_GATE1)));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->proj, sit_flat(s->dy), sit_flat(a->o)));
    SIT_OP(run, d2c_linear_backward_input(run->be, sit_flat(s->h), sit_flat(s->dy), &w->proj, d2c_absent(),
                                          D2C_ACT_NONE, 0));
    SIT_OP(run, d2c_attention_backward(run->be, dqkv, s->h, a->o, a->lse, a->qkv, d2c_absent(), c->heads,
                                       softmax_scale));
    if (c->qk_norm)
        D2C_TRY(head_norms_backward(dqkv, a->raw, w, run));
    SIT_OP(run, d2c_modulate_forward(run->be, s->h, s->stat, a->x,
                                     sit_vector(run, pass->vectors, v + SIT_SHIFT1), scale, SIT_EPS));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->qkv, sit_flat(dqkv), sit_flat(s->h)));
    SIT_OP(run, d2c_linear_backward_input(run->be, sit_flat(s->dy), sit_flat(dqkv), &w->qkv, d2c_absent(),
                                          D2C_ACT_NONE, 0));
    SIT_OP(run,
           d2c_modulate_backward(run->be, s->dx, sit_vector(run, s->dvectors, v + SIT_SHIFT1),
                                 sit_vector(run, s->dvectors, v + SIT_SCALE1), s->dy, a->x, s->stat, scale));
    return D2C_OK;
}

/* Label and text: both were added to the condition; dc [B, D]. */
static d2c_status
label_backward(const d2c_sit_pass *pass, const sit_run *run, d2c_tensor dc)
{
    const d2c_sit_input *in = &pass->in;
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor dtext;

    SIT_OP(run, d2c_scatter_add(run->be, run->layers->table_grad, dc, in->label));
    if (run->sit->config.text_tokens == 0)
        return D2C_OK;
    dtext = sit_take2(run, D2C_F32, in->text.dim[0], dc.dim[1]);
    SIT_OP(run, d2c_zero(run->be, dtext.data, (size_t)d2c_tensor_count(dtext) * sizeof(float)));
    SIT_OP(run, d2c_scatter_add(run->be, dtext, dc, in->text_index));
    D2C_TRY(dc_backward(run, &run->layers->text, &pass->text, dtext));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

static d2c_status
condition_backward(const scratch *s, const d2c_sit_pass *pass, const sit_run *run)
{
    const sit_layers *w = run->layers;
    size_t mark = d2c_arena_mark(run->arena);
    int64_t D = run->sit->config.hidden;
    d2c_tensor operand = sit_take2(run, run->sit->precision, run->batch, D);
    d2c_tensor dc = sit_take2(run, D2C_F32, run->batch, D);
    d2c_tensor act = sit_take2(run, D2C_F32, run->batch, D);
    d2c_tensor dpre = sit_take2(run, D2C_F32, run->batch, D);
    d2c_tensor dvectors;

    D2C_TRY(sit_operand(&dvectors, run, s->dvectors));
    SIT_OP(run, d2c_act_forward(run->be, operand, pass->c, D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->adaln, dvectors, operand));
    SIT_OP(run, d2c_linear_backward_input(run->be, dc, dvectors, &w->adaln, pass->c, D2C_ACT_SILU, 0));
    D2C_TRY(label_backward(pass, run, dc));
    SIT_OP(run, d2c_act_forward(run->be, act, pass->time_pre, D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->time2, dc, act));
    SIT_OP(run, d2c_linear_backward_input(run->be, dpre, dc, &w->time2, pass->time_pre, D2C_ACT_SILU, 0));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->time1, dpre, pass->frequencies));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

/* The residual stream after `block` blocks. */
static d2c_tensor
stream_after(const d2c_sit_pass *pass, const sit_run *run, int block)
{
    return block < run->sit->config.depth ? pass->block[block].x : pass->last;
}

static d2c_status
backward(const d2c_sit_pass *pass, const sit_run *run, d2c_tensor dv, d2c_tensor dprojected)
{
    int tap = dprojected.data != NULL ? run->sit->config.proj_block : 0;
    scratch s;
    int block;

    take_scratch(&s, run);
    D2C_TRY(final_backward(&s, pass, run, dv));
    for (block = run->sit->config.depth - 1; block >= 0; block--) {
        if (block + 1 == tap)
            D2C_TRY(
                projector_backward(s.dx, run, &pass->projector, stream_after(pass, run, tap), dprojected));
        if (block + 1 < run->sit->config.depth)
            D2C_TRY(sit_block_again(s.h, s.stat, s.x2, &pass->block[block], pass, run, block));
        D2C_TRY(mlp_backward(&s, &pass->block[block], pass, run, block));
        D2C_TRY(attention_backward(&s, &pass->block[block], pass, run, block));
    }
    SIT_OP(run,
           d2c_linear_backward_weight(run->be, &run->layers->patch, sit_flat(s.dx), sit_flat(pass->patches)));
    return condition_backward(&s, pass, run);
}

d2c_status
d2c_sit_backward(d2c_sit *sit, d2c_backend *be, d2c_arena *arena, d2c_sit_pass *pass, d2c_tensor dv,
                 d2c_tensor dprojected, d2c_error *err)
{
    sit_run run = {sit, sit->layers, be, arena, err, 0, d2c_sit_tokens(&sit->config)};
    size_t mark = d2c_arena_mark(arena);

    if (pass == NULL || !pass->training || (dprojected.data != NULL && !pass->projected))
        return d2c_fail(err, D2C_INTERNAL, "backward needs the forward pass of a training step");
    run.batch = pass->in.batch;
    D2C_TRY(backward(pass, &run, dv, dprojected));
    d2c_arena_release(arena, mark);
    return d2c_arena_check(arena, err);
}

/* ---- planning -------------------------------------------------------------------------------------------------- */

/* Shapes without memory: a planning arena never looks at the data, but absent tensors are told by NULL. */
static d2c_tensor
stand_in(int64_t d0, int64_t d1, int64_t d2)
{
    static char nothing;

    return d2c_tensor3(&nothing, D2C_F32, d0, d1, d2);
}

d2c_status
d2c_sit_workspace(size_t *bytes, d2c_sit *sit, int batch, int texts, int training, d2c_error *err)
{
    const d2c_sit_config *c = &sit->config;
    int64_t T = d2c_sit_tokens(c);
    d2c_sit_input in = {.batch = batch};
    d2c_sit_output out = {.v = stand_in(batch, T, 1)};
    d2c_arena plan = {0};
    d2c_sit_pass *pass;

    if (c->text_tokens > 0)
        in.text = stand_in(texts, c->text_tokens, c->text_width);
    if (c->proj_block > 0)
        out.projected = stand_in(batch, T, c->proj_width);
    D2C_TRY(d2c_sit_forward(sit, NULL, &plan, &in, &out, training, &pass, err));
    if (training)
        D2C_TRY(d2c_sit_backward(sit, NULL, &plan, pass, out.v, out.projected, err));
    *bytes = plan.peak;
    return D2C_OK;
}
