/*
 * ops.h: the one interface between the networks and the devices that run them.
 *
 * A network is written once, as calls of the functions below; a backend (reference, CPU, CUDA) implements the
 * table behind them.  Rules that hold for every op:
 *
 *  - Outputs come first.  Shapes are stated here in words and checked once (check.h) for every backend.
 *  - Parameter gradients are added to; activation gradients are set; the residual stream's gradient is added to.
 *  - Ops are queued on the backend's stream.  Only d2c_download, d2c_synchronize and the ending of a capture wait.
 *  - Nothing that changes from step to step is a host argument: it lies in device memory, in the step record
 *    or in a tensor of the batch.  So a captured step can be replayed.
 *  - dtype is a run-time value of each tensor.  Statistics, softmax, losses, gates, the residual stream,
 *    parameters, gradients and the optimizer's state are D2C_F32; operands and results of matrix products may be
 *    D2C_BF16.  Products accumulate in f32.
 *  - Results do not depend on what else is queued.  A backend with one thread gives a row of a batch the same bits
 *    on every run; more threads never change which rows are reduced together.
 *  - A NULL entry of the table falls back to the composition in generic.c, written on the other ops.
 *  - Indices apart, values are not checked.  A tensor that does not fit is D2C_INTERNAL; the text in be->error names
 *    the op and every shape.
 *
 * Tensors are dense; where the text says "rows may be strided", only within a row.  [N, C] also takes [B, T, C]: the
 * leading dims are joined.  [B, n] also takes [B, C, H, W] and [B]: the trailing dims are joined.  A backend always
 * gets the shape that is written here.
 *
 * B images, T tokens an image, C hidden width, N = B*T rows, H heads.
 */
#ifndef D2C_OPS_OPS_H
#define D2C_OPS_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* D2C_F64 is the reference's alone: finite differences call its table with every tensor in double. */
typedef enum d2c_dtype {
    D2C_F32 = 0,
    D2C_BF16 = 1,
    D2C_I64 = 2,
    D2C_U8 = 3,
    D2C_F16 = 4,
    D2C_F64 = 5,
    D2C_F8 = 6 /* e4m3 (base/float8.h); a value is what is stored times *scale */
} d2c_dtype;

#define D2C_MAX_DIMS 4

/* A view of device memory.  Strides count elements. */
typedef struct d2c_tensor {
    void *data;   /* NULL: the optional tensor is absent */
    float *scale; /* of D2C_F8, one a tensor, in device memory at 16 bytes; NULL otherwise */
    d2c_dtype dtype;
    int ndim;
    int64_t dim[D2C_MAX_DIMS];
    int64_t stride[D2C_MAX_DIMS];
} d2c_tensor;

/* A linear layer's parameters.  Only `value` is required; frozen layers have no gradients. */
typedef struct d2c_weight {
    d2c_tensor value;       /* [out, in] f32, rows contiguous: torch's layout */
    d2c_tensor shadow;      /* [out, in] bf16 copy that bf16 products read */
    d2c_tensor bias;        /* [out] f32 */
    d2c_tensor grad;        /* [out, in] f32 */
    d2c_tensor bias_grad;   /* [out] f32 */
    d2c_tensor eight;       /* [out, in] e4m3 copy that e4m3 products read */
    d2c_tensor bias_shadow; /* [out] bf16 copy, for backends that add the bias in the result's type */
} d2c_weight;

typedef enum d2c_act {
    D2C_ACT_NONE = 0,
    D2C_ACT_SILU,
    D2C_ACT_GELU_TANH,
    D2C_ACT_GELU_ERF,
    D2C_ACT_RELU,
    D2C_ACT_GELU_QUICK /* x * sigmoid(1.702 x), CLIP's */
} d2c_act;

/* Order of a patch's elements: the embedding's convolution weight, or the final layer's features. */
typedef enum d2c_patch_order { D2C_PATCH_CHANNEL_FIRST = 0, D2C_PATCH_CHANNEL_LAST = 1 } d2c_patch_order;

