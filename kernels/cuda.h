/*
 * cuda.h: the CUDA backend's state, what its files share, and the entries of its table by file.
 *
 * The backend is a library of its own, libd2c_cuda.so, opened at run time (src/ops/backend.c).  Host code is C; only
 * kernels and their launches are CUDA C (kernel.cuh).  Rules:
 *
 *  - Everything is queued on one stream.  An entry launches and returns; nothing waits but download, synchronize,
 *    event_wait and the growing of scratch memory.
 *  - No float atomics and no sum whose order depends on timing: a sum is one block's, or is finished by a second
 *    kernel over a fixed grid.  The same call gives the same bits.
 *  - A grid depends on shapes alone, never on the device, wherever it decides which elements are summed together.
 *  - While a capture runs (ops.h) nothing is allocated or waited for; ops that need scratch have had it before.
 */
#ifndef D2C_KERNELS_CUDA_H
#define D2C_KERNELS_CUDA_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "ops/ops.h"

typedef struct d2c_staging d2c_staging;   /* memory.c: pinned memory that uploads pass through */
typedef struct d2c_products d2c_products; /* product.h: plans of matrix products */

#define D2C_OUTGROWN 16 /* each block of scratch memory is at least twice the one before */

typedef struct d2c_cuda {
    d2c_backend base;
    int device;          /* ordinal */
    int capability;      /* 10 * major + minor: 80, 90, 100 */
    size_t shared_most;  /* bytes of shared memory that a block may ask for */
    cudaStream_t stream; /* everything, but for: */
    cudaStream_t copies; /* early uploads */
    cudaEvent_t copied;  /* the newest early upload */
    int copy_pending;    /* the stream has not been told to wait for it */
    int capturing;
    void *scratch;
    size_t scratch_bytes;
    int graphs; /* that are there: they may use scratch memory that has been outgrown since */
    void *outgrown[D2C_OUTGROWN];
    d2c_staging *staging;
    d2c_products *products;
} d2c_cuda;

/* The state behind a backend, made ready for an op: its device becomes the calling thread's, and the stream waits for
 * early uploads. */
d2c_cuda *d2c_cuda_enter(d2c_backend *be);

/* D2C_OK, or the failure of a call of the run-time library: D2C_NO_MEMORY, D2C_DEVICE (base.lost is then set when the
 * device is gone for good) or D2C_INTERNAL.  doing: "copy to the device". */
d2c_status d2c_cuda_check(d2c_cuda *cuda, cudaError_t error, const char *doing);

/* The same of the launch just made. */
d2c_status d2c_cuda_launched(d2c_cuda *cuda, const char *kernel);

/* At least `bytes` of device memory, aligned to 256, that the next op may overwrite.  Growing waits for the stream;
 * growing during a capture is D2C_INTERNAL.  A graph goes on with the memory that it was captured with. */
d2c_status d2c_cuda_scratch(d2c_cuda *cuda, void **scratch, size_t bytes);
/* Frees what has been outgrown. */
void d2c_cuda_scratch_release(d2c_cuda *cuda);

/* backend.c; the only symbol that the library exports */
d2c_status d2c_cuda_backend(d2c_backend **be, int device, d2c_error *err);

/* memory.c */
d2c_status d2c_cuda_alloc(d2c_backend *be, void **block, size_t bytes, d2c_memory kind);
void d2c_cuda_free(d2c_backend *be, void *block, d2c_memory kind);
d2c_status d2c_cuda_upload(d2c_backend *be, void *device, const void *host, size_t bytes);
d2c_status d2c_cuda_upload_early(d2c_backend *be, void *device, const void *host, size_t bytes);
d2c_status d2c_cuda_download(d2c_backend *be, void *host, const void *device, size_t bytes);
d2c_status d2c_cuda_download_later(d2c_backend *be, void *pinned, const void *device, size_t bytes);
d2c_status d2c_cuda_copy(d2c_backend *be, void *to, const void *from, size_t bytes);
d2c_status d2c_cuda_zero(d2c_backend *be, void *device, size_t bytes);
d2c_status d2c_cuda_synchronize(d2c_backend *be);
d2c_status d2c_cuda_memory_use(d2c_backend *be, size_t *available, size_t *total);
void d2c_cuda_staging_free(d2c_cuda *cuda);

