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

#include "ops/backend.h"

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
D2C_ENTRY(d2c_cuda_, alloc);
D2C_ENTRY(d2c_cuda_, free);
D2C_ENTRY(d2c_cuda_, upload);
D2C_ENTRY(d2c_cuda_, upload_early);
D2C_ENTRY(d2c_cuda_, download);
D2C_ENTRY(d2c_cuda_, download_later);
D2C_ENTRY(d2c_cuda_, copy);
D2C_ENTRY(d2c_cuda_, zero);
D2C_ENTRY(d2c_cuda_, synchronize);
D2C_ENTRY(d2c_cuda_, memory_use);
void d2c_cuda_staging_free(d2c_cuda *cuda);

/* stream.c */
D2C_ENTRY(d2c_cuda_, event_record);
D2C_ENTRY(d2c_cuda_, event_wait);
D2C_ENTRY(d2c_cuda_, event_free);
D2C_ENTRY(d2c_cuda_, capture_begin);
D2C_ENTRY(d2c_cuda_, capture_end);
D2C_ENTRY(d2c_cuda_, graph_launch);
D2C_ENTRY(d2c_cuda_, graph_free);

/* linear.c and product.c */
D2C_ENTRY(d2c_cuda_, linear_forward);
D2C_ENTRY(d2c_cuda_, linear_backward_input);
D2C_ENTRY(d2c_cuda_, linear_backward_weight);
D2C_ENTRY(d2c_cuda_, tune);
D2C_ENTRY(d2c_cuda_, choose);
D2C_ENTRY(d2c_cuda_, tuned);

/* bias.cu: grad [n] += column sums of dy [rows, n] */
d2c_status d2c_cuda_bias_gradient(d2c_cuda *cuda, d2c_tensor grad, d2c_tensor dy);

/* attention.cu */
D2C_ENTRY(d2c_cuda_, attention_forward);
D2C_ENTRY(d2c_cuda_, attention_backward);

/* norm_forward.cu and norm_backward.cu */
D2C_ENTRY(d2c_cuda_, modulate_forward);
D2C_ENTRY(d2c_cuda_, modulate_backward);
D2C_ENTRY(d2c_cuda_, gate_residual_forward);
D2C_ENTRY(d2c_cuda_, gate_residual_backward);
D2C_ENTRY(d2c_cuda_, gate_modulate_forward);
D2C_ENTRY(d2c_cuda_, layernorm_forward);
D2C_ENTRY(d2c_cuda_, layernorm_backward);
D2C_ENTRY(d2c_cuda_, rmsnorm_forward);

/* convolution.cu, groupnorm.cu and image.cu */
D2C_ENTRY(d2c_cuda_, conv2d_forward);
D2C_ENTRY(d2c_cuda_, groupnorm_forward);
D2C_ENTRY(d2c_cuda_, upsample_forward);
D2C_ENTRY(d2c_cuda_, pool_forward);

/* elementwise.cu */
D2C_ENTRY(d2c_cuda_, act_forward);
D2C_ENTRY(d2c_cuda_, act_backward);
D2C_ENTRY(d2c_cuda_, glu_forward);
D2C_ENTRY(d2c_cuda_, axpby);
D2C_ENTRY(d2c_cuda_, cast);
D2C_ENTRY(d2c_cuda_, add_rows);

/* embedding.cu */
D2C_ENTRY(d2c_cuda_, gather);
D2C_ENTRY(d2c_cuda_, scatter_add);
D2C_ENTRY(d2c_cuda_, timestep_embedding);
D2C_ENTRY(d2c_cuda_, patchify);
D2C_ENTRY(d2c_cuda_, unpatchify);
D2C_ENTRY(d2c_cuda_, text_unfold);

/* quantize.cu */
D2C_ENTRY(d2c_cuda_, quantize);

/* random.cu */
D2C_ENTRY(d2c_cuda_, draw_normal);
D2C_ENTRY(d2c_cuda_, drop_labels);

/* diffusion.cu */
D2C_ENTRY(d2c_cuda_, path_coefficients);
D2C_ENTRY(d2c_cuda_, diffuse);
D2C_ENTRY(d2c_cuda_, mse_loss);
D2C_ENTRY(d2c_cuda_, cosine_loss);
D2C_ENTRY(d2c_cuda_, dit_loss);
D2C_ENTRY(d2c_cuda_, finish_loss);

/* optimizer.cu */
D2C_ENTRY(d2c_cuda_, gradient_norm);
D2C_ENTRY(d2c_cuda_, adamw_step);

#ifdef __cplusplus
}
#endif

#endif
