/* ops_network.c: checks and dispatch of what networks are made of (contracts: ops.h). */
#include <math.h>

#include "ops/check.h"
#include "ops/dispatch.h"
#include "ops/generic.h"

/* ---- matrix products --------------------------------------------------------------------------------------- */

/* What a product of e4m3 operands asks for. */
static d2c_status
check_eight(const d2c_op_call *call, d2c_tensor y, d2c_tensor pre, d2c_tensor x, const d2c_weight *w)
{
    D2C_TRY(d2c_op_require(call, w->eight.data != NULL, "an f8 x needs the weight's f8 copy"));
    D2C_TRY(d2c_op_require(call, x.dim[1] % 16 == 0 && y.dim[1] % 16 == 0, "f8 needs widths of 16s"));
    D2C_TRY(d2c_op_require(call, x.stride[0] == x.dim[1] && y.dtype == D2C_BF16 && pre.data == NULL,
                           "f8 needs a dense x, a bf16 y and no pre"));
    if (call->be->has_f8)
        return D2C_OK;
    return d2c_fail(&call->be->error, D2C_UNSUPPORTED, "backend %s does not multiply fp8",
                    call->be->ops->name);
}

d2c_status
d2c_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x, const d2c_weight *w,
                   d2c_act act)
{
    d2c_weight flat = *w;
    d2c_op_arg args[] = {
        {"y", &y, "NO", ARG_FLOAT | ARG_STRIDED | ARG_LEAD},
        {"pre", &pre, "NO", ARG_FLOAT | ARG_STRIDED | ARG_LEAD | ARG_OPTIONAL},
        {"x", &x, "NI", ARG_FLOAT | ARG_F8 | ARG_STRIDED | ARG_LEAD},
        {"weight", &flat.value, "OI", ARG_F32 | ARG_TRAIL},
        {"shadow", &flat.shadow, "OI", ARG_BF16 | ARG_TRAIL | ARG_OPTIONAL},
        {"eight", &flat.eight, "OI", ARG_F8 | ARG_TRAIL | ARG_OPTIONAL},
        {"bias", &flat.bias, "O", ARG_F32 | ARG_OPTIONAL},
        {"bias_shadow", &flat.bias_shadow, "O", ARG_BF16 | ARG_OPTIONAL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "linear_forward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_is_act(act), "unknown activation"));
    D2C_TRY(d2c_op_require(&call, pre.data == NULL || act != D2C_ACT_NONE, "pre needs an activation"));
    D2C_TRY(d2c_op_require(&call, x.dtype != D2C_BF16 || flat.shadow.data != NULL,
                           "a bf16 x needs the weight's shadow"));
    if (x.dtype == D2C_F8)
        D2C_TRY(check_eight(&call, y, pre, x, &flat));
    return D2C_DISPATCH(be, linear_forward, y, pre, x, &flat, act);
}

d2c_status
d2c_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w, d2c_tensor pre,
                          d2c_act act, int accumulate)
{
    d2c_weight flat = *w;
    d2c_op_arg args[] = {
        {"dx", &dx, "NI", ARG_FLOAT | ARG_LEAD},
        {"dy", &dy, "NO", ARG_FLOAT | ARG_LEAD},
        {"weight", &flat.value, "OI", ARG_F32 | ARG_TRAIL},
        {"shadow", &flat.shadow, "OI", ARG_BF16 | ARG_TRAIL | ARG_OPTIONAL},
        {"pre", &pre, "NI", ARG_FLOAT | ARG_LEAD | ARG_OPTIONAL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "linear_backward_input", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_is_act(act), "unknown activation"));
    D2C_TRY(
        d2c_op_require(&call, (pre.data != NULL) == (act != D2C_ACT_NONE), "pre and activation go together"));
    D2C_TRY(d2c_op_require(&call, !accumulate || (act == D2C_ACT_NONE && dx.dtype == D2C_F32),
                           "accumulating needs an f32 dx and no activation"));
    D2C_TRY(d2c_op_require(&call, dy.dtype == D2C_F32 || flat.shadow.data != NULL,
                           "a bf16 dy needs the weight's shadow"));
    return D2C_DISPATCH(be, linear_backward_input, dx, dy, &flat, pre, act, accumulate);
}

d2c_status
d2c_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x)
{
    d2c_weight flat = *w;
    d2c_op_arg args[] = {
        {"grad", &flat.grad, "OI", ARG_F32 | ARG_TRAIL},
        {"bias_grad", &flat.bias_grad, "O", ARG_F32 | ARG_OPTIONAL},
        {"dy", &dy, "NO", ARG_FLOAT | ARG_LEAD},
        {"x", &x, "NI", ARG_FLOAT | ARG_LEAD},
    };
    d2c_op_call call = D2C_OP_CALL(be, "linear_backward_weight", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, dy.dtype == x.dtype, "dy and x differ in type"));
    return D2C_DISPATCH(be, linear_backward_weight, &flat, dy, x);
}

