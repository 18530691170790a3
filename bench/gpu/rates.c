/*
 * rates.c: how fast the device's ops are, as Markdown tables: those bound by bandwidth beside a copy on the device, matrix
 * products and attention in TFLOP/s.
 *
 *   rates [--device cuda] [--images 256] [--tokens 256] [--hidden 1152] [--seconds 0.2]
 *
 * Sizes are those of SiT-XL/2's training step, and of an autoencoder's two ends: images of `tokens` pixels a side with
 * hidden/9 channels, 256 and 128, and of an eighth of that with four times the channels.  Bytes are those that an op must
 * read and write, each once, unless the table says otherwise.
 */
#include "gpu.h"

#define EPS 1e-6f

static double seconds = 0.2, copy_rate;
static int64_t images, tokens, hidden;

/* ---- bound by bandwidth ---------------------------------------------------------------------------------------- */

/* Bytes read and written a second by a copy of as much as the largest tensor of the ops below. */
static void
measure_copy(void)
{
    size_t bytes = (size_t)(images * tokens * hidden) * sizeof(float);
    void *from = gpu_tensor(D2C_F32, images * tokens, hidden, 1).data, *to = gpu_memory(bytes);
    double time;

    GPU_TIME(time, seconds, d2c_copy(be, to, from, bytes));
    copy_rate = 2.0 * (double)bytes / time;
    printf("A copy on the device moves %.0f GB/s (read and written).\n\n", copy_rate * 1e-9);
    d2c_free(be, from, D2C_MEMORY_DEVICE);
    d2c_free(be, to, D2C_MEMORY_DEVICE);
}

static void
print_rate(const char *op, const char *what, double bytes, double time)
{
    printf("| %s | %s | %.0f | %.1f | %.0f | %.2f |\n", op, what, bytes * 1e-6, time * 1e6,
           bytes / time * 1e-9, bytes / time / copy_rate);
    fflush(stdout);
}

#define RATE(op, what, bytes, call)                                                                          \
    do {                                                                                                     \
        double rate_time;                                                                                    \
        GPU_TIME(rate_time, seconds, call);                                                                  \
        print_rate(op, what, bytes, rate_time);                                                              \
    } while (0)

static d2c_tensor
tokens_of(d2c_tensor t)
{
    return d2c_tensor3(t.data, t.dtype, images, tokens, t.dim[1]);
}

/* Norms, gates and their gradients over [B, T, C]: f32 residual stream, bf16 operands. */
static void
measure_norms(void)
{
    int64_t rows = images * tokens, c = hidden;
    double n = (double)(rows * c);
    d2c_tensor x = tokens_of(gpu_tensor(D2C_F32, rows, c, 1)),
               dx = tokens_of(gpu_tensor(D2C_F32, rows, c, 1));
    d2c_tensor y = tokens_of(gpu_tensor(D2C_BF16, rows, c, 1)),
               h = tokens_of(gpu_tensor(D2C_BF16, rows, c, 1));
    d2c_tensor stat = tokens_of(gpu_tensor(D2C_F32, rows, 2, 1)), none = d2c_absent();
    d2c_tensor shift = gpu_tensor(D2C_F32, images, c, 1), scale = gpu_tensor(D2C_F32, images, c, 1);
    d2c_tensor gate = gpu_tensor(D2C_F32, images, c, 0.01f), table = gpu_tensor(D2C_F32, tokens, c, 0.01f);

    RATE("modulate_forward", "x f32, y bf16", n * 6, d2c_modulate_forward(be, h, stat, x, shift, scale, EPS));
    RATE("gate_modulate_forward", "x, out f32, y, h bf16", n * 12,
         d2c_gate_modulate_forward(be, dx, h, stat, x, y, gate, shift, scale, EPS));
    RATE("modulate_backward", "dy bf16, x, dx (added) f32", n * 14,
         d2c_modulate_backward(be, dx, shift, gate, y, x, stat, scale));
    RATE("gate_residual_forward", "x (added) f32, y bf16", n * 10,
         d2c_gate_residual_forward(be, dx, y, scale));
    RATE("gate_residual_backward", "dx f32, y, dy bf16", n * 8,
         d2c_gate_residual_backward(be, h, shift, x, y, scale));
    RATE("layernorm_forward", "x f32, y bf16", n * 6, d2c_layernorm_forward(be, h, none, x, none, none, EPS));
    RATE("layernorm_backward", "dy, dx bf16, x f32", n * 8,
         d2c_layernorm_backward(be, h, none, none, y, x, stat, none));
    RATE("cast", "f32 to bf16", n * 6, d2c_cast(be, h, x));
    RATE("axpby", "y f32 read and written, x", n * 12, d2c_axpby(be, dx, 0.5f, x, 0.5f));
    RATE("add_rows", "x f32 read and written", n * 8, d2c_add_rows(be, dx, table));
    gpu_free(x);
    gpu_free(dx);
    gpu_free(y);
    gpu_free(h);
    gpu_free(stat);
    gpu_free(shift);
    gpu_free(scale);
    gpu_free(gate);
    gpu_free(table);
}

