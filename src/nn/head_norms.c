/*
 * head_norms.c: REPA's norms of queries and keys: a LayerNorm of each head, its weights the same for all heads of a block.
 *
 * In qkv [B, T, 3D] they take the place of the queries and keys, which a training pass keeps in raw [B, T, 2D].  Scratch
 * comes from the arena, so that a block can be computed again wherever there is one.
 */
#include "nn/sit_layers.h"

/* Queries (which = 0) or keys (1) within x [B, T, n D], as rows [B*T, D]. */
static d2c_tensor
part_of(d2c_tensor x, int which, int64_t width)
{
    char *start = (char *)x.data + (size_t)which * (size_t)width * d2c_dtype_size(x.dtype);

    return d2c_rows(start, x.dtype, x.dim[0] * x.dim[1], width, x.dim[2]);
}

/* [B*T, D] as [B*T*H, D/H] */
static d2c_tensor
heads_of(d2c_tensor x, int64_t heads)
{
    return d2c_tensor2(x.data, x.dtype, x.dim[0] * heads, x.dim[1] / heads);
}

d2c_status
head_norms_forward(d2c_tensor qkv, d2c_tensor raw, const sit_block *w, const sit_run *run)
{
    int64_t D = run->sit->config.hidden, heads = run->sit->config.heads, rows = run->batch * run->tokens;
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor x = sit_take2(run, D2C_F32, rows, D), y = sit_take2(run, D2C_F32, rows, D);
    int i;

    for (i = 0; i < 2; i++) {
        d2c_tensor part = part_of(qkv, i, D);

        if (raw.data != NULL)
            SIT_OP(run, d2c_cast(run->be, part_of(raw, i, D), part));
        SIT_OP(run, d2c_cast(run->be, x, part));
        SIT_OP(run, d2c_layernorm_forward(run->be, heads_of(y, heads), d2c_absent(), heads_of(x, heads),
                                          w->gamma[i], w->beta[i], SIT_HEAD_EPS));
        SIT_OP(run, d2c_cast(run->be, part, y));
    }
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

d2c_status
head_norms_backward(d2c_tensor dqkv, d2c_tensor raw, const sit_block *w, const sit_run *run)
{
    int64_t D = run->sit->config.hidden, heads = run->sit->config.heads, rows = run->batch * run->tokens;
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor x = sit_take2(run, D2C_F32, rows, D), dx = sit_take2(run, D2C_F32, rows, D);
    d2c_tensor dy = sit_take2(run, D2C_F32, rows, D), stat = sit_take2(run, D2C_F32, rows * heads, 2);
    int i;

    for (i = 0; i < 2; i++) {
        d2c_tensor part = part_of(dqkv, i, D);

        SIT_OP(run, d2c_cast(run->be, x, part_of(raw, i, D)));
        SIT_OP(run, d2c_layernorm_forward(run->be, heads_of(dx, heads), stat, heads_of(x, heads), w->gamma[i],
                                          w->beta[i], SIT_HEAD_EPS));
        SIT_OP(run, d2c_cast(run->be, dy, part));
        SIT_OP(run, d2c_layernorm_backward(run->be, heads_of(dx, heads), w->gamma_grad[i], w->beta_grad[i],
                                           heads_of(dy, heads), heads_of(x, heads), stat, w->gamma[i]));
        SIT_OP(run, d2c_cast(run->be, part, dx));
    }
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}
