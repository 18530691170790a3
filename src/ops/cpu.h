/*
 * cpu.h: the CPU backend's state, and the entries of its table by file.
 *
 * Matrix products and convolutions are oneDNN's (dnnl_plan.h), all other loops our own (cpu_kernels.h).  Work is
 * divided by shape alone, and every sum is taken by one thread in a fixed order; so threads change no result of ours.
 * Entering an op sets the calling thread's flush-to-zero mode and OpenMP's number of threads, and leaves them so.
 */
#ifndef D2C_OPS_CPU_H
#define D2C_OPS_CPU_H

#include "ops/cpu_kernels.h"
#include "ops/dnnl_plan.h"
#include "ops/backend.h"

#define CPU_SCRATCH_ALIGN 64

typedef struct d2c_cpu {
    d2c_backend base;
    const d2c_cpu_kernels *kernels;
    d2c_plan_cache *team;    /* products that all threads work on */
    d2c_plan_cache **worker; /* [threads] products of one thread each; [0] is team when there is one thread */
    d2c_error *worker_error; /* [threads] */
    char *scratch;
    size_t scratch_bytes;
    float *frequency; /* [frequencies] of the timestep embedding used last */
    int64_t frequencies;
} d2c_cpu;

/* The state behind a backend, made ready for an op on the calling thread. */
d2c_cpu *d2c_cpu_enter(d2c_backend *be);

/* At least `bytes` of scratch, valid until the next call. */
d2c_status d2c_cpu_scratch(d2c_cpu *cpu, void **scratch, size_t bytes);

/* Copies the failure of the first worker that has one to be->error; clears them all. */
d2c_status d2c_cpu_worker_status(d2c_cpu *cpu);

/* Loops over n pieces are worth other threads only when there is enough work in all. */
static inline int
d2c_cpu_threads(const d2c_cpu *cpu, int64_t elements)
{
    return elements < 16384 ? 1 : cpu->base.threads;
}

static inline size_t
d2c_cpu_round(size_t bytes)
{
    return (bytes + CPU_SCRATCH_ALIGN - 1) / CPU_SCRATCH_ALIGN * CPU_SCRATCH_ALIGN;
}

/* Address of row r of a tensor [rows, width]. */
static inline char *
d2c_cpu_row(d2c_tensor t, int64_t r)
{
    return (char *)t.data + (size_t)(r * t.stride[0]) * d2c_dtype_size(t.dtype);
}

/* cpu_linear.c */
D2C_ENTRY(d2c_cpu_, linear_forward);
D2C_ENTRY(d2c_cpu_, linear_backward_input);
D2C_ENTRY(d2c_cpu_, linear_backward_weight);

/* cpu_attention.c */
D2C_ENTRY(d2c_cpu_, attention_forward);
D2C_ENTRY(d2c_cpu_, attention_backward);

/* cpu_norm.c */
D2C_ENTRY(d2c_cpu_, modulate_forward);
D2C_ENTRY(d2c_cpu_, modulate_backward);
D2C_ENTRY(d2c_cpu_, gate_residual_forward);
D2C_ENTRY(d2c_cpu_, gate_residual_backward);
D2C_ENTRY(d2c_cpu_, gate_modulate_forward);
D2C_ENTRY(d2c_cpu_, layernorm_forward);
D2C_ENTRY(d2c_cpu_, layernorm_backward);
D2C_ENTRY(d2c_cpu_, rmsnorm_forward);

/* cpu_elementwise.c */
D2C_ENTRY(d2c_cpu_, act_forward);
D2C_ENTRY(d2c_cpu_, act_backward);
D2C_ENTRY(d2c_cpu_, axpby);
D2C_ENTRY(d2c_cpu_, cast);
D2C_ENTRY(d2c_cpu_, add_rows);
D2C_ENTRY(d2c_cpu_, glu_forward);

/* cpu_convolution.c */
D2C_ENTRY(d2c_cpu_, conv2d_forward);

/* cpu_image.c */
D2C_ENTRY(d2c_cpu_, groupnorm_forward);
D2C_ENTRY(d2c_cpu_, upsample_forward);
D2C_ENTRY(d2c_cpu_, pool_forward);

/* cpu_layout.c */
D2C_ENTRY(d2c_cpu_, timestep_embedding);
D2C_ENTRY(d2c_cpu_, patchify);
D2C_ENTRY(d2c_cpu_, unpatchify);
D2C_ENTRY(d2c_cpu_, text_unfold);

/* cpu_diffusion.c */
D2C_ENTRY(d2c_cpu_, draw_normal);
D2C_ENTRY(d2c_cpu_, diffuse);
D2C_ENTRY(d2c_cpu_, mse_loss);
D2C_ENTRY(d2c_cpu_, cosine_loss);
D2C_ENTRY(d2c_cpu_, dit_loss);

/* cpu_optimizer.c */
D2C_ENTRY(d2c_cpu_, zero);
D2C_ENTRY(d2c_cpu_, gradient_norm);
D2C_ENTRY(d2c_cpu_, adamw_step);

#endif