/* A convolution's or a pool's window: what it covers, its step, and the zeros around the input. */
typedef struct d2c_window {
    int height, width; /* of the kernel */
    int stride;
    int top, left, bottom, right; /* padding; less than the kernel's size */
} d2c_window;

typedef enum d2c_pool_kind { D2C_POOL_MAX = 0, D2C_POOL_MEAN = 1 } d2c_pool_kind;

/* Interpolation paths of SiT's transport, in SiT's time: t = 0 noise, t = 1 data (willisma/SiT transport/path.py). */
typedef enum d2c_path { D2C_PATH_LINEAR = 0, D2C_PATH_GVP = 1, D2C_PATH_VP = 2 } d2c_path;

/*
 * The step record, one a run, in device memory.  The host uploads the first part before a step; the device writes
 * the second, which the host reads a step later.
 */
typedef struct d2c_step_record {
    float learning_rate;
    float bias_correction1; /* 1 - beta1^step */
    float bias_correction2; /* 1 - beta2^step */
    float ema_decay;
    float max_grad_norm; /* <= 0: no clipping */
    float loss_scale;    /* what a sample's loss gradient is multiplied with: 1/(global batch) */
    float reserved[2];

    float loss;       /* mean over the samples of this record's step, all terms */
    float grad_norm;  /* before clipping */
    float clip_scale; /* min(1, max_grad_norm / (grad_norm + 1e-6)); torch's formula */
    float skip;       /* 1 when loss or norm was not finite: the optimizer then changes nothing */
    float reserved2[4];
} d2c_step_record;

/* Memory of a backend. */
typedef enum d2c_memory { D2C_MEMORY_DEVICE = 0, D2C_MEMORY_PINNED = 1 } d2c_memory;

typedef struct d2c_backend d2c_backend;
typedef struct d2c_event d2c_event;
typedef struct d2c_graph d2c_graph;

typedef struct d2c_adamw {
    float beta1, beta2, eps, weight_decay;
    int coupled; /* 1: Adam's weight decay, which is a part of the gradient */
} d2c_adamw;

/*
 * The table a backend fills in.  It only grows at its end; `size` is sizeof at the backend's compile time.  Each
 * entry has the meaning, and exactly the checked arguments, of the d2c_ function of the same name below.
 */
#define D2C_OPS_VERSION 4

