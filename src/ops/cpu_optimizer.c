/* cpu_optimizer.c: gradient norm and AdamW over flat ranges. */
#include "ops/cpu.h"

#include <math.h>
#include <string.h>

#include <omp.h>

#define PIECE 16384 /* elements of one partial sum, whatever the number of threads */

d2c_status
d2c_cpu_zero(d2c_backend *be, void *device, size_t bytes)
{
    size_t step = (size_t)1 << 20, at;

#pragma omp parallel for num_threads(bytes <= step ? 1 : be->threads) schedule(static)
    for (at = 0; at < bytes; at += step)
        memset((char *)device + at, 0, bytes - at < step ? bytes - at : step);
    return D2C_OK;
}

d2c_status
d2c_cpu_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = grad.dim[0], pieces = (n + PIECE - 1) / PIECE, i;
    double sum = 0.0, norm;
    void *scratch;

    D2C_TRY(d2c_cpu_scratch(cpu, &scratch, (size_t)pieces * sizeof(double)));
#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, n)) schedule(static)
    for (i = 0; i < pieces; i++)
        ((double *)scratch)[i] = cpu->kernels->square_sum((const float *)grad.data + i * PIECE,
                                                          n - i * PIECE < PIECE ? n - i * PIECE : PIECE);
    for (i = 0; i < pieces; i++)
        sum += ((double *)scratch)[i];
    norm = sqrt(sum);
    record->grad_norm = (float)norm;
    record->clip_scale =
        record->max_grad_norm > 0 ? (float)fmin(1.0, record->max_grad_norm / (norm + 1e-6)) : 1.0f;
    record->skip = !isfinite(record->loss) || !isfinite(record->grad_norm);
    return D2C_OK;
}

/* n elements from the i-th piece on; absent tensors stay absent. */
static void *
piece(d2c_tensor t, int64_t i)
{
    return t.data == NULL ? NULL : (char *)t.data + (size_t)(i * PIECE) * d2c_dtype_size(t.dtype);
}

d2c_status
d2c_cpu_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                   d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                   const d2c_step_record *record)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = value.dim[0], pieces = (n + PIECE - 1) / PIECE, i;

    if (record->skip != 0)
        return D2C_OK;
#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, n)) schedule(static)
    for (i = 0; i < pieces; i++) {
        d2c_adamw_range range = {piece(value, i),
                                 piece(m, i),
                                 piece(v, i),
                                 piece(ema, i),
                                 piece(shadow, i),
                                 piece(grad, i),
                                 n - i * PIECE < PIECE ? n - i * PIECE : PIECE};

        cpu->kernels->adamw(&range, setting, record);
    }
    return D2C_OK;
}
