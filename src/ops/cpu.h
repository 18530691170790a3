/*
 * cpu.h: the CPU backend's state, and the entries of its table by file.
 *
 * Matrix products are oneDNN's (dnnl_plan.h), all other loops our own (cpu_kernels.h).  Work is divided by shape alone,
 * and every sum is taken by one thread in a fixed order; so threads change no result of ours.  Entering an op sets
 * the calling thread's flush-to-zero mode and OpenMP's number of threads, and leaves them so.
 */
#ifndef D2C_OPS_CPU_H
#define D2C_OPS_CPU_H

#include "ops/cpu_kernels.h"
#include "ops/dnnl_plan.h"
#include "ops/ops.h"

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
d2c_status d2c_cpu_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x,
                                  const d2c_weight *w, d2c_act act);
d2c_status d2c_cpu_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                                         d2c_tensor pre, d2c_act act, int accumulate);
d2c_status d2c_cpu_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x);

/* cpu_attention.c */
d2c_status d2c_cpu_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv,
                                     d2c_tensor bias, int heads, float scale);
d2c_status d2c_cpu_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o,
                                      d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias, int heads,
                                      float scale);

/* cpu_norm.c */
d2c_status d2c_cpu_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                    d2c_tensor shift, d2c_tensor scale, float eps);
d2c_status d2c_cpu_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale,
                                     d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor scale);
d2c_status d2c_cpu_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate);
d2c_status d2c_cpu_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx,
                                          d2c_tensor y, d2c_tensor gate);
d2c_status d2c_cpu_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat,
                                         d2c_tensor x, d2c_tensor y, d2c_tensor gate, d2c_tensor shift,
                                         d2c_tensor scale, float eps);
d2c_status d2c_cpu_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                     d2c_tensor gamma, d2c_tensor beta, float eps);
d2c_status d2c_cpu_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta,
                                      d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor gamma);

/* cpu_elementwise.c */
d2c_status d2c_cpu_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act);
d2c_status d2c_cpu_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act);
d2c_status d2c_cpu_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b);
d2c_status d2c_cpu_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x);
d2c_status d2c_cpu_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows);

/* cpu_layout.c */
d2c_status d2c_cpu_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t);
d2c_status d2c_cpu_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order);
d2c_status d2c_cpu_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order);
d2c_status d2c_cpu_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask);

/* cpu_diffusion.c */
d2c_status d2c_cpu_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                               int purpose);
d2c_status d2c_cpu_draw_uniform(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                                int purpose);
d2c_status d2c_cpu_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                           d2c_tensor coefficient);
d2c_status d2c_cpu_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                            const d2c_step_record *record);
d2c_status d2c_cpu_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q,
                               float weight, const d2c_step_record *record);

/* cpu_optimizer.c */
d2c_status d2c_cpu_zero(d2c_backend *be, void *device, size_t bytes);
d2c_status d2c_cpu_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad);
d2c_status d2c_cpu_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                              d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                              const d2c_step_record *record);

#endif