/* GELU over [B, T, 4C], the alignment loss over [B, T, 768]. */
static void
measure_activations(void)
{
    int64_t rows = images * tokens, w = 768;
    double n = (double)(rows * 4 * hidden), m = (double)(rows * w);
    d2c_tensor x = gpu_tensor(D2C_BF16, rows, 4 * hidden, 1), y = gpu_tensor(D2C_BF16, rows, 4 * hidden, 1);
    d2c_tensor z = tokens_of(gpu_tensor(D2C_F32, rows, w, 1)), q = tokens_of(gpu_tensor(D2C_F16, rows, w, 1));
    d2c_tensor dz = tokens_of(gpu_tensor(D2C_F32, rows, w, 1)), loss = gpu_tensor(D2C_F32, images, 1, 1);
    d2c_step_record record = {.loss_scale = 1.0f / 256};
    d2c_step_record *at = gpu_upload(&record, sizeof record);

    RATE("act_forward", "GELU, x, y bf16", n * 4, d2c_act_forward(be, y, x, D2C_ACT_GELU_TANH));
    RATE("act_backward", "GELU, dx, dy, x bf16", n * 6, d2c_act_backward(be, y, y, x, D2C_ACT_GELU_TANH));
    loss = d2c_tensor1(loss.data, D2C_F32, images);
    RATE("cosine_loss", "z, dz f32, q f16", m * 10, d2c_cosine_loss(be, loss, dz, z, q, 0.5f, at));
    gpu_free(x);
    gpu_free(y);
    gpu_free(z);
    gpu_free(q);
    gpu_free(dz);
    gpu_free(loss);
    d2c_free(be, at, D2C_MEMORY_DEVICE);
}

/* Over as many parameters as SiT-B/2 has at hidden 1152's images and tokens: 130 million. */
static void
measure_optimizer(void)
{
    int64_t rows = images * 512, width = 1000, n = rows * width;
    d2c_tensor value = gpu_tensor(D2C_F32, rows, width, 0.02f), m = gpu_tensor(D2C_F32, rows, width, 1e-3f);
    d2c_tensor v = gpu_tensor(D2C_F32, rows, width, 0), ema = gpu_tensor(D2C_F32, rows, width, 0.02f);
    d2c_tensor grad = gpu_tensor(D2C_F32, rows, width, 1e-3f);
    d2c_tensor shadow = gpu_tensor(D2C_BF16, rows, width, 0.02f);
    d2c_adamw setting = {0.9f, 0.999f, 1e-8f, 0.0f, 0};
    d2c_step_record record = {.learning_rate = 1e-4f,
                              .bias_correction1 = 0.1f,
                              .bias_correction2 = 0.001f,
                              .ema_decay = 0.9f,
                              .max_grad_norm = 1.0f,
                              .clip_scale = 1.0f};
    d2c_step_record *at = gpu_upload(&record, sizeof record);

#define FLAT(t) d2c_tensor1((t).data, (t).dtype, n)
    RATE("gradient_norm", "grad f32", (double)n * 4, d2c_gradient_norm(be, at, FLAT(grad)));
    RATE(
        "adamw_step", "value, m, v, EMA read and written, grad f32, shadow bf16", (double)n * 38,
        d2c_adamw_step(be, FLAT(value), FLAT(m), FLAT(v), FLAT(ema), FLAT(shadow), FLAT(grad), &setting, at));
    RATE("zero", "gradients f32", (double)n * 4, d2c_zero(be, grad.data, (size_t)n * sizeof(float)));
    gpu_free(value);
    gpu_free(m);
    gpu_free(v);
    gpu_free(ema);
    gpu_free(grad);
    gpu_free(shadow);
    d2c_free(be, at, D2C_MEMORY_DEVICE);
}

/* ---- images: the bandwidth of what is not a product ------------------------------------------------------------ */

/* Images in a batch, their side and channels where they are large. */
static int64_t
image_batch(void)
{
    return images / 32 > 0 ? images / 32 : 1;
}