typedef struct d2c_ops {
    size_t size;
    int version;
    const char *name; /* "reference", "cpu", "cuda" */

    void (*close)(d2c_backend *be);
    d2c_status (*alloc)(d2c_backend *be, void **block, size_t bytes, d2c_memory kind);
    void (*free)(d2c_backend *be, void *block, d2c_memory kind);
    d2c_status (*upload)(d2c_backend *be, void *device, const void *host, size_t bytes);
    d2c_status (*download)(d2c_backend *be, void *host, const void *device, size_t bytes);
    d2c_status (*copy)(d2c_backend *be, void *to, const void *from, size_t bytes);
    d2c_status (*zero)(d2c_backend *be, void *device, size_t bytes);
    d2c_status (*synchronize)(d2c_backend *be);
    d2c_status (*event_record)(d2c_backend *be, d2c_event **event);
    d2c_status (*event_wait)(d2c_backend *be, d2c_event *event);
    void (*event_free)(d2c_backend *be, d2c_event *event);
    d2c_status (*capture_begin)(d2c_backend *be);
    d2c_status (*capture_end)(d2c_backend *be, d2c_graph **graph);
    d2c_status (*graph_launch)(d2c_backend *be, d2c_graph *graph);
    void (*graph_free)(d2c_backend *be, d2c_graph *graph);

    d2c_status (*linear_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x,
                                 const d2c_weight *w, d2c_act act);
    d2c_status (*linear_backward_input)(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                                        d2c_tensor pre, d2c_act act, int accumulate);
    d2c_status (*linear_backward_weight)(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x);
    d2c_status (*attention_forward)(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv,
                                    d2c_tensor bias, int heads, float scale);
    d2c_status (*attention_backward)(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o,
                                     d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias, int heads, float scale);
    d2c_status (*modulate_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                   d2c_tensor shift, d2c_tensor scale, float eps);
    d2c_status (*modulate_backward)(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale,
                                    d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor scale);
    d2c_status (*gate_residual_forward)(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate);
    d2c_status (*gate_residual_backward)(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx,
                                         d2c_tensor y, d2c_tensor gate);
    d2c_status (*gate_modulate_forward)(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat,
                                        d2c_tensor x, d2c_tensor y, d2c_tensor gate, d2c_tensor shift,
                                        d2c_tensor scale, float eps);
    d2c_status (*layernorm_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                    d2c_tensor gamma, d2c_tensor beta, float eps);
    d2c_status (*layernorm_backward)(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta,
                                     d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor gamma);
    d2c_status (*act_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act);
    d2c_status (*act_backward)(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act);
    d2c_status (*axpby)(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b);
    d2c_status (*cast)(d2c_backend *be, d2c_tensor y, d2c_tensor x);
    d2c_status (*add_rows)(d2c_backend *be, d2c_tensor x, d2c_tensor rows);
    d2c_status (*gather)(d2c_backend *be, d2c_tensor y, d2c_tensor table, d2c_tensor index);
    d2c_status (*scatter_add)(d2c_backend *be, d2c_tensor dtable, d2c_tensor dy, d2c_tensor index);
    d2c_status (*timestep_embedding)(d2c_backend *be, d2c_tensor y, d2c_tensor t);
    d2c_status (*patchify)(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order);
    d2c_status (*unpatchify)(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order);
    d2c_status (*text_unfold)(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask);
    d2c_status (*draw_normal)(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                              int purpose);
    d2c_status (*drop_labels)(d2c_backend *be, d2c_tensor kept, d2c_tensor keep, d2c_tensor label,
                              uint64_t seed, d2c_tensor id, d2c_tensor epoch, float probability,
                              int64_t null_label);
    d2c_status (*path_coefficients)(d2c_backend *be, d2c_tensor coefficient, d2c_tensor t, d2c_path path);
    d2c_status (*diffuse)(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                          d2c_tensor coefficient);
    d2c_status (*mse_loss)(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                           const d2c_step_record *record);
    d2c_status (*cosine_loss)(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q,
                              float weight, const d2c_step_record *record);
    d2c_status (*finish_loss)(d2c_backend *be, d2c_step_record *record, d2c_tensor loss);
    d2c_status (*gradient_norm)(d2c_backend *be, d2c_step_record *record, d2c_tensor grad);
    d2c_status (*adamw_step)(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                             d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                             const d2c_step_record *record);

    d2c_status (*upload_early)(d2c_backend *be, void *device, const void *host, size_t bytes);
    d2c_status (*download_later)(d2c_backend *be, void *pinned, const void *device, size_t bytes);
    d2c_status (*memory_use)(d2c_backend *be, size_t *available, size_t *total);
    void (*tune)(d2c_backend *be, int on);
    d2c_status (*choose)(d2c_backend *be, const char *choices);
    d2c_status (*tuned)(d2c_backend *be, char **choices);
    d2c_status (*quantize)(d2c_backend *be, d2c_tensor y, d2c_tensor x);

    d2c_status (*conv2d_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_weight *w,
                                 const d2c_window *window, d2c_act act);
    d2c_status (*groupnorm_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma,
                                    d2c_tensor beta, int groups, float eps, d2c_act act);
    d2c_status (*upsample_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor x);
    d2c_status (*pool_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_window *window,
                               d2c_pool_kind kind);
    d2c_status (*rmsnorm_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, float eps);
    d2c_status (*glu_forward)(d2c_backend *be, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act);

    d2c_status (*dit_loss)(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor noise,
                           d2c_tensor x, d2c_tensor bound, const d2c_step_record *record);
} d2c_ops;

