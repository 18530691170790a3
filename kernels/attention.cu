/* attention.cu: softmax attention's two entries, which choose the kernels (attention.cuh). */
#include "attention.cuh"

static d2c_attention
describe(d2c_tensor qkv, d2c_tensor bias, int heads, float scale)
{
    d2c_attention a = {};

    a.units = (int)qkv.dim[0] * heads;
    a.tokens = (int)qkv.dim[1];
    a.heads = heads;
    a.width = (int)(qkv.dim[2] / 3 / heads);
    a.scale = scale;
    a.bias = (const float *)bias.data;
    for (int i = 0; i < 4; i++)
        a.bias_stride[i] = bias.stride[i];
    return a;
}

static int
is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* Whether the kernels on tensor cores take it; absent tensors are aligned.  A width of whole 16 bytes aligns all rows of
 * all heads. */
static int
is_fast(const d2c_attention *a, const d2c_attention_data *data, d2c_dtype dtype)
{
    return dtype == D2C_BF16 && a->width % 8 == 0 && a->width <= D2C_ATTENTION_WIDEST_FAST && a->scale > 0 &&
           is_aligned(data->qkv) && is_aligned(data->o) && is_aligned(data->dout) && is_aligned(data->dqkv);
}

d2c_status
d2c_cuda_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias,
                           int heads, float scale)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_attention a = describe(qkv, bias, heads, scale);
    d2c_attention_data data = {};

    data.qkv = qkv.data;
    data.o = o.data;
    data.lse = (float *)lse.data;
    if (is_fast(&a, &data, qkv.dtype))
        return d2c_attention_fast_forward(cuda, &a, &data);
    if (a.width > D2C_ATTENTION_WIDEST)
        return d2c_attention_wide_forward(cuda, &a, &data, qkv.dtype);
    return d2c_attention_general_forward(cuda, &a, &data, qkv.dtype);
}

d2c_status
d2c_cuda_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o, d2c_tensor lse,
                            d2c_tensor qkv, d2c_tensor bias, int heads, float scale)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_attention a = describe(qkv, bias, heads, scale);
    d2c_attention_data data = {};
    void *delta;

    D2C_TRY(d2c_cuda_scratch(cuda, &delta, (size_t)a.units * a.tokens * sizeof(float)));
    data.qkv = qkv.data;
    data.dout = dout.data;
    data.o = o.data;
    data.dqkv = dqkv.data;
    data.lse = (float *)lse.data;
    data.delta = (float *)delta;
    if (is_fast(&a, &data, qkv.dtype))
        return d2c_attention_fast_backward(cuda, &a, &data);
    return d2c_attention_general_backward(cuda, &a, &data, qkv.dtype);
}