/* What both attention passes ask for beyond their tensors' shapes. */
static d2c_status
check_heads(const d2c_op_call *call, int heads, float scale)
{
    int64_t width = d2c_op_size(call, 'C');

    D2C_TRY(d2c_op_require(call, d2c_op_size(call, 'Q') == 3 * width, "qkv is not three times as wide as o"));
    D2C_TRY(d2c_op_require(call, heads > 0 && width % heads == 0, "the heads do not divide the width"));
    return d2c_op_require(call, isfinite(scale), "scale is not finite");
}

d2c_status
d2c_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias,
                      int heads, float scale)
{
    d2c_op_arg args[] = {
        {"o", &o, "BTC", ARG_FLOAT},
        {"lse", &lse, "BHT", ARG_F32 | ARG_OPTIONAL},
        {"qkv", &qkv, "BTQ", ARG_FLOAT},
        {"bias", &bias, "BHTT", ARG_F32 | ARG_BROADCAST | ARG_OPTIONAL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "attention_forward", args);

    call.size['H' - 'A'] = heads;
    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(check_heads(&call, heads, scale));
    D2C_TRY(d2c_op_require(&call, o.dtype == qkv.dtype, "o and qkv differ in type"));
    return D2C_DISPATCH(be, attention_forward, o, lse, qkv, bias, heads, scale);
}

d2c_status
d2c_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o, d2c_tensor lse,
                       d2c_tensor qkv, d2c_tensor bias, int heads, float scale)
{
    d2c_op_arg args[] = {
        {"dqkv", &dqkv, "BTQ", ARG_FLOAT}, {"dout", &dout, "BTC", ARG_FLOAT},
        {"o", &o, "BTC", ARG_FLOAT},       {"lse", &lse, "BHT", ARG_F32},
        {"qkv", &qkv, "BTQ", ARG_FLOAT},   {"bias", &bias, "BHTT", ARG_F32 | ARG_BROADCAST | ARG_OPTIONAL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "attention_backward", args);

    call.size['H' - 'A'] = heads;
    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(check_heads(&call, heads, scale));
    D2C_TRY(d2c_op_require(&call, dqkv.dtype == qkv.dtype && dout.dtype == qkv.dtype && o.dtype == qkv.dtype,
                           "dqkv, dout, o and qkv differ in type"));
    return D2C_DISPATCH(be, attention_backward, dqkv, dout, o, lse, qkv, bias, heads, scale);
}

/* ---- norms, gates, activations ----------------------------------------------------------------------------- */

d2c_status
d2c_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor shift,
                     d2c_tensor scale, float eps)
{
    d2c_op_arg args[] = {
        {"y", &y, "BTC", ARG_FLOAT},
        {"stat", &stat, "BT2", ARG_F32},
        {"x", &x, "BTC", ARG_F32},
        {"shift", &shift, "BC", ARG_F32 | ARG_STRIDED},
        {"scale", &scale, "BC", ARG_F32 | ARG_STRIDED},
    };
    d2c_op_call call = D2C_OP_CALL(be, "modulate_forward", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, modulate_forward, y, stat, x, shift, scale, eps);
}

