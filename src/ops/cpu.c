/* cpu.c: the CPU backend's table, state and constructor (cpu.h). */
#include "ops/cpu.h"

#include <stdlib.h>
#include <string.h>

#include <dnnl.h>
#include <omp.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "ops/reference.h"

/* Subnormal numbers cost a hundred times the work of others. */
static void
flush_subnormals(void)
{
#if defined(__x86_64__)
    const unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;

    _mm_setcsr(_mm_getcsr() | flush_to_zero | denormals_are_zero);
#endif
}

/* OpenMP keeps a pool of threads for each host thread: a pool is told once. */
d2c_cpu *
d2c_cpu_enter(d2c_backend *be)
{
    static __thread int told;
    d2c_cpu *cpu = be->impl;

    flush_subnormals();
    if (be->threads > 1 && told != be->threads) {
#pragma omp parallel num_threads(be->threads)
        flush_subnormals();
        told = be->threads;
    }
    return cpu;
}

d2c_status
d2c_cpu_scratch(d2c_cpu *cpu, void **scratch, size_t bytes)
{
    size_t rounded = d2c_cpu_round(bytes);

    if (rounded > cpu->scratch_bytes) {
        free(cpu->scratch);
        cpu->scratch = aligned_alloc(CPU_SCRATCH_ALIGN, rounded);
        cpu->scratch_bytes = cpu->scratch == NULL ? 0 : rounded;
        if (cpu->scratch == NULL)
            return d2c_fail(&cpu->base.error, D2C_NO_MEMORY, "could not allocate %zu bytes of scratch memory",
                            rounded);
    }
    *scratch = cpu->scratch;
    return D2C_OK;
}

d2c_status
d2c_cpu_worker_status(d2c_cpu *cpu)
{
    d2c_status status = D2C_OK;
    int i;

    for (i = 0; i < cpu->base.threads; i++) {
        if (status == D2C_OK && cpu->worker_error[i].status != D2C_OK) {
            cpu->base.error = cpu->worker_error[i];
            status = cpu->base.error.status;
        }
        cpu->worker_error[i].status = D2C_OK;
    }
    return status;
}

/* DNNL_MAX_CPU_ISA limits our kernels as it limits oneDNN's, so that one variable makes one machine act as another. */
const d2c_cpu_kernels *
d2c_cpu_kernels_pick(void)
{
#if defined(__x86_64__)
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();

    if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core)
        return &d2c_cpu_kernels_avx512;
    if ((isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2 && __builtin_cpu_supports("fma"))
        return &d2c_cpu_kernels_avx2;
#endif
    return &d2c_cpu_kernels_generic;
}

static void
close_cpu(d2c_backend *be)
{
    d2c_cpu *cpu = be->impl;
    int i;

    if (cpu->worker != NULL)
        for (i = 0; i < be->threads; i++)
            if (cpu->worker[i] != cpu->team)
                d2c_plan_cache_close(cpu->worker[i]);
    d2c_plan_cache_close(cpu->team);
    free(cpu->worker);
    free(cpu->worker_error);
    free(cpu->scratch);
    free(cpu->frequency);
    free(cpu);
}

static const d2c_ops cpu_ops = {
    .size = sizeof(d2c_ops),
    .version = D2C_OPS_VERSION,
    .name = "cpu",
    .close = close_cpu,
    .alloc = d2c_host_alloc,
    .free = d2c_host_free,
    .upload = d2c_host_upload,
    .download = d2c_host_download,
    .copy = d2c_host_copy,
    .zero = d2c_cpu_zero,
    .synchronize = d2c_host_synchronize,
    .linear_forward = d2c_cpu_linear_forward,
    .linear_backward_input = d2c_cpu_linear_backward_input,
    .linear_backward_weight = d2c_cpu_linear_backward_weight,
    .attention_forward = d2c_cpu_attention_forward,
    .attention_backward = d2c_cpu_attention_backward,
    .modulate_forward = d2c_cpu_modulate_forward,
    .modulate_backward = d2c_cpu_modulate_backward,
    .gate_residual_forward = d2c_cpu_gate_residual_forward,
    .gate_residual_backward = d2c_cpu_gate_residual_backward,
    .gate_modulate_forward = d2c_cpu_gate_modulate_forward,
    .layernorm_forward = d2c_cpu_layernorm_forward,
    .layernorm_backward = d2c_cpu_layernorm_backward,
    .act_forward = d2c_cpu_act_forward,
    .act_backward = d2c_cpu_act_backward,
    .axpby = d2c_cpu_axpby,
    .cast = d2c_cpu_cast,
    .add_rows = d2c_cpu_add_rows,
    /* A handful of numbers, or a copy: the reference's loops are good enough. */
    .gather = d2c_ref_gather,
    .scatter_add = d2c_ref_scatter_add,
    .timestep_embedding = d2c_cpu_timestep_embedding,
    .patchify = d2c_cpu_patchify,
    .unpatchify = d2c_cpu_unpatchify,
    .text_unfold = d2c_cpu_text_unfold,
    .draw_normal = d2c_cpu_draw_normal,
    .drop_labels = d2c_ref_drop_labels,
    .path_coefficients = d2c_ref_path_coefficients,
    .diffuse = d2c_cpu_diffuse,
    .mse_loss = d2c_cpu_mse_loss,
    .cosine_loss = d2c_cpu_cosine_loss,
    .finish_loss = d2c_ref_finish_loss,
    .gradient_norm = d2c_cpu_gradient_norm,
    .adamw_step = d2c_cpu_adamw_step,
    .conv2d_forward = d2c_cpu_conv2d_forward,
    .groupnorm_forward = d2c_cpu_groupnorm_forward,
    .upsample_forward = d2c_cpu_upsample_forward,
    .pool_forward = d2c_cpu_pool_forward,
    .rmsnorm_forward = d2c_cpu_rmsnorm_forward,
    .glu_forward = d2c_cpu_glu_forward,
    .dit_loss = d2c_cpu_dit_loss,
};

static d2c_status
open_caches(d2c_cpu *cpu, int threads, d2c_error *err)
{
    int i;

    cpu->worker = calloc((size_t)threads, sizeof *cpu->worker);
    cpu->worker_error = calloc((size_t)threads, sizeof *cpu->worker_error);
    if (cpu->worker == NULL || cpu->worker_error == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate a backend of %d threads", threads);
    D2C_TRY(d2c_plan_cache_open(&cpu->team, threads, threads, err));
    if (threads == 1)
        cpu->worker[0] = cpu->team;
    for (i = 0; i < threads && threads > 1; i++)
        D2C_TRY(d2c_plan_cache_open(&cpu->worker[i], 1, threads, err));
    return D2C_OK;
}

d2c_status
d2c_cpu_backend(d2c_backend **be, int threads, d2c_error *err)
{
    d2c_cpu *cpu = calloc(1, sizeof *cpu);
    d2c_status status;

    *be = NULL;
    if (cpu == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate a backend");
    cpu->base.ops = &cpu_ops;
    cpu->base.impl = cpu;
    cpu->base.threads = threads;
    cpu->base.has_bf16 = d2c_dnnl_has_bf16();
    d2c_dnnl_describe(cpu->base.arithmetic, sizeof cpu->base.arithmetic);
    cpu->kernels = d2c_cpu_kernels_pick();
    status = open_caches(cpu, threads, err);
    if (status != D2C_OK) {
        close_cpu(&cpu->base);
        return status;
    }
    *be = &cpu->base;
    return D2C_OK;
}