/* Small images are taken this many times as often: a batch of them would fit into an H100's 50 MB of L2, and no rate of
 * its memory be measured. */
#define SMALL_IMAGES 16

/* [B, side, side, channels] */
static d2c_tensor
make_images(d2c_dtype dtype, int64_t batch, int64_t side, int64_t channels)
{
    return d2c_tensor4(gpu_tensor(dtype, batch * side * side, channels, 1).data, dtype, batch, side, side,
                       channels);
}

static d2c_tensor
make_vector(int64_t count)
{
    return d2c_tensor1(gpu_tensor(D2C_F32, 1, count, 1).data, D2C_F32, count);
}

static void
measure_image_norms(int64_t batch, int64_t side, int64_t channels)
{
    double n = (double)(batch * side * side * channels);
    d2c_tensor x = make_images(D2C_F32, batch, side, channels),
               y = make_images(D2C_BF16, batch, side, channels);
    d2c_tensor gamma = make_vector(channels), beta = make_vector(channels);
    int groups = channels % 32 == 0 ? 32 : 1;

    RATE("groupnorm_forward", "SiLU, x f32 (twice), y bf16", n * 10,
         d2c_groupnorm_forward(be, y, x, gamma, beta, groups, EPS, D2C_ACT_SILU));
    RATE("groupnorm_forward", "SiLU, x (twice), y bf16", n * 6,
         d2c_groupnorm_forward(be, y, y, gamma, beta, groups, EPS, D2C_ACT_SILU));
    gpu_free(x);
    gpu_free(y);
    gpu_free(gamma);
    gpu_free(beta);
}

static void
measure_image_sizes(int64_t side, int64_t channels)
{
    const d2c_window halve = {3, 3, 2, 1, 1, 1, 1};
    double n = (double)(image_batch() * side * side * channels);
    d2c_tensor large = make_images(D2C_BF16, image_batch(), side, channels),
               small = make_images(D2C_BF16, image_batch(), side / 2, channels);

    RATE("upsample_forward", "x, y bf16", n * 2.5, d2c_upsample_forward(be, large, small));
    RATE("pool_forward", "maximum of 3x3 by 2, x, y bf16", n * 2.5,
         d2c_pool_forward(be, small, large, &halve, D2C_POOL_MAX));
    RATE("pool_forward", "mean of 3x3 by 2, x, y bf16", n * 2.5,
         d2c_pool_forward(be, small, large, &halve, D2C_POOL_MEAN));
    gpu_free(large);
    gpu_free(small);
}

/* T5's norm, and its gate over halves of a product. */
static void
measure_text(void)
{
    int64_t rows = images * tokens, wide = 2 * hidden;
    double n = (double)(rows * hidden);
    d2c_tensor x = gpu_tensor(D2C_F32, rows, hidden, 1), y = gpu_tensor(D2C_BF16, rows, hidden, 1);
    d2c_tensor both = gpu_tensor(D2C_BF16, rows, 2 * wide, 1), out = gpu_tensor(D2C_BF16, rows, wide, 1);
    d2c_tensor gamma = make_vector(hidden);
    d2c_tensor gate = d2c_rows(both.data, D2C_BF16, rows, wide, 2 * wide),
               value = d2c_rows((char *)both.data + wide * 2, D2C_BF16, rows, wide, 2 * wide);

    RATE("rmsnorm_forward", "x f32, y bf16", n * 6, d2c_rmsnorm_forward(be, y, x, gamma, EPS));
    RATE("glu_forward", "GELU, gate, value, y bf16", n * 12,
         d2c_glu_forward(be, out, gate, value, D2C_ACT_GELU_TANH));
    gpu_free(x);
    gpu_free(y);
    gpu_free(both);
    gpu_free(out);
    gpu_free(gamma);
}

static void
table_of_rates(void)
{
    measure_copy();
    printf(
        "| op | reads and writes | MB | us | GB/s | of the copy |\n| --- | --- | --- | --- | --- | --- |\n");
    measure_norms();
    measure_activations();
    measure_optimizer();
    measure_image_norms(image_batch(), tokens, hidden / 9);
    measure_image_norms(SMALL_IMAGES * image_batch(), tokens / 8, hidden / 9 * 4);
    measure_image_sizes(tokens, hidden / 9);
    measure_text();
    printf("\n");
}

/* ---- bound by arithmetic --------------------------------------------------------------------------------------- */

static void
print_flops(const char *what, const char *shape, double flops, double time)
{
    printf("| %s | %s | %.1f | %.0f |\n", what, shape, time * 1e6, flops / time * 1e-12);
    fflush(stdout);
}

