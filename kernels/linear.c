/*
 * linear.c: linear layers: products with what comes before and after them (product.h).
 *
 * A result is rounded to bf16 once.  Where it still changes after the product, it goes through f32 scratch memory in runs
 * of rows that a device's cache holds; only pre may be seen by an activation as it is stored.  cuBLASLt adds a bias of the
 * result's type: for large bf16 results the bias is rounded to bf16 first, as autocast does elsewhere, since a pass over
 * them in f32 would cost a tenth of a training step.  Small ones take that pass: it is no more work than the rounding.
 * To products of e4m3 it adds a bias of bf16 only.
 */
#include <string.h>

#include "layer.h"

/* Elements up to which a bf16 result with a bias goes through f32: they stay in the cache, so that what counts is the
 * launch, of which the rounding of the bias needs one as well. */
#define SMALL_RESULT ((int64_t)1 << 19)

/* Scratch memory for f32 results: half of the second-level cache of an H100. */
#define RUN_BYTES ((int64_t)24 << 20)

/* Rows of a run are a multiple of this: whole tiles of the library's kernels. */
#define RUN_ROWS 256

/* The copy of the weights that a product with operands of this dtype reads. */
static d2c_tensor
operand(const d2c_weight *w, d2c_dtype dtype)
{
    return dtype == D2C_F8 ? w->eight : dtype == D2C_BF16 ? w->shadow : w->value;
}

d2c_tensor
d2c_layer_rows(d2c_tensor t, int64_t first, int64_t rows)
{
    if (t.data == NULL)
        return t;
    t.data = (char *)t.data + (size_t)(first * t.stride[0]) * d2c_dtype_size(t.dtype);
    t.dim[0] = rows;
    return t;
}

/* Rows that lie one after another; a single one has no stride. */
static int64_t
row_stride(d2c_tensor t)
{
    return t.dim[0] > 1 ? t.stride[0] : t.dim[1];
}

/* ---- where a product goes ------------------------------------------------------------------------------------------ */

/* The tensor that the product itself makes, when it can. */
static d2c_tensor
place_of(const d2c_layer *l)
{
    return l->pre.data != NULL && !l->backward ? l->pre : l->out;
}

/* Whether the product's sums must be kept in f32 until they are finished. */
static int
needs_scratch(const d2c_layer *l)
{
    d2c_tensor place = place_of(l);
    int changed = l->act != D2C_ACT_NONE && place.data == l->out.data;
    int exact_bias = l->bias.data != NULL && l->small && l->a.dtype != D2C_F8;

    return place.dtype == D2C_BF16 && (l->a.dtype == D2C_F32 || changed || exact_bias);
}

/* Whether cuBLASLt has the activation as an epilogue: GELU's tanh form over bf16, whose aux has rows of multiples of 8
 * elements. */
static int
may_fuse(const d2c_layer *l)
{
    int pre_fits = l->pre.data == NULL || (l->pre.dtype == D2C_BF16 && row_stride(l->pre) % 8 == 0 &&
                                           (uintptr_t)l->pre.data % 16 == 0);

    return l->act == D2C_ACT_GELU_TANH && l->a.dtype != D2C_F32 && l->out.dtype == D2C_BF16 && pre_fits;
}

int
d2c_layer_is_small(int64_t count)
{
    return count <= SMALL_RESULT;
}

/* Rows of a run. */
static int64_t
run_length(int64_t rows, int64_t width)
{
    int64_t run = RUN_BYTES / (int64_t)sizeof(float) / width / RUN_ROWS * RUN_ROWS;

    if (run < RUN_ROWS)
        run = RUN_ROWS;
    return run < rows ? run : rows;
}

/* The type in which cuBLASLt wants the bias. */
static d2c_dtype
bias_type(const d2c_layer *l, d2c_dtype result)
{
    return l->a.dtype == D2C_F8 ? D2C_BF16 : result;
}

/* What there is of the bias in that type. */
static const void *
bias_as(const d2c_layer *l, d2c_dtype type)
{
    return type == D2C_BF16 ? l->bias_shadow.data : l->bias.data;
}