d2c_status
d2c_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale, d2c_tensor dy,
                      d2c_tensor x, d2c_tensor stat, d2c_tensor scale)
{
    d2c_op_arg args[] = {
        {"dx", &dx, "BTC", ARG_F32},
        {"dshift", &dshift, "BC", ARG_F32 | ARG_STRIDED},
        {"dscale", &dscale, "BC", ARG_F32 | ARG_STRIDED},
        {"dy", &dy, "BTC", ARG_FLOAT},
        {"x", &x, "BTC", ARG_F32},
        {"stat", &stat, "BT2", ARG_F32},
        {"scale", &scale, "BC", ARG_F32 | ARG_STRIDED},
    };
    d2c_op_call call = D2C_OP_CALL(be, "modulate_backward", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, modulate_backward, dx, dshift, dscale, dy, x, stat, scale);
}

d2c_status
d2c_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate)
{
    d2c_op_arg args[] = {
        {"x", &x, "BTC", ARG_F32},
        {"y", &y, "BTC", ARG_FLOAT},
        {"gate", &gate, "BC", ARG_F32 | ARG_STRIDED},
    };
    d2c_op_call call = D2C_OP_CALL(be, "gate_residual_forward", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, gate_residual_forward, x, y, gate);
}

d2c_status
d2c_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx, d2c_tensor y,
                           d2c_tensor gate)
{
    d2c_op_arg args[] = {
        {"dy", &dy, "BTC", ARG_FLOAT},
        {"dgate", &dgate, "BC", ARG_F32 | ARG_STRIDED},
        {"dx", &dx, "BTC", ARG_F32},
        {"y", &y, "BTC", ARG_FLOAT},
        {"gate", &gate, "BC", ARG_F32 | ARG_STRIDED},
    };
    d2c_op_call call = D2C_OP_CALL(be, "gate_residual_backward", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, gate_residual_backward, dy, dgate, dx, y, gate);
}

d2c_status
d2c_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat, d2c_tensor x,
                          d2c_tensor y, d2c_tensor gate, d2c_tensor shift, d2c_tensor scale, float eps)
{
    d2c_op_arg args[] = {
        {"out", &out, "BTC", ARG_F32},
        {"h", &h, "BTC", ARG_FLOAT},
        {"stat", &stat, "BT2", ARG_F32},
        {"x", &x, "BTC", ARG_F32},
        {"y", &y, "BTC", ARG_FLOAT},
        {"gate", &gate, "BC", ARG_F32 | ARG_STRIDED},
        {"shift", &shift, "BC", ARG_F32 | ARG_STRIDED},
        {"scale", &scale, "BC", ARG_F32 | ARG_STRIDED},
    };
    d2c_op_call call = D2C_OP_CALL(be, "gate_modulate_forward", args);

    D2C_TRY(d2c_op_check(&call));
    if (!D2C_HAS(be, gate_modulate_forward))
        return d2c_generic_gate_modulate_forward(be, out, h, stat, x, y, gate, shift, scale, eps);
    return be->ops->gate_modulate_forward(be, out, h, stat, x, y, gate, shift, scale, eps);
}