static d2c_weight
make_weight(int64_t in, int64_t out)
{
    d2c_weight w = {.value = gpu_tensor(D2C_F32, out, in, 0.02f),
                    .shadow = gpu_tensor(D2C_BF16, out, in, 0.02f),
                    .grad = gpu_tensor(D2C_F32, out, in, 1e-3f)};

    w.bias = d2c_tensor1(gpu_tensor(D2C_F32, 1, out, 0.02f).data, D2C_F32, out);
    w.bias_grad = d2c_tensor1(gpu_tensor(D2C_F32, 1, out, 0.02f).data, D2C_F32, out);
    return w;
}

static void
free_weight(const d2c_weight *w)
{
    gpu_free(w->value);
    gpu_free(w->shadow);
    gpu_free(w->grad);
    gpu_free(w->bias);
    gpu_free(w->bias_grad);
}

/* A layer's three products as the training step calls them: fc1 with GELU behind it, fc2's gradient with GELU's before
 * it, bias gradients with the weights'. */
static void
measure_linear(const char *name, int64_t in, int64_t out)
{
    int64_t rows = images * tokens;
    int gelu = strcmp(name, "fc1") == 0, after_gelu = strcmp(name, "fc2") == 0;
    double flops = 2.0 * (double)rows * (double)in * (double)out, time;
    d2c_tensor x = gpu_tensor(D2C_BF16, rows, in, 1), dx = gpu_tensor(D2C_BF16, rows, in, 1);
    d2c_tensor y = gpu_tensor(D2C_BF16, rows, out, 1), none = d2c_absent();
    d2c_tensor pre = gelu ? gpu_tensor(D2C_BF16, rows, out, 1) : none;
    d2c_weight w = make_weight(in, out);
    char shape[64];

    snprintf(shape, sizeof shape, "%s %lld x %lld to %lld", name, (long long)rows, (long long)in,
             (long long)out);
    GPU_TIME(time, seconds, d2c_linear_forward(be, y, pre, x, &w, gelu ? D2C_ACT_GELU_TANH : D2C_ACT_NONE));
    print_flops(gelu ? "forward, bias, GELU" : "forward, bias", shape, flops, time);
    GPU_TIME(time, seconds,
             d2c_linear_backward_input(be, dx, y, &w, after_gelu ? x : none,
                                       after_gelu ? D2C_ACT_GELU_TANH : D2C_ACT_NONE, 0));
    print_flops(after_gelu ? "to the input, GELU's slope" : "to the input", shape, flops, time);
    GPU_TIME(time, seconds, d2c_linear_backward_weight(be, &w, y, x));
    print_flops("to weight and bias", shape, flops, time);
    free_weight(&w);
    gpu_free(x);
    gpu_free(dx);
    gpu_free(y);
    if (gelu)
        gpu_free(pre);
}

/* Backward has five products to forward's two. */
static void
measure_attention(int64_t batch, int64_t length, int64_t heads, int64_t width)
{
    int64_t c = heads * width, rows = batch * length;
    double flops = 4.0 * (double)(rows * length) * (double)c, time;
    d2c_tensor qkv = gpu_tensor(D2C_BF16, rows, 3 * c, 1), dqkv = gpu_tensor(D2C_BF16, rows, 3 * c, 1);
    d2c_tensor o = gpu_tensor(D2C_BF16, rows, c, 1), dout = gpu_tensor(D2C_BF16, rows, c, 1),
               none = d2c_absent();
    d2c_tensor lse = gpu_tensor(D2C_F32, batch * heads, length, 1);
    float scale = 0.12f;
    char shape[64];

    qkv = d2c_tensor3(qkv.data, D2C_BF16, batch, length, 3 * c);
    dqkv = d2c_tensor3(dqkv.data, D2C_BF16, batch, length, 3 * c);
    o = d2c_tensor3(o.data, D2C_BF16, batch, length, c);
    dout = d2c_tensor3(dout.data, D2C_BF16, batch, length, c);
    lse = d2c_tensor3(lse.data, D2C_F32, batch, heads, length);
    snprintf(shape, sizeof shape, "B %lld, T %lld, %lld heads of %lld", (long long)batch, (long long)length,
             (long long)heads, (long long)width);
    GPU_TIME(time, seconds, d2c_attention_forward(be, o, lse, qkv, none, (int)heads, scale));
    print_flops("attention forward", shape, flops, time);
    GPU_TIME(time, seconds, d2c_attention_backward(be, dqkv, dout, o, lse, qkv, none, (int)heads, scale));
    print_flops("attention backward", shape, 2.5 * flops, time);
    gpu_free(qkv);
    gpu_free(dqkv);
    gpu_free(o);
    gpu_free(dout);
    gpu_free(lse);
}

