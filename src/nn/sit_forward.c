/*
 * sit_forward.c: the forward pass.
 *
 * Seven calls a block: norm, qkv, attention, projection, gate-residual-norm, fc1 with GELU, fc2; the norm of the next
 * block is one call with the residual that closes this one.  A block starts from the norm of its saved input, so it can
 * be run again from that alone.  In training every block has activations of its own, but for those that backward computes
 * again; otherwise all share one set and the residual stream is updated in place.
 */
#include <math.h>
#include <string.h>

#include "nn/sit_layers.h"

/* ---- tensors of a run ---------------------------------------------------------------------------------------- */

static void *
take_bytes(const sit_run *run, d2c_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    size_t bytes = d2c_dtype_size(dtype);

    if (d2c_size_mul(&bytes, bytes, (size_t)d0) != 0 || d2c_size_mul(&bytes, bytes, (size_t)d1) != 0 ||
        d2c_size_mul(&bytes, bytes, (size_t)d2) != 0) {
        run->arena->failed = 1;
        return NULL;
    }
    return d2c_arena_alloc(run->arena, bytes);
}

d2c_tensor
sit_take2(const sit_run *run, d2c_dtype dtype, int64_t d0, int64_t d1)
{
    return d2c_tensor2(take_bytes(run, dtype, d0, d1, 1), dtype, d0, d1);
}

d2c_tensor
sit_take3(const sit_run *run, d2c_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    return d2c_tensor3(take_bytes(run, dtype, d0, d1, d2), dtype, d0, d1, d2);
}

d2c_tensor
sit_flat(d2c_tensor t)
{
    return d2c_tensor2(t.data, t.dtype, t.dim[0] * t.dim[1], t.dim[2]);
}

d2c_tensor
sit_vector(const sit_run *run, d2c_tensor vectors, int64_t from)
{
    int64_t hidden = run->sit->config.hidden;

    return d2c_rows((float *)vectors.data + from * hidden, D2C_F32, run->batch, hidden, vectors.dim[1]);
}

d2c_status
sit_operand(d2c_tensor *out, const sit_run *run, d2c_tensor x)
{
    *out = x;
    if (run->sit->precision == x.dtype)
        return D2C_OK;
    *out = sit_take2(run, run->sit->precision, x.dim[0], x.dim[1]);
    SIT_OP(run, d2c_cast(run->be, *out, x));
    return D2C_OK;
}

/* ---- what a pass keeps ---------------------------------------------------------------------------------------- */

/* Scratch of the blocks, shared by all. */
typedef struct scratch {
    d2c_tensor h;    /* [B, T, D] f32/bf16: the modulated norm */
    d2c_tensor stat; /* [B, T, 2] f32 */
    d2c_tensor x2;   /* [B, T, D] f32: the residual stream between attention and MLP */
    d2c_tensor x8;   /* [B*T, 4D] e4m3: a product's operand, where products take them */
} scratch;

static void
take_conditions(d2c_sit_pass *pass, const sit_run *run)
{
    const d2c_sit_config *c = &run->sit->config;

    pass->patches =
        sit_take3(run, D2C_F32, run->batch, run->tokens, (int64_t)c->patch * c->patch * c->channels);
    pass->frequencies = sit_take2(run, D2C_F32, run->batch, SIT_FREQUENCIES);
    pass->time_pre = sit_take2(run, D2C_F32, run->batch, c->hidden);
    pass->c = sit_take2(run, D2C_F32, run->batch, c->hidden);
    pass->vectors = sit_take2(run, D2C_F32, run->batch, ((int64_t)SIT_VECTORS * c->depth + 2) * c->hidden);
    pass->last = sit_take3(run, D2C_F32, run->batch, run->tokens, c->hidden);
    if (c->text_tokens > 0)
        dc_take(&pass->text, run, pass->in.text.dim[0]);
    if (pass->projected)
        projector_take(&pass->projector, run);
}

