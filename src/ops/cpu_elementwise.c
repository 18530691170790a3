/* cpu_elementwise.c: activations and gates by them, sums of arrays, conversions. */
#include "ops/cpu.h"

#include <omp.h>

/* Long enough that a call is nothing beside the work, short enough to divide evenly. */
#define PIECE 4096

static int64_t
piece_count(int64_t n)
{
    return (n + PIECE - 1) / PIECE;
}

static int64_t
piece_size(int64_t n, int64_t piece)
{
    return n - piece * PIECE < PIECE ? n - piece * PIECE : PIECE;
}

/* Address of a piece of a dense tensor. */
static void *
piece_at(d2c_tensor t, int64_t piece)
{
    return (char *)t.data + (size_t)(piece * PIECE) * d2c_dtype_size(t.dtype);
}

d2c_status
d2c_cpu_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = d2c_tensor_count(x), piece;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, n)) schedule(static)
    for (piece = 0; piece < piece_count(n); piece++)
        cpu->kernels->act(piece_at(y, piece), y.dtype, piece_at(x, piece), x.dtype, piece_size(n, piece),
                          act);
    return D2C_OK;
}

d2c_status
d2c_cpu_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = d2c_tensor_count(x), piece;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, n)) schedule(static)
    for (piece = 0; piece < piece_count(n); piece++)
        cpu->kernels->act_gradient(piece_at(dx, piece), dx.dtype, piece_at(dy, piece), dy.dtype,
                                   piece_at(x, piece), x.dtype, piece_size(n, piece), act);
    return D2C_OK;
}

d2c_status
d2c_cpu_glu_forward(d2c_backend *be, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t rows = y.dim[0], width = y.dim[1], row;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, rows *width)) schedule(static)
    for (row = 0; row < rows; row++) {
        d2c_rows_out to = {d2c_cpu_row(y, row), y.dtype, y.stride[0]};
        d2c_rows_in g = {d2c_cpu_row(gate, row), gate.dtype, gate.stride[0]};
        d2c_rows_in v = {d2c_cpu_row(value, row), value.dtype, value.stride[0]};

        cpu->kernels->glu(to, g, v, 1, width, act);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = d2c_tensor_count(x), piece;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, n)) schedule(static)
    for (piece = 0; piece < piece_count(n); piece++)
        cpu->kernels->axpby(piece_at(y, piece), a, piece_at(x, piece), b, piece_size(n, piece));
    return D2C_OK;
}

d2c_status
d2c_cpu_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t rows = x.dim[0], width = x.dim[1], row;

    /* A single row, or dense rows, may be long: they are divided as an array is. */
    if (rows == 1 || (x.stride[0] == width && y.stride[0] == width)) {
        int64_t n = rows * width, piece;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, n)) schedule(static)
        for (piece = 0; piece < piece_count(n); piece++)
            cpu->kernels->convert(piece_at(y, piece), y.dtype, piece_at(x, piece), x.dtype,
                                  piece_size(n, piece));
        return D2C_OK;
    }
#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, rows *width)) schedule(static)
    for (row = 0; row < rows; row++)
        cpu->kernels->convert(d2c_cpu_row(y, row), y.dtype, d2c_cpu_row(x, row), x.dtype, width);
    return D2C_OK;
}

d2c_status
d2c_cpu_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t tokens = x.dim[1], width = x.dim[2], n = x.dim[0] * tokens, row;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, n *width)) schedule(static)
    for (row = 0; row < n; row++)
        cpu->kernels->axpby((float *)x.data + row * width, 1.0f,
                            (const float *)rows.data + row % tokens * width, 1.0f, width);
    return D2C_OK;
}
