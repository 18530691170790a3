/* reference_matrix.c: linear layers. */
#include "ops/reference.h"

/* The copy of the weights that a product with operands of this dtype reads. */
static d2c_tensor
operand(const d2c_weight *w, d2c_dtype dtype)
{
    return dtype == D2C_F8 ? w->eight : dtype == D2C_BF16 ? w->shadow : w->value;
}

d2c_status
d2c_ref_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x, const d2c_weight *w,
                       d2c_act act)
{
    d2c_tensor weight = operand(w, x.dtype);
    int64_t in = x.dim[1], out = y.dim[1];

    (void)be;
    for (int64_t n = 0; n < x.dim[0]; n++)
        for (int64_t o = 0; o < out; o++) {
            double sum = w->bias.data != NULL ? ref_get(w->bias, o) : 0;

            for (int64_t i = 0; i < in; i++)
                sum += ref_get(x, n * x.stride[0] + i) * ref_get(weight, o * in + i);
            if (pre.data != NULL)
                ref_set(pre, n * pre.stride[0] + o, sum);
            ref_set(y, n * y.stride[0] + o, d2c_ref_act(act, sum));
        }
    return D2C_OK;
}

d2c_status
d2c_ref_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                              d2c_tensor pre, d2c_act act, int accumulate)
{
    d2c_tensor weight = operand(w, dy.dtype);
    int64_t in = dx.dim[1], out = dy.dim[1];

    (void)be;
    for (int64_t n = 0; n < dx.dim[0]; n++)
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;

            for (int64_t o = 0; o < out; o++)
                sum += ref_get(dy, n * out + o) * ref_get(weight, o * in + i);
            if (pre.data != NULL)
                sum *= d2c_ref_act_slope(act, ref_get(pre, n * in + i));
            if (accumulate)
                sum += ref_get(dx, n * in + i);
            ref_set(dx, n * in + i, sum);
        }
    return D2C_OK;
}

d2c_status
d2c_ref_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x)
{
    int64_t in = x.dim[1], out = dy.dim[1];

    (void)be;
    for (int64_t o = 0; o < out; o++) {
        double bias_sum = 0;

        for (int64_t i = 0; i < in; i++) {
            double sum = 0;

            for (int64_t n = 0; n < x.dim[0]; n++)
                sum += ref_get(dy, n * out + o) * ref_get(x, n * in + i);
            ref_add(w->grad, o * in + i, sum);
        }
        for (int64_t n = 0; n < x.dim[0]; n++)
            bias_sum += ref_get(dy, n * out + o);
        if (w->bias_grad.data != NULL)
            ref_add(w->bias_grad, o, bias_sum);
    }
    return D2C_OK;
}
