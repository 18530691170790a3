/* cpu_linear.c: linear layers: oneDNN's products, with our activations and bias gradients around them. */
#include "ops/cpu.h"

#include <string.h>

#include <omp.h>

/* The copy of the weights that a product with operands of this dtype reads. */
static const void *
operand(const d2c_weight *w, d2c_dtype dtype)
{
    return dtype == D2C_BF16 ? w->shadow.data : w->value.data;
}

/* oneDNN writes bf16 only from bf16 operands: an f32 product that is to become bf16 goes through scratch memory. */
static d2c_status
product_target(d2c_cpu *cpu, d2c_tensor *target, d2c_tensor wanted, d2c_dtype operands)
{
    void *scratch;

    *target = wanted;
    if (wanted.dtype == D2C_F32 || operands == D2C_BF16)
        return D2C_OK;
    D2C_TRY(d2c_cpu_scratch(cpu, &scratch, (size_t)(wanted.dim[0] * wanted.dim[1]) * sizeof(float)));
    *target = d2c_tensor2(scratch, D2C_F32, wanted.dim[0], wanted.dim[1]);
    return D2C_OK;
}

d2c_status
d2c_cpu_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x, const d2c_weight *w,
                       d2c_act act)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    d2c_product p;
    d2c_tensor to;

    D2C_TRY(product_target(cpu, &to, pre.data != NULL ? pre : y, x.dtype));
    memset(&p, 0, sizeof p);
    p.m = x.dim[0];
    p.n = y.dim[1];
    p.k = x.dim[1];
    p.a_type = p.b_type = (int32_t)x.dtype;
    p.c_type = (int32_t)to.dtype;
    p.a_stride[1] = x.stride[0];
    p.b_stride[2] = x.dim[1];
    p.c_stride[1] = to.stride[0];
    p.a_stride[2] = p.b_stride[1] = p.c_stride[2] = 1;
    p.has_bias = w->bias.data != NULL;
    D2C_TRY(d2c_product_run(cpu->team, &p, to.data, x.data, operand(w, x.dtype), w->bias.data, &be->error));
    if (pre.data != NULL && to.data != pre.data)
        d2c_cpu_act_rows(cpu, pre, to, D2C_ACT_NONE);
    if (to.data != y.data || act != D2C_ACT_NONE)
        d2c_cpu_act_rows(cpu, y, to, act);
    return D2C_OK;
}

/* dx = to * act'(pre) by rows. */
static void
apply_slope(d2c_cpu *cpu, d2c_tensor dx, d2c_tensor to, d2c_tensor pre, d2c_act act)
{
    int64_t rows = dx.dim[0], width = dx.dim[1], row;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, rows *width)) schedule(static)
    for (row = 0; row < rows; row++)
        cpu->kernels->act_gradient(d2c_cpu_row(dx, row), dx.dtype, d2c_cpu_row(to, row), to.dtype,
                                   d2c_cpu_row(pre, row), pre.dtype, width, act);
}

d2c_status
d2c_cpu_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                              d2c_tensor pre, d2c_act act, int accumulate)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    d2c_product p;
    d2c_tensor to;

    D2C_TRY(product_target(cpu, &to, dx, dy.dtype));
    memset(&p, 0, sizeof p);
    p.m = dy.dim[0];
    p.n = dx.dim[1];
    p.k = dy.dim[1];
    p.a_type = p.b_type = (int32_t)dy.dtype;
    p.c_type = (int32_t)to.dtype;
    p.a_stride[1] = dy.stride[0];
    p.b_stride[1] = dx.dim[1];
    p.c_stride[1] = to.stride[0];
    p.a_stride[2] = p.b_stride[2] = p.c_stride[2] = 1;
    p.accumulate = accumulate;
    D2C_TRY(d2c_product_run(cpu->team, &p, to.data, dy.data, operand(w, dy.dtype), NULL, &be->error));
    if (act != D2C_ACT_NONE)
        apply_slope(cpu, dx, to, pre, act);
    else if (to.data != dx.data)
        d2c_cpu_act_rows(cpu, dx, to, D2C_ACT_NONE);
    return D2C_OK;
}

/* Columns are divided among the threads, rows never: a column's sum is one thread's, over short runs of rows. */
#define SUM_COLUMNS 256
#define SUM_ROWS 256

static void
add_column_sums(const d2c_cpu *cpu, float *sum, d2c_tensor x, int64_t first, int64_t columns)
{
    float part[SUM_COLUMNS];
    int64_t row, rows = x.dim[0];

    for (row = 0; row < rows; row += SUM_ROWS) {
        int64_t count = rows - row < SUM_ROWS ? rows - row : SUM_ROWS;
        d2c_rows_in in = {d2c_cpu_row(x, row) + (size_t)first * d2c_dtype_size(x.dtype), x.dtype,
                          x.stride[0]};

        memset(part, 0, (size_t)columns * sizeof *part);
        cpu->kernels->column_sum(part, in, count, columns);
        cpu->kernels->axpby(sum + first, 1.0f, part, 1.0f, columns);
    }
}

static void
bias_gradient(d2c_cpu *cpu, float *sum, d2c_tensor dy)
{
    int64_t width = dy.dim[1], first;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, dy.dim[0] * width)) schedule(static)
    for (first = 0; first < width; first += SUM_COLUMNS)
        add_column_sums(cpu, sum, dy, first, width - first < SUM_COLUMNS ? width - first : SUM_COLUMNS);
}

d2c_status
d2c_cpu_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    d2c_product p;

    memset(&p, 0, sizeof p);
    p.m = dy.dim[1];
    p.n = x.dim[1];
    p.k = dy.dim[0];
    p.a_type = p.b_type = (int32_t)dy.dtype;
    p.c_type = D2C_F32;
    p.a_stride[2] = dy.stride[0];
    p.b_stride[1] = x.stride[0];
    p.c_stride[1] = x.dim[1];
    p.a_stride[1] = p.b_stride[2] = p.c_stride[2] = 1;
    p.accumulate = 1;
    D2C_TRY(d2c_product_run(cpu->team, &p, w->grad.data, dy.data, x.data, NULL, &be->error));
    if (w->bias_grad.data != NULL)
        bias_gradient(cpu, w->bias_grad.data, dy);
    return D2C_OK;
}
