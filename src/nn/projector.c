/*
 * projector.c: REPA's projector: Linear, SiLU, Linear, SiLU, Linear from a block's hidden tokens to the visual encoder's
 * width.  N = B*T rows, P = proj_hidden, W = proj_width.
 */
#include "nn/sit_layers.h"

void
projector_take(projector_saved *saved, const sit_run *run)
{
    const d2c_sit *sit = run->sit;
    int64_t rows = run->batch * run->tokens;

    saved->pre1 = sit_take2(run, sit->precision, rows, sit->config.proj_hidden);
    saved->pre2 = sit_take2(run, sit->precision, rows, sit->config.proj_hidden);
}

/* out [B, T, W] f32 from x [B, T, D] f32 */
d2c_status
projector_forward(d2c_tensor out, projector_saved *saved, const sit_run *run, d2c_tensor x)
{
    const d2c_weight *w = run->layers->projector;
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor act1 = sit_take2(run, saved->pre1.dtype, saved->pre1.dim[0], saved->pre1.dim[1]);
    d2c_tensor act2 = sit_take2(run, saved->pre1.dtype, saved->pre1.dim[0], saved->pre1.dim[1]);
    d2c_tensor operand;

    D2C_TRY(sit_operand(&operand, run, sit_flat(x)));
    SIT_OP(run, d2c_linear_forward(run->be, act1, saved->pre1, operand, &w[0], D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_forward(run->be, act2, saved->pre2, act1, &w[1], D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_forward(run->be, sit_flat(out), d2c_absent(), act2, &w[2], D2C_ACT_NONE));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

d2c_status
projector_backward(d2c_tensor dx, const sit_run *run, const projector_saved *saved, d2c_tensor x,
                   d2c_tensor dout)
{
    const d2c_weight *w = run->layers->projector;
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor act = sit_take2(run, saved->pre1.dtype, saved->pre1.dim[0], saved->pre1.dim[1]);
    d2c_tensor dpre2 = sit_take2(run, saved->pre1.dtype, saved->pre1.dim[0], saved->pre1.dim[1]);
    d2c_tensor dpre1 = sit_take2(run, saved->pre1.dtype, saved->pre1.dim[0], saved->pre1.dim[1]);
    d2c_tensor dy, operand;

    D2C_TRY(sit_operand(&dy, run, sit_flat(dout)));
    SIT_OP(run, d2c_act_forward(run->be, act, saved->pre2, D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w[2], dy, act));
    SIT_OP(run, d2c_linear_backward_input(run->be, dpre2, dy, &w[2], saved->pre2, D2C_ACT_SILU, 0));
    SIT_OP(run, d2c_act_forward(run->be, act, saved->pre1, D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w[1], dpre2, act));
    SIT_OP(run, d2c_linear_backward_input(run->be, dpre1, dpre2, &w[1], saved->pre1, D2C_ACT_SILU, 0));
    D2C_TRY(sit_operand(&operand, run, sit_flat(x)));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w[0], dpre1, operand));
    SIT_OP(run,
           d2c_linear_backward_input(run->be, sit_flat(dx), dpre1, &w[0], d2c_absent(), D2C_ACT_NONE, 1));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}