/* stream.c */
d2c_status d2c_cuda_event_record(d2c_backend *be, d2c_event **event);
d2c_status d2c_cuda_event_wait(d2c_backend *be, d2c_event *event);
void d2c_cuda_event_free(d2c_backend *be, d2c_event *event);
d2c_status d2c_cuda_capture_begin(d2c_backend *be);
d2c_status d2c_cuda_capture_end(d2c_backend *be, d2c_graph **graph);
d2c_status d2c_cuda_graph_launch(d2c_backend *be, d2c_graph *graph);
void d2c_cuda_graph_free(d2c_backend *be, d2c_graph *graph);

/* linear.c and product.c */
d2c_status d2c_cuda_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x,
                                   const d2c_weight *w, d2c_act act);
d2c_status d2c_cuda_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                                          d2c_tensor pre, d2c_act act, int accumulate);
d2c_status d2c_cuda_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x);
d2c_status d2c_cuda_tune(d2c_backend *be, const char *choices);
d2c_status d2c_cuda_tuned(d2c_backend *be, char **choices);

/* bias.cu: grad [n] += column sums of dy [rows, n] */
d2c_status d2c_cuda_bias_gradient(d2c_cuda *cuda, d2c_tensor grad, d2c_tensor dy);

/* attention.cu */
d2c_status d2c_cuda_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv,
                                      d2c_tensor bias, int heads, float scale);
d2c_status d2c_cuda_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o,
                                       d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias, int heads,
                                       float scale);

/* norm_forward.cu and norm_backward.cu */
d2c_status d2c_cuda_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                     d2c_tensor shift, d2c_tensor scale, float eps);
d2c_status d2c_cuda_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale,
                                      d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor scale);
d2c_status d2c_cuda_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate);
d2c_status d2c_cuda_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx,
                                           d2c_tensor y, d2c_tensor gate);
d2c_status d2c_cuda_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat,
                                          d2c_tensor x, d2c_tensor y, d2c_tensor gate, d2c_tensor shift,
                                          d2c_tensor scale, float eps);
d2c_status d2c_cuda_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                      d2c_tensor gamma, d2c_tensor beta, float eps);
d2c_status d2c_cuda_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta,
                                       d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor gamma);

/* elementwise.cu */
d2c_status d2c_cuda_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act);
d2c_status d2c_cuda_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act);
d2c_status d2c_cuda_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b);
d2c_status d2c_cuda_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x);
d2c_status d2c_cuda_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows);

/* embedding.cu */
d2c_status d2c_cuda_gather(d2c_backend *be, d2c_tensor y, d2c_tensor table, d2c_tensor index);
d2c_status d2c_cuda_scatter_add(d2c_backend *be, d2c_tensor dtable, d2c_tensor dy, d2c_tensor index);
d2c_status d2c_cuda_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t);
d2c_status d2c_cuda_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order);
d2c_status d2c_cuda_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order);
d2c_status d2c_cuda_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask);
d2c_status d2c_cuda_masked_mean(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask);

/* random.cu */
d2c_status d2c_cuda_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                                int purpose);
d2c_status d2c_cuda_draw_uniform(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id,
                                 d2c_tensor epoch, int purpose);
d2c_status d2c_cuda_drop_labels(d2c_backend *be, d2c_tensor kept, d2c_tensor keep, d2c_tensor label,
                                uint64_t seed, d2c_tensor id, d2c_tensor epoch, float probability,
                                int64_t null_label);

/* diffusion.cu */
d2c_status d2c_cuda_path_coefficients(d2c_backend *be, d2c_tensor coefficient, d2c_tensor t, d2c_path path);
d2c_status d2c_cuda_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                            d2c_tensor coefficient);
d2c_status d2c_cuda_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                             const d2c_step_record *record);
d2c_status d2c_cuda_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q,
                                float weight, const d2c_step_record *record);
d2c_status d2c_cuda_finish_loss(d2c_backend *be, d2c_step_record *record, d2c_tensor loss);

/* optimizer.cu */
d2c_status d2c_cuda_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad);
d2c_status d2c_cuda_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                               d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                               const d2c_step_record *record);

#ifdef __cplusplus
}
#endif

#endif