d2c_status
d2c_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor gamma,
                      d2c_tensor beta, float eps)
{
    d2c_op_arg args[] = {
        {"y", &y, "NC", ARG_FLOAT | ARG_LEAD},
        {"stat", &stat, "N2", ARG_F32 | ARG_LEAD | ARG_OPTIONAL},
        {"x", &x, "NC", ARG_FLOAT | ARG_LEAD},
        {"gamma", &gamma, "C", ARG_F32 | ARG_OPTIONAL},
        {"beta", &beta, "C", ARG_F32 | ARG_OPTIONAL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "layernorm_forward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, (gamma.data == NULL) == (beta.data == NULL), "gamma and beta go together"));
    return D2C_DISPATCH(be, layernorm_forward, y, stat, x, gamma, beta, eps);
}

d2c_status
d2c_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta, d2c_tensor dy,
                       d2c_tensor x, d2c_tensor stat, d2c_tensor gamma)
{
    d2c_op_arg args[] = {
        {"dx", &dx, "NC", ARG_FLOAT | ARG_LEAD},        {"dgamma", &dgamma, "C", ARG_F32 | ARG_OPTIONAL},
        {"dbeta", &dbeta, "C", ARG_F32 | ARG_OPTIONAL}, {"dy", &dy, "NC", ARG_FLOAT | ARG_LEAD},
        {"x", &x, "NC", ARG_FLOAT | ARG_LEAD},          {"stat", &stat, "N2", ARG_F32 | ARG_LEAD},
        {"gamma", &gamma, "C", ARG_F32 | ARG_OPTIONAL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "layernorm_backward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(
        d2c_op_require(&call, (dgamma.data == NULL) == (dbeta.data == NULL), "dgamma and dbeta go together"));
    D2C_TRY(d2c_op_require(&call, gamma.data != NULL || dgamma.data == NULL, "dgamma needs gamma"));
    return D2C_DISPATCH(be, layernorm_backward, dx, dgamma, dbeta, dy, x, stat, gamma);
}

d2c_status
d2c_rmsnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, float eps)
{
    d2c_op_arg args[] = {
        {"y", &y, "NC", ARG_FLOAT | ARG_LEAD},
        {"x", &x, "NC", ARG_FLOAT | ARG_LEAD},
        {"gamma", &gamma, "C", ARG_F32},
    };
    d2c_op_call call = D2C_OP_CALL(be, "rmsnorm_forward", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, rmsnorm_forward, y, x, gamma, eps);
}

d2c_status
d2c_glu_forward(d2c_backend *be, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act)
{
    d2c_op_arg args[] = {
        {"y", &y, "NC", ARG_FLOAT | ARG_LEAD},
        {"gate", &gate, "NC", ARG_FLOAT | ARG_STRIDED | ARG_LEAD},
        {"value", &value, "NC", ARG_FLOAT | ARG_STRIDED | ARG_LEAD},
    };
    d2c_op_call call = D2C_OP_CALL(be, "glu_forward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_is_act(act), "unknown activation"));
    return D2C_DISPATCH(be, glu_forward, y, gate, value, act);
}

d2c_status
d2c_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act)
{
    d2c_op_arg args[] = {{"y", &y, "N", ARG_FLOAT | ARG_LEAD}, {"x", &x, "N", ARG_FLOAT | ARG_LEAD}};
    d2c_op_call call = D2C_OP_CALL(be, "act_forward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_is_act(act), "unknown activation"));
    return D2C_DISPATCH(be, act_forward, y, x, act);
}

d2c_status
d2c_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act)
{
    d2c_op_arg args[] = {
        {"dx", &dx, "N", ARG_FLOAT | ARG_LEAD},
        {"dy", &dy, "N", ARG_FLOAT | ARG_LEAD},
        {"x", &x, "N", ARG_FLOAT | ARG_LEAD},
    };
    d2c_op_call call = D2C_OP_CALL(be, "act_backward", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_is_act(act), "unknown activation"));
    return D2C_DISPATCH(be, act_backward, dx, dy, x, act);
}

d2c_status
d2c_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b)
{
    d2c_op_arg args[] = {{"y", &y, "N", ARG_F32 | ARG_LEAD}, {"x", &x, "N", ARG_F32 | ARG_LEAD}};
    d2c_op_call call = D2C_OP_CALL(be, "axpby", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, axpby, y, a, x, b);
}

d2c_status
d2c_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    d2c_op_arg args[] = {
        {"y", &y, "NW", ARG_FLOAT | ARG_F16 | ARG_STRIDED | ARG_LEAD},
        {"x", &x, "NW", ARG_FLOAT | ARG_F16 | ARG_STRIDED | ARG_LEAD},
    };
    d2c_op_call call = D2C_OP_CALL(be, "cast", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, cast, y, x);
}

d2c_status
d2c_quantize(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    d2c_op_arg args[] = {{"y", &y, "NW", ARG_F8 | ARG_LEAD}, {"x", &x, "NW", ARG_FLOAT | ARG_LEAD}};
    d2c_op_call call = D2C_OP_CALL(be, "quantize", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, quantize, y, x);
}

d2c_status
d2c_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows)
{
    d2c_op_arg args[] = {{"x", &x, "BTC", ARG_F32}, {"rows", &rows, "TC", ARG_F32}};
    d2c_op_call call = D2C_OP_CALL(be, "add_rows", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, add_rows, x, rows);
}