/* A convolution of 3x3 windows that keeps the size. */
static void
measure_convolution(d2c_dtype dtype, int64_t batch, int64_t side, int64_t channels)
{
    const d2c_window same = {3, 3, 1, 1, 1, 1, 1};
    double flops = 18.0 * (double)(batch * side * side) * (double)(channels * channels), time;
    d2c_tensor x = make_images(dtype, batch, side, channels), y = make_images(dtype, batch, side, channels);
    d2c_weight w = make_weight(9 * channels, channels);
    char shape[64];

    snprintf(shape, sizeof shape, "B %lld, %lld x %lld x %lld", (long long)batch, (long long)side,
             (long long)side, (long long)channels);
    GPU_TIME(time, seconds, d2c_conv2d_forward(be, y, x, &w, &same, D2C_ACT_NONE));
    print_flops(dtype == D2C_BF16 ? "convolution 3x3, bf16" : "convolution 3x3, f32", shape, flops, time);
    free_weight(&w);
    gpu_free(x);
    gpu_free(y);
}

/* An autoencoder's one head. */
static void
measure_wide_head(d2c_dtype dtype, int64_t batch, int64_t length, int64_t width)
{
    double flops = 4.0 * (double)(batch * length * length) * (double)width, time;
    d2c_tensor qkv = gpu_tensor(dtype, batch * length, 3 * width, 1);
    d2c_tensor o = gpu_tensor(dtype, batch * length, width, 1), none = d2c_absent();
    char shape[64];

    qkv = d2c_tensor3(qkv.data, dtype, batch, length, 3 * width);
    o = d2c_tensor3(o.data, dtype, batch, length, width);
    snprintf(shape, sizeof shape, "B %lld, T %lld, 1 head of %lld", (long long)batch, (long long)length,
             (long long)width);
    GPU_TIME(time, seconds, d2c_attention_forward(be, o, none, qkv, none, 1, 0.05f));
    print_flops(dtype == D2C_BF16 ? "attention forward, bf16" : "attention forward, f32", shape, flops, time);
    gpu_free(qkv);
    gpu_free(o);
}

/* Networks of images are not trained: their products are the library's first proposals. */
static void
table_of_images(void)
{
    int64_t channels = hidden / 9, wide = 4 * channels, b = image_batch(), i;

    printf("Of networks of images, with the library's first proposals; f32 is never TF32:\n\n"
           "| op | shape | us | TFLOP/s |\n| --- | --- | --- | --- |\n");
    for (i = be->has_bf16 ? 0 : 1; i < 2; i++) {
        d2c_dtype dtype = i == 0 ? D2C_BF16 : D2C_F32;

        measure_convolution(dtype, b, tokens, channels);
        measure_convolution(dtype, b, tokens / 8, wide);
        measure_wide_head(dtype, b, 4 * tokens, wide);
        measure_wide_head(dtype, b, 16 * tokens, wide);
    }
    printf("\n");
}

static void
table_of_flops(void)
{
    int64_t many = images, few = images / 4 > 0 ? images / 4 : 1, heads = hidden / 72;

    d2c_tune(be, 1);
    printf("With algorithms chosen as in training, by measuring:\n\n"
           "| bf16 | shape | us | TFLOP/s |\n| --- | --- | --- | --- |\n");
    measure_linear("qkv", hidden, 3 * hidden);
    measure_linear("proj", hidden, hidden);
    measure_linear("fc1", hidden, 4 * hidden);
    measure_linear("fc2", 4 * hidden, hidden);
    measure_attention(many, tokens, heads, 64);
    measure_attention(many, tokens, heads, 72);
    measure_attention(few, 4 * tokens, heads, 64);
    measure_attention(few, 4 * tokens, heads, 72);
    printf("\n");
}

int
main(int argc, char **argv)
{
    images = gpu_int(argc, argv, "--images", "256");
    tokens = gpu_int(argc, argv, "--tokens", "256");
    hidden = gpu_int(argc, argv, "--hidden", "1152");
    seconds = atof(bench_option(argc, argv, "--seconds", "0.2"));
    be = gpu_open(bench_option(argc, argv, "--device", "cuda"), 1);
    table_of_rates();
    table_of_images();
    if (be->has_bf16)
        table_of_flops();
    else
        printf("The device does not multiply bf16.\n");
    d2c_backend_close(be);
    return 0;
}