static void
take_attention(sit_saved *a, const sit_run *run)
{
    d2c_dtype dtype = run->sit->precision;
    int64_t B = run->batch, T = run->tokens, D = run->sit->config.hidden;

    a->qkv = sit_take3(run, dtype, B, T, 3 * D);
    if (run->sit->config.qk_norm)
        a->raw = sit_take3(run, dtype, B, T, 2 * D);
    a->o = sit_take3(run, dtype, B, T, D);
    a->lse = sit_take3(run, D2C_F32, B, run->sit->config.heads, T);
    a->y1 = sit_take3(run, dtype, B, T, D);
    a->y2 = sit_take3(run, dtype, B, T, D);
}

static d2c_tensor
take_wide(const sit_run *run)
{
    return sit_take3(run, run->sit->precision, run->batch, run->tokens, 4 * run->sit->config.hidden);
}

/* A block's own tensors; of what is computed again those of the first block, which all share. */
static void
take_block(sit_saved *a, const sit_saved *first, const sit_run *run)
{
    d2c_recompute recompute = run->sit->recompute;

    *a = *first;
    a->x = sit_take3(run, D2C_F32, run->batch, run->tokens, run->sit->config.hidden);
    if (a == first || recompute != D2C_RECOMPUTE_BLOCK)
        take_attention(a, run);
    if (a == first || recompute == D2C_RECOMPUTE_NONE)
        a->pre = take_wide(run);
    if (a == first)
        a->f = take_wide(run);
}

static void
take_scratch(scratch *s, const sit_run *run)
{
    d2c_dtype dtype = run->sit->precision;
    int64_t B = run->batch, T = run->tokens, D = run->sit->config.hidden;

    s->h = sit_take3(run, dtype, B, T, D);
    s->stat = sit_take3(run, D2C_F32, B, T, 2);
    if (run->sit->eight) {
        s->x8 = sit_take2(run, D2C_F8, B * T, 4 * D);
        s->x8.scale = sit_take2(run, D2C_F32, 1, 1).data;
    }
}

/* Without backward: one residual stream; qkv lies where GELU's output will, o where the norm was. */
static void
share_block(sit_saved *a, scratch *s, const sit_run *run, d2c_tensor stream)
{
    memset(a, 0, sizeof *a);
    a->x = s->x2 = stream;
    a->f = sit_take3(run, s->h.dtype, run->batch, run->tokens, 4 * s->h.dim[2]);
    a->qkv = d2c_tensor3(a->f.data, a->f.dtype, run->batch, run->tokens, 3 * s->h.dim[2]);
    a->o = s->h;
    a->y1 = a->y2 = sit_take3(run, s->h.dtype, run->batch, run->tokens, s->h.dim[2]);
}

/* ---- the parts ------------------------------------------------------------------------------------------------- */

/* vectors [B, (6L + 2) D]: every layer's shifts, scales and gates. */
static d2c_status
vectors_forward(d2c_tensor vectors, d2c_tensor operand, const sit_run *run)
{
    const sit_layers *w = run->layers;
    int64_t D = run->sit->config.hidden;
    int depth = run->sit->config.depth, i;

    if (w->adaln_apart == NULL) {
        SIT_OP(run, d2c_linear_forward(run->be, vectors, d2c_absent(), operand, &w->adaln, D2C_ACT_NONE));
        return D2C_OK;
    }
    for (i = 0; i <= depth; i++) {
        d2c_tensor part = d2c_rows((float *)vectors.data + i * SIT_VECTORS * D, D2C_F32, run->batch,
                                   (i < depth ? SIT_VECTORS : 2) * D, vectors.dim[1]);

        SIT_OP(run,
               d2c_linear_forward(run->be, part, d2c_absent(), operand, &w->adaln_apart[i], D2C_ACT_NONE));
    }
    return D2C_OK;
}