struct d2c_backend {
    const d2c_ops *ops;
    void *impl;      /* the backend's own state */
    int threads;     /* CPU threads it computes with; 1 for a device */
    int has_bf16;    /* the hardware multiplies bf16; otherwise products of bf16 are D2C_UNSUPPORTED */
    d2c_error error; /* the newest failure of an op on this backend */
    char arithmetic
        [64];   /* library and instruction set, on which the last bits depend; empty: the program alone */
    int has_f8; /* the hardware multiplies e4m3; otherwise its products are D2C_UNSUPPORTED */
    int lost;   /* the device has failed for good: every later op of this process fails as well */
};

/*
 * Opens a backend.  device: "cpu" (oneDNN), "reference" (plain C with double sums: the oracle of the tests),
 * "cuda" or "cuda:n".  threads: how many this backend computes with.  D2C_UNSUPPORTED when the device is not there.
 * A backend is used by one host thread at a time; several may be open.
 */
d2c_status d2c_backend_open(d2c_backend **be, const char *device, int threads, d2c_error *err);
void d2c_backend_close(d2c_backend *be);

/* Copies the newest failure of `be` to *err; returns its status. */
d2c_status d2c_backend_error(const d2c_backend *be, d2c_error *err);

/* Makes dense views, with scale NULL; dims[0] is the slowest.  A row view [rows, width] with a stride is made by d2c_rows. */
d2c_tensor d2c_tensor1(void *data, d2c_dtype dtype, int64_t d0);
d2c_tensor d2c_tensor2(void *data, d2c_dtype dtype, int64_t d0, int64_t d1);
d2c_tensor d2c_tensor3(void *data, d2c_dtype dtype, int64_t d0, int64_t d1, int64_t d2);
d2c_tensor d2c_tensor4(void *data, d2c_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
d2c_tensor d2c_rows(void *data, d2c_dtype dtype, int64_t rows, int64_t width, int64_t row_stride);
d2c_tensor d2c_absent(void);
size_t d2c_dtype_size(d2c_dtype dtype);
int64_t d2c_tensor_count(d2c_tensor t);

/* ---- memory and order -------------------------------------------------------------------------------------- */

/* Device memory is where ops read and write; pinned memory is host memory that copies fast. Aligned to 256. */
d2c_status d2c_alloc(d2c_backend *be, void **block, size_t bytes, d2c_memory kind);
void d2c_free(d2c_backend *be, void *block, d2c_memory kind);
d2c_status d2c_upload(d2c_backend *be, void *device, const void *host, size_t bytes);
d2c_status d2c_download(d2c_backend *be, void *host, const void *device, size_t bytes);
d2c_status d2c_copy(d2c_backend *be, void *to, const void *from, size_t bytes);
d2c_status d2c_zero(d2c_backend *be, void *device, size_t bytes);
d2c_status d2c_synchronize(d2c_backend *be);

/* An upload that does not wait for what is queued, so that it overlaps with computing: nothing queued may use the
 * destination.  What is queued afterwards sees it.  On the CPU the same as d2c_upload. */
d2c_status d2c_upload_early(d2c_backend *be, void *device, const void *host, size_t bytes);

/* A download that is queued like an op, into pinned memory: what it brings is there once an event recorded after it has
 * been waited for.  On the CPU the same as d2c_download. */
d2c_status d2c_download_later(d2c_backend *be, void *pinned, const void *device, size_t bytes);

/* Bytes of device memory that an allocation may still get, and of the device; both 0 where they are not known. */
d2c_status d2c_memory_use(d2c_backend *be, size_t *available, size_t *total);

/* A point in the stream: wait returns when everything queued before it is done.  Record reuses *event unless it is
 * NULL.  A backend that computes before it returns has none: *event stays as it is, wait and free do nothing. */
d2c_status d2c_event_record(d2c_backend *be, d2c_event **event);
d2c_status d2c_event_wait(d2c_backend *be, d2c_event *event);
void d2c_event_free(d2c_backend *be, d2c_event *event);

/* What is queued between begin and end is not run but kept, and run by every launch.  D2C_UNSUPPORTED on the CPU.  In
 * between nothing is allocated, uploaded, downloaded or waited for; what the ops need besides their tensors is there
 * when the same calls ran before. */
d2c_status d2c_capture_begin(d2c_backend *be);
d2c_status d2c_capture_end(d2c_backend *be, d2c_graph **graph);
d2c_status d2c_graph_launch(d2c_backend *be, d2c_graph *graph);
void d2c_graph_free(d2c_backend *be, d2c_graph *graph);

/* While tuning is on, the algorithm of each shape of product is the fastest of those measured, as training steps want it.
 * While it is off, as at first, a new shape takes the library's first proposal, which is the same in every process. */
void d2c_tune(d2c_backend *be, int on);

/* d2c_tuned: what was chosen by measuring, one line a shape, malloc'd; "" where a backend has nothing to choose.  d2c_choose
 * takes such a text over (NULL, "": nothing), and its shapes are not measured. */
d2c_status d2c_choose(d2c_backend *be, const char *choices);
d2c_status d2c_tuned(d2c_backend *be, char **choices);

/* ---- matrix products --------------------------------------------------------------------------------------- */

/* y [N, out] = act(x [N, in] W^T + b); pre [N, out], when present, receives the value before act.  x and y f32 or
 * bf16, each by itself; a bf16 x multiplies w->shadow, and the bias of a bf16 y may be rounded to bf16.  Rows of x, y
 * and pre may be strided.  pre needs an act, which may then see pre as it is stored.  x may also be e4m3, dense and with its scale: it multiplies w->eight, widths are
 * multiples of 16, y is bf16 and there is no pre. */
d2c_status d2c_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x,
                              const d2c_weight *w, d2c_act act);