/* cuBLASLt reads 16 bytes of the bias at once. */
static int
copies_bias(const d2c_layer *l, d2c_dtype result)
{
    const void *bias = bias_as(l, bias_type(l, result));

    return l->bias.data != NULL && (bias == NULL || (uintptr_t)bias % 16 != 0);
}

d2c_status
d2c_layer_scratch(d2c_layer *l)
{
    int64_t width = l->out.dim[1], bias = 0, sums = 0;
    void *block;

    l->run = run_length(l->out.dim[0], width);
    if (copies_bias(l, place_of(l).dtype))
        bias = d2c_round_up(width * (int64_t)sizeof(float), 256);
    if (needs_scratch(l))
        sums = l->run * width * (int64_t)sizeof(float);
    if (l->operand_bytes + bias + sums == 0)
        return D2C_OK;
    D2C_TRY(d2c_cuda_scratch(l->cuda, &block, (size_t)(l->operand_bytes + bias + sums)));
    l->operand = block;
    l->bias_copy = l->operand + l->operand_bytes;
    l->scratch = (float *)(l->operand + l->operand_bytes + bias);
    return D2C_OK;
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

/* The product of rows into `target`. */
static void
describe(const d2c_layer *l, d2c_matmul *p, d2c_matmul_data *at, d2c_tensor a, d2c_tensor target)
{
    *p = l->product;
    p->m = target.dim[0];
    p->a_stride = row_stride(a);
    p->c_stride = row_stride(target);
    p->result_type = (int32_t)target.dtype;
    p->has_bias = l->bias.data != NULL;
    *at = (d2c_matmul_data){
        .a = a.data, .b = l->b.data, .c = target.data, .a_scale = a.scale, .b_scale = l->b.scale};
    at->bias = copies_bias(l, target.dtype) ? l->bias_copy : bias_as(l, bias_type(l, target.dtype));
}

static d2c_status
multiply(const d2c_layer *l, const d2c_matmul *p, const d2c_matmul_data *at)
{
    d2c_dtype result = (d2c_dtype)p->result_type;

    if (copies_bias(l, result))
        D2C_TRY(d2c_cuda_cast(&l->cuda->base, d2c_tensor2(l->bias_copy, bias_type(l, result), 1, p->n),
                              d2c_tensor2(l->bias.data, D2C_F32, 1, p->n)));
    return d2c_matmul_run(l->cuda, p, at);
}

static d2c_status
multiply_into(const d2c_layer *l, d2c_tensor a, d2c_tensor target)
{
    d2c_matmul p;
    d2c_matmul_data at;

    describe(l, &p, &at, a, target);
    return multiply(l, &p, &at);
}

/* Backward, every tensor is dense. */
static d2c_status
finish_backward(const d2c_layer *l, d2c_tensor out, d2c_tensor pre, d2c_tensor from)
{
    int64_t count = d2c_tensor_count(out);

    if (l->act == D2C_ACT_NONE)
        return from.data == out.data ? D2C_OK : d2c_cuda_cast(&l->cuda->base, out, from);
    return d2c_cuda_act_backward(&l->cuda->base, d2c_tensor1(out.data, out.dtype, count),
                                 d2c_tensor1(from.data, from.dtype, count),
                                 d2c_tensor1(pre.data, pre.dtype, count), l->act);
}

/* From the product's rows to those of out and pre. */
static d2c_status
finish(const d2c_layer *l, d2c_tensor out, d2c_tensor pre, d2c_tensor from)
{
    if (l->backward)
        return finish_backward(l, out, pre, from);
    if (from.data == pre.data)
        pre = d2c_absent();
    if (l->act == D2C_ACT_NONE && pre.data == NULL && from.data == out.data)
        return D2C_OK;
    return d2c_cuda_finish_rows(l->cuda, out, pre, from, l->act);
}

static d2c_status
run_through_scratch(const d2c_layer *l)
{
    int64_t rows = l->out.dim[0], width = l->out.dim[1], first;

    for (first = 0; first < rows; first += l->run) {
        int64_t count = rows - first < l->run ? rows - first : l->run;
        d2c_tensor sums = d2c_tensor2(l->scratch, D2C_F32, count, width);

        D2C_TRY(multiply_into(l, d2c_layer_rows(l->a, first, count), sums));
        D2C_TRY(finish(l, d2c_layer_rows(l->out, first, count), d2c_layer_rows(l->pre, first, count), sums));
    }
    return D2C_OK;
}

/* The product, then the activation. */
static d2c_status
run_apart(void *argument)
{
    const d2c_layer *l = argument;
    d2c_tensor place = place_of(l);

    if (needs_scratch(l))
        return run_through_scratch(l);
    D2C_TRY(multiply_into(l, l->a, place));
    return finish(l, l->out, l->pre, place);
}

/* With the activation as the product's epilogue, where that is faster. */
static d2c_status
run_fused_or_apart(d2c_layer *l)
{
    d2c_matmul p;
    d2c_matmul_data at;
    int fuses;

    describe(l, &p, &at, l->a, l->out);
    p.epilogue = l->backward ? D2C_EPILOGUE_GELU_GRADIENT : D2C_EPILOGUE_GELU;
    p.aux_stride = l->pre.data != NULL ? row_stride(l->pre) : 0;
    at.aux = l->pre.data;
    D2C_TRY(d2c_matmul_fuses(l->cuda, &fuses, &p, &at, run_apart, l));
    return fuses ? multiply(l, &p, &at) : run_apart(l);
}

d2c_status
d2c_layer_run(d2c_layer *l)
{
    return may_fuse(l) ? run_fused_or_apart(l) : run_apart(l);
}

static d2c_status
run_layer(d2c_layer *l)
{
    l->small = d2c_layer_is_small(l->out.dim[0] * l->out.dim[1]);
    D2C_TRY(d2c_layer_scratch(l));
    return d2c_layer_run(l);
}

/* ---- the ops ------------------------------------------------------------------------------------------------------- */

void
d2c_layer_forward(d2c_layer *l, d2c_cuda *cuda, d2c_tensor y, d2c_tensor pre, d2c_tensor x,
                  const d2c_weight *w, d2c_act act)
{
    d2c_matmul *p = &l->product;

    memset(l, 0, sizeof *l);
    l->cuda = cuda;
    l->a = x;
    l->b = operand(w, x.dtype);
    l->bias = w->bias;
    l->bias_shadow = w->bias_shadow;
    l->out = y;
    l->pre = pre;
    l->act = act;
    p->n = y.dim[1];
    p->k = x.dim[1];
    p->b_stride = x.dim[1];
    p->b_turned = 1;
    p->operand_type = (int32_t)x.dtype;
}

d2c_status
d2c_cuda_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x, const d2c_weight *w,
                        d2c_act act)
{
    d2c_layer l;

    d2c_layer_forward(&l, d2c_cuda_enter(be), y, pre, x, w, act);
    return run_layer(&l);
}