/* The condition: time, label and text; then every layer's shifts, scales and gates. */
static d2c_status
condition_forward(d2c_sit_pass *pass, const sit_run *run)
{
    const sit_layers *w = run->layers;
    const d2c_sit_input *in = &pass->in;
    size_t mark = d2c_arena_mark(run->arena);
    int64_t D = run->sit->config.hidden;
    d2c_tensor act = sit_take2(run, D2C_F32, run->batch, D);
    d2c_tensor operand = sit_take2(run, run->sit->precision, run->batch, D);
    d2c_tensor text = d2c_absent();

    SIT_OP(run, d2c_timestep_embedding(run->be, pass->frequencies, in->t));
    SIT_OP(run, d2c_linear_forward(run->be, act, pass->time_pre, pass->frequencies, &w->time1, D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_forward(run->be, pass->c, d2c_absent(), act, &w->time2, D2C_ACT_NONE));
    SIT_OP(run, d2c_gather(run->be, act, w->table, in->label));
    SIT_OP(run, d2c_axpby(run->be, pass->c, 1.0f, act, 1.0f));
    if (run->sit->config.text_tokens > 0) {
        text = sit_take2(run, D2C_F32, in->text.dim[0], D);
        D2C_TRY(dc_forward(text, &pass->text, run, &w->text, in->text, in->text_mask));
        SIT_OP(run, d2c_gather(run->be, act, text, in->text_index));
        SIT_OP(run, d2c_axpby(run->be, pass->c, 1.0f, act, 1.0f));
    }
    SIT_OP(run, d2c_act_forward(run->be, operand, pass->c, D2C_ACT_SILU));
    D2C_TRY(vectors_forward(pass->vectors, operand, run));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

/* x [B, T, D]: patches, position, and the first block's norm. */
static d2c_status
embed_forward(d2c_tensor x, d2c_sit_pass *pass, const scratch *s, const sit_run *run)
{
    const sit_layers *w = run->layers;

    SIT_OP(run,
           d2c_patchify(run->be, pass->patches, pass->in.x, run->sit->config.patch, D2C_PATCH_CHANNEL_FIRST));
    SIT_OP(run, d2c_linear_forward(run->be, sit_flat(x), d2c_absent(), sit_flat(pass->patches), &w->patch,
                                   D2C_ACT_NONE));
    SIT_OP(run, d2c_add_rows(run->be, x, w->position));
    SIT_OP(run, d2c_modulate_forward(run->be, s->h, s->stat, x, sit_vector(run, pass->vectors, SIT_SHIFT1),
                                     sit_vector(run, pass->vectors, SIT_SCALE1), SIT_EPS));
    return D2C_OK;
}

/* One of a block's products; x is brought to e4m3 first where the weights are. */
static d2c_status
product_forward(d2c_tensor y, d2c_tensor pre, d2c_tensor x, const d2c_weight *w, d2c_act act,
                const scratch *s, const sit_run *run)
{
    d2c_tensor operand = sit_flat(x);

    if (w->eight.data != NULL) {
        operand = d2c_tensor2(s->x8.data, D2C_F8, operand.dim[0], operand.dim[1]);
        operand.scale = s->x8.scale;
        SIT_OP(run, d2c_quantize(run->be, operand, sit_flat(x)));
    }
    SIT_OP(run, d2c_linear_forward(run->be, sit_flat(y), pre, operand, w, act));
    return D2C_OK;
}

/* y1 from h, the norm of a->x. */
static d2c_status
attention_forward(sit_saved *a, const scratch *s, const sit_run *run, int block)
{
    const d2c_sit_config *c = &run->sit->config;
    const sit_block *w = &run->layers->block[block];
    float scale = 1.0f / sqrtf((float)(c->hidden / c->heads));

    D2C_TRY(product_forward(a->qkv, d2c_absent(), s->h, &w->qkv, D2C_ACT_NONE, s, run));
    if (c->qk_norm)
        D2C_TRY(head_norms_forward(a->qkv, a->raw, w, run));
    SIT_OP(run, d2c_attention_forward(run->be, a->o, a->lse, a->qkv, d2c_absent(), c->heads, scale));
    return product_forward(a->y1, d2c_absent(), a->o, &w->proj, D2C_ACT_NONE, s, run);
}

/* f, and pre for backward, from a->x and y1; x2 is the stream between. */
static d2c_status
mlp_forward(sit_saved *a, const scratch *s, const d2c_sit_pass *pass, const sit_run *run, int block)
{
    int64_t v = (int64_t)SIT_VECTORS * block;
    d2c_tensor pre = pass->training ? sit_flat(a->pre) : d2c_absent();

    SIT_OP(run, d2c_gate_modulate_forward(run->be, s->x2, s->h, s->stat, a->x, a->y1,
                                          sit_vector(run, pass->vectors, v + SIT_GATE1),
                                          sit_vector(run, pass->vectors, v + SIT_SHIFT2),
                                          sit_vector(run, pass->vectors, v + SIT_SCALE2), SIT_EPS));
    return product_forward(a->f, pre, s->h, &run->layers->block[block].fc1, D2C_ACT_GELU_TANH, s, run);
}

/* From h, the norm of a->x, to next, the stream after the block, and h, the norm of what follows. */
static d2c_status
block_forward(d2c_tensor next, sit_saved *a, const scratch *s, const d2c_sit_pass *pass, const sit_run *run,
              int block)
{
    const sit_block *w = &run->layers->block[block];
    int64_t v = (int64_t)SIT_VECTORS * block;

    D2C_TRY(attention_forward(a, s, run, block));
    D2C_TRY(mlp_forward(a, s, pass, run, block));
    D2C_TRY(product_forward(a->y2, d2c_absent(), a->f, &w->fc2, D2C_ACT_NONE, s, run));
    /* The next block's vectors; behind the last block's lie the final layer's. */
    SIT_OP(run, d2c_gate_modulate_forward(
                    run->be, next, s->h, s->stat, s->x2, a->y2, sit_vector(run, pass->vectors, v + SIT_GATE2),
                    sit_vector(run, pass->vectors, v + SIT_VECTORS + SIT_SHIFT1),
                    sit_vector(run, pass->vectors, v + SIT_VECTORS + SIT_SCALE1), SIT_EPS));
    return D2C_OK;
}

d2c_status
sit_block_again(d2c_tensor h, d2c_tensor stat, d2c_tensor x2, sit_saved *a, const d2c_sit_pass *pass,
                const sit_run *run, int block)
{
    const scratch s = {.h = h, .stat = stat, .x2 = x2};
    int64_t v = (int64_t)SIT_VECTORS * block;

    if (run->sit->recompute == D2C_RECOMPUTE_NONE)
        return D2C_OK;
    if (run->sit->recompute == D2C_RECOMPUTE_MLP)
        return mlp_forward(a, &s, pass, run, block);
    SIT_OP(run, d2c_modulate_forward(run->be, h, stat, a->x, sit_vector(run, pass->vectors, v + SIT_SHIFT1),
                                     sit_vector(run, pass->vectors, v + SIT_SCALE1), SIT_EPS));
    D2C_TRY(attention_forward(a, &s, run, block));
    D2C_TRY(mlp_forward(a, &s, pass, run, block));
    return product_forward(a->y2, d2c_absent(), a->f, &run->layers->block[block].fc2, D2C_ACT_NONE, &s, run);
}

/* v from h, the final layer's norm. */
static d2c_status
final_forward(d2c_tensor v, const scratch *s, const sit_run *run)
{
    const d2c_sit_config *c = &run->sit->config;
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor y =
        sit_take3(run, D2C_F32, run->batch, run->tokens, (int64_t)c->patch * c->patch * c->out_channels);

    SIT_OP(run, d2c_linear_forward(run->be, sit_flat(y), d2c_absent(), sit_flat(s->h), &run->layers->final,
                                   D2C_ACT_NONE));
    SIT_OP(run, d2c_unpatchify(run->be, v, y, c->patch, D2C_PATCH_CHANNEL_LAST));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

/* ---- the pass -------------------------------------------------------------------------------------------------- */

/* The taps behind a block: hidden tokens and projector. */
static d2c_status
taps_forward(const d2c_sit_output *out, d2c_sit_pass *pass, const sit_run *run, d2c_tensor x, int blocks)
{
    if (out->hidden.data != NULL && out->hidden_block == blocks)
        SIT_OP(run, d2c_copy(run->be, out->hidden.data, x.data, (size_t)d2c_tensor_count(x) * sizeof(float)));
    if (pass->projected && run->sit->config.proj_block == blocks)
        D2C_TRY(projector_forward(out->projected, &pass->projector, run, x));
    return D2C_OK;
}

/* How many blocks the wanted outputs need. */
static int
blocks_needed(const d2c_sit_output *out, const d2c_sit_config *c)
{
    int blocks = out->hidden.data != NULL ? out->hidden_block : 0;

    if (out->v.data != NULL)
        return c->depth;
    return out->projected.data != NULL && c->proj_block > blocks ? c->proj_block : blocks;
}

static d2c_status
forward_blocks(const d2c_sit_output *out, d2c_sit_pass *pass, const sit_run *run)
{
    int blocks = blocks_needed(out, &run->sit->config);
    scratch s = {0};
    sit_saved shared;
    int block;

    take_scratch(&s, run);
    if (pass->training)
        s.x2 = sit_take3(run, D2C_F32, run->batch, run->tokens, run->sit->config.hidden);
    else
        share_block(&shared, &s, run, pass->last);
    D2C_TRY(condition_forward(pass, run));
    D2C_TRY(embed_forward(pass->training ? pass->block[0].x : shared.x, pass, &s, run));
    for (block = 0; block < blocks; block++) {
        sit_saved *a = pass->training ? &pass->block[block] : &shared;
        d2c_tensor next =
            pass->training && block + 1 < run->sit->config.depth ? pass->block[block + 1].x : pass->last;

        D2C_TRY(block_forward(next, a, &s, pass, run, block));
        D2C_TRY(taps_forward(out, pass, run, next, block + 1));
    }
    return out->v.data == NULL ? D2C_OK : final_forward(out->v, &s, run);
}

static d2c_status
check_call(const d2c_sit *sit, const d2c_sit_input *in, const d2c_sit_output *out, int training,
           d2c_error *err)
{
    const d2c_sit_config *c = &sit->config;
    const sit_layers *layers = sit->layers;

    if (in->batch < 1)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a batch needs at least one image");
    if (c->text_tokens > 0 && in->text.data == NULL) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "the network needs a text condition");
        d2c_hint(err, "\"d2c export\" folds the texts into the label table.");
        return D2C_INVALID_ARGUMENT;
    }
    if (out->projected.data != NULL && c->proj_block == 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the network has no projector");
    if (out->hidden.data != NULL && (out->hidden_block < 1 || out->hidden_block > c->depth))
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "block %d is outside 1..%d", out->hidden_block, c->depth);
    if (training && (layers->saved == NULL || out->v.data == NULL))
        return d2c_fail(err, D2C_INTERNAL, "the network was not made for training");
    return D2C_OK;
}

d2c_status
d2c_sit_forward(d2c_sit *sit, d2c_backend *be, d2c_arena *arena, const d2c_sit_input *in,
                const d2c_sit_output *out, int training, d2c_sit_pass **pass, d2c_error *err)
{
    sit_layers *layers = sit->layers;
    sit_run run = {sit, layers, be, arena, err, in->batch, d2c_sit_tokens(&sit->config)};
    d2c_sit_pass local, *p = training ? &layers->pass : &local;
    size_t start = d2c_arena_mark(arena), saved;
    int block;

    D2C_TRY(check_call(sit, in, out, training, err));
    memset(p, 0, sizeof *p);
    p->training = training;
    p->projected = out->projected.data != NULL;
    p->in = *in;
    take_conditions(p, &run);
    if (training) {
        p->block = layers->saved;
        for (block = 0; block < sit->config.depth; block++)
            take_block(&p->block[block], &p->block[0], &run);
    }
    saved = d2c_arena_mark(arena);
    D2C_TRY(forward_blocks(out, p, &run));
    d2c_arena_release(arena, training ? saved : start);
    if (pass != NULL)
        *pass = training ? p : NULL;
    return d2c_arena_check(arena, err);
}