/* dx [N, in] = (dy [N, out] W) * act'(pre [N, in]): pre and act are those of the layer that made this layer's
 * input, absent and D2C_ACT_NONE when there is none.  A bf16 dy multiplies w->shadow.  accumulate: added to dx, which
 * is f32 then, and act is none. */
d2c_status d2c_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                                     d2c_tensor pre, d2c_act act, int accumulate);

/* w->grad += dy^T x; w->bias_grad += column sums of dy.  dy [N, out] and x [N, in] of one dtype. */
d2c_status d2c_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x);

/* Softmax attention of B*H heads.  qkv [B, T, 3C], each row q then k then v, head h at columns h*C/H; o [B, T, C];
 * lse [B, H, T] f32 = log of the sum of exponentials, kept for the backward pass (may be absent when there is none);
 * bias, optional, f32 [B, H, T, T] with stride 0 where it is broadcast, is added to the scaled scores; it is finite
 * (a mask is -1e9, not -inf).  o, dout and dqkv have qkv's dtype; dqkv is set. */
d2c_status d2c_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv,
                                 d2c_tensor bias, int heads, float scale);
d2c_status d2c_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o,
                                  d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias, int heads, float scale);

/* ---- norms, gates, activations ----------------------------------------------------------------------------- */

/* y [B, T, C] = LN(x [B, T, C] f32) * (1 + scale [B, C]) + shift [B, C]; stat [B, T, 2] f32 = mean, 1/deviation.
 * y f32 or bf16.  Rows of shift and scale may be strided: they are columns of the all-layer adaLN product. */
d2c_status d2c_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                d2c_tensor shift, d2c_tensor scale, float eps);

/* dx [B, T, C] f32 is added to (the residual stream); dshift and dscale [B, C] f32 are set, rows may be strided. */
d2c_status d2c_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale,
                                 d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor scale);

/* x [B, T, C] f32 += gate [B, C] * y [B, T, C]. */
d2c_status d2c_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate);

/* dy [B, T, C] = gate * dx; dgate [B, C] = sum over T of dx * y, set, rows may be strided; dx is left as it is. */
d2c_status d2c_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx,
                                      d2c_tensor y, d2c_tensor gate);

/* out = x + gate * y, then h = LN(out) * (1 + scale) + shift and stat: the two ops above in one pass.  out may be x. */
d2c_status d2c_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat,
                                     d2c_tensor x, d2c_tensor y, d2c_tensor gate, d2c_tensor shift,
                                     d2c_tensor scale, float eps);