d2c_status
d2c_cuda_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                               d2c_tensor pre, d2c_act act, int accumulate)
{
    d2c_layer l = {.cuda = d2c_cuda_enter(be),
                   .a = dy,
                   .b = operand(w, dy.dtype),
                   .out = dx,
                   .pre = pre,
                   .act = act,
                   .backward = 1};
    d2c_matmul *p = &l.product;

    memset(p, 0, sizeof *p);
    p->n = dx.dim[1];
    p->k = dy.dim[1];
    p->b_stride = dx.dim[1];
    p->operand_type = (int32_t)dy.dtype;
    p->accumulate = accumulate;
    return run_layer(&l);
}

d2c_status
d2c_cuda_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_matmul_data at = {.a = dy.data, .b = x.data, .c = w->grad.data};
    d2c_matmul p;

    memset(&p, 0, sizeof p);
    p.m = dy.dim[1];
    p.n = x.dim[1];
    p.k = dy.dim[0];
    p.a_stride = row_stride(dy);
    p.a_turned = 1;
    p.b_stride = row_stride(x);
    p.c_stride = x.dim[1];
    p.operand_type = (int32_t)x.dtype;
    p.result_type = D2C_F32;
    p.accumulate = 1;
    D2C_TRY(d2c_matmul_run(cuda, &p, &at));
    return w->bias_grad.data != NULL ? d2c_cuda_bias_gradient(cuda, w->bias_grad, dy) : D2C_OK;
}