/* y [N, C] = LN(x [N, C]) * gamma [C] + beta [C]; gamma and beta absent, both: plain.  stat [N, 2]; may be absent. */
d2c_status d2c_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x,
                                 d2c_tensor gamma, d2c_tensor beta, float eps);

/* dx [N, C] is set; dgamma and dbeta [C] f32, absent when gamma is or is frozen, are added to. */
d2c_status d2c_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta,
                                  d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor gamma);

/* y = act(x); dx = dy * act'(x), x the input of act.  Any shape, equal counts; dtypes free; dx may be dy. */
d2c_status d2c_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act);
d2c_status d2c_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act);

/* y = a*x + b*y, f32, equal counts; b = 0 does not read y. */
d2c_status d2c_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b);

/* y = x with y's dtype (f32, bf16, f16; to bf16 and f16 by round to nearest even). Rows of both may be strided. */
d2c_status d2c_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x);

/* y [N, W] e4m3 = x [N, W] / *y.scale, rounded to nearest even, where *y.scale is set to the largest |x| / 448, so that
 * it becomes the largest e4m3; to 1 when x is all 0.  A NaN in x makes the scale a NaN. */
d2c_status d2c_quantize(d2c_backend *be, d2c_tensor y, d2c_tensor x);

/* x [B, T, C] f32 += rows [T, C] f32. */
d2c_status d2c_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows);

/* y [N, C] = x [N, C] / sqrt(mean of x^2 + eps) * gamma [C]: T5's norm. */
d2c_status d2c_rmsnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, float eps);

/* y [N, C] = act(gate [N, C]) * value [N, C].  Rows of gate and value may be strided: they are the halves of one product. */
d2c_status d2c_glu_forward(d2c_backend *be, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act);

/* ---- images, channels last ------------------------------------------------------------------------------------- */

/* y [B, P, Q, O] = act(convolution of x [B, H, W, I] + b).  w->value [O, height*width*I], each row in the order
 * (row, column, channel) of the kernel: torch's weight with its channels last.  P and Q are what window, H and W give.
 * x and y f32 or bf16, each by itself; a bf16 x multiplies w->shadow.  Forward only, like all ops of this section. */
d2c_status d2c_conv2d_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_weight *w,
                              const d2c_window *window, d2c_act act);

/* y [B, P, C] = act((x [B, P, C] - mean) / deviation * gamma [C] + beta [C]), mean and deviation over the P pixels and
 * C/groups channels of a group.  x and y f32 or bf16, each by itself; [B, H, W, C] is joined to [B, H*W, C]. */
d2c_status d2c_groupnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma,
                                 d2c_tensor beta, int groups, float eps, d2c_act act);

/* y [B, 2H, 2W, C] = x [B, H, W, C], each pixel four times; of one dtype. */
d2c_status d2c_upsample_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x);

/* y [B, P, Q, C] = maximum or mean of the window over x [B, H, W, C]; what lies outside does not count; of one dtype. */
d2c_status d2c_pool_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_window *window,
                            d2c_pool_kind kind);

/* ---- embeddings and layout --------------------------------------------------------------------------------- */

/* y [N, C] f32 = table [V, C] f32 at index [N] i64.  Indices outside the table are the caller's error; the CPU
 * checks them: D2C_INVALID_ARGUMENT. */
d2c_status d2c_gather(d2c_backend *be, d2c_tensor y, d2c_tensor table, d2c_tensor index);

/* dtable [V, C] f32 += dy [N, C] f32 at index, in order of the rows. */
d2c_status d2c_scatter_add(d2c_backend *be, d2c_tensor dtable, d2c_tensor dy, d2c_tensor index);

/* y [B, W] = cos(t f_0..), sin(t f_0..) with f_i = 10000^(-i/(W/2)); t [B] f32, unscaled. */
d2c_status d2c_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t);

/* y [B, T, p*p*C] from x [B, C, H, W]; token r*(W/p)+c.  Channel first: (ch, i, j), the convolution weight's order;
 * channel last: (i, j, ch).  y may have more channels than x: they are set to 0. */
d2c_status d2c_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order);

/* The inverse; channels of y beyond x's are dropped. */
d2c_status d2c_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order);

/* y [B, W*L] = x [B, L, W] * mask [B, L] f32, at index w*L + l: the input of a Conv1d whose kernel and stride are L,
 * as a linear layer over torch's weight [out, W, L]. */
d2c_status d2c_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask);

/* ---- randomness (philox.h) --------------------------------------------------------------------------------- */

/* y [B, n] f32: element j of row b depends on (seed, purpose, id[b], epoch[b], j) alone.  id, epoch [B] i64. */
d2c_status d2c_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                           int purpose);

/* kept [B] i64 = label or, with the probability, null_label; keep [B] f32 = 1 or 0 the same way.  Either may be
 * absent.  Dropped when the first uniform of D2C_PURPOSE_LABEL_DROP is below the probability. */
d2c_status d2c_drop_labels(d2c_backend *be, d2c_tensor kept, d2c_tensor keep, d2c_tensor label, uint64_t seed,
                           d2c_tensor id, d2c_tensor epoch, float probability, int64_t null_label);

/* ---- diffusion and losses ---------------------------------------------------------------------------------- */

/* coefficient [B, 4] f32 = alpha, sigma, d alpha/dt, d sigma/dt at t [B]. */
d2c_status d2c_path_coefficients(d2c_backend *be, d2c_tensor coefficient, d2c_tensor t, d2c_path path);

/* xt = alpha x + sigma noise; target, optional, = alpha' x + sigma' noise.  All [B, n] f32. */
d2c_status d2c_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                       d2c_tensor coefficient);

/* loss [B] = mean over n of (v - target)^2; dv, optional, = 2 (v - target) / n * record->loss_scale.  [B, n] f32.
 * record may be NULL where dv is absent. */
d2c_status d2c_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                        const d2c_step_record *record);

/* DiT's loss (facebookresearch/DiT diffusion/, squared error with a learned range of variance).  v [B, 2n] is the
 * predicted noise and, behind it, the logarithm of the variance as a fraction of its range, -1 to 1.  loss [B] = mean over
 * n of (predicted - noise)^2 and of the variational bound's term in bits, which has a gradient by the fraction alone: the
 * divergence of the step before's true distribution from the predicted one, or in the first step the bits of data x (base/pixel_bits.h).
 * bound [B, 4] = the distance of the two means for an error of 1 in the noise, the logarithms of the least and of the
 * greatest variance, and 1 in the first step, else 0.  dv, optional, = the gradient * record->loss_scale; record may be NULL
 * where it is absent.  All f32. */
d2c_status d2c_dit_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor noise,
                        d2c_tensor x, d2c_tensor bound, const d2c_step_record *record);

/* loss [B] f32 = weight * mean over T of -cos(z, q), z and q [B, T, W], norms at least 1e-12; q may be f16, bf16 or
 * f32; dz, optional, = its gradient * record->loss_scale.  record may be NULL where dz is absent. */
d2c_status d2c_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q,
                           float weight, const d2c_step_record *record);

/* record->loss += record->loss_scale * sum of loss [any count], summed in order; the host zeroes it by its upload. */
d2c_status d2c_finish_loss(d2c_backend *be, d2c_step_record *record, d2c_tensor loss);

/* ---- optimizer --------------------------------------------------------------------------------------------- */

/* Sets grad_norm, clip_scale and skip of the record from grad [n] f32 and record->loss.  Fixed order of sums. */
d2c_status d2c_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad);

/* torch's AdamW, or its Adam where setting->coupled, over flat ranges [n] f32, gradients times clip_scale; then ema += (1 - ema_decay)(value - ema) and
 * shadow = bf16(value), both optional.  Does nothing when record->skip is set. */
d2c_status d2c_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                          d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                          const d2c_step_record *record);

#endif
