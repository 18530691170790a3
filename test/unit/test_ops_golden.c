/*
 * test_ops_golden.c: ops against PyTorch's results (golden/ops, made by golden/make_ops.py), on every backend.
 *
 * The goldens are computed in double, so the reference must agree to f32's rounding of the result, 1e-7 of the largest
 * element; other backends compute in f32 with approximated functions, to 1e-5.  The optimizer's goldens are torch's own
 * f32 steps.
 */
#include <stdlib.h>

#include "base/safetensors.h"
#include "check.h"
#include "base/bf16.h"
#include "ops/dispatch.h"

#define MAX_BLOCKS 64

static d2c_safetensors *file;
static d2c_backend *be;
static double tolerance;
static void *block[MAX_BLOCKS];
static int blocks;

static d2c_tensor
device_tensor(int ndim, const int64_t *dim, const float *contents)
{
    d2c_tensor t = {.dtype = D2C_F32, .ndim = ndim};
    int64_t count = 1;

    for (int i = ndim - 1; i >= 0; i--) {
        t.dim[i] = dim[i];
        t.stride[i] = count;
        count *= dim[i];
    }
    if (blocks == MAX_BLOCKS || d2c_alloc(be, &block[blocks], (size_t)count * 4, D2C_MEMORY_DEVICE) != D2C_OK)
        abort();
    t.data = block[blocks++];
    if (contents != NULL && d2c_upload(be, t.data, contents, (size_t)count * 4) != D2C_OK)
        abort();
    return t;
}

static void
release_blocks(void)
{
    while (blocks > 0)
        d2c_free(be, block[--blocks], D2C_MEMORY_DEVICE);
}

/* A golden tensor's numbers; the caller frees them. */
static float *
golden_numbers(const char *name, const d2c_st_tensor **tensor)
{
    float *numbers;

    *tensor = d2c_safetensors_find(file, name);
    if (*tensor == NULL) {
        fprintf(stderr, "golden has no %s\n", name);
        abort();
    }
    numbers = malloc((size_t)(*tensor)->count * sizeof *numbers);
    if (numbers == NULL || d2c_st_tensor_to_f32(numbers, *tensor, (*tensor)->count, NULL) != D2C_OK)
        abort();
    return numbers;
}

/* A golden tensor on the device. */
static d2c_tensor
golden(const char *name)
{
    const d2c_st_tensor *tensor;
    float *numbers = golden_numbers(name, &tensor);
    d2c_tensor t = device_tensor(tensor->ndim, tensor->dim, numbers);

    free(numbers);
    return t;
}

static d2c_tensor
like(d2c_tensor t)
{
    return device_tensor(t.ndim, t.dim, NULL);
}

static d2c_tensor
fresh(int64_t a, int64_t b, int64_t c)
{
    return device_tensor(3, (const int64_t[]){a, b, c}, NULL);
}

/* The tensor agrees with the golden one to `limit` of its largest element. */
static void
check_within(d2c_tensor got, const char *name, double limit)
{
    const d2c_st_tensor *tensor;
    float *wanted = golden_numbers(name, &tensor);
    float *numbers = malloc((size_t)tensor->count * sizeof *numbers);
    double largest = 0, error = 0;

    if (numbers == NULL || d2c_tensor_count(got) != tensor->count ||
        d2c_download(be, numbers, got.data, (size_t)tensor->count * 4) != D2C_OK)
        abort();
    for (int64_t i = 0; i < tensor->count; i++) {
        largest = fmax(largest, fabs(wanted[i]));
        if (!isfinite(numbers[i]))
            error = INFINITY;
        error = fmax(error, fabs((double)numbers[i] - wanted[i]));
    }
    if (!(error <= limit * largest)) {
        fprintf(stderr, "%s on %s: largest error %g of %g\n", name, be->ops->name, error, largest);
        check_current++;
    }
    free(numbers);
    free(wanted);
}

static void
check_golden(d2c_tensor got, const char *name)
{
    check_within(got, name, tolerance);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void
test_activations(void)
{
    static const char *const name[] = {NULL,           "act.silu", "act.gelu_tanh",
                                       "act.gelu_erf", "act.relu", "act.gelu_quick"};
    d2c_tensor x = golden("act.x"), y = like(x);

    for (int act = D2C_ACT_SILU; act <= D2C_ACT_GELU_QUICK; act++) {
        CHECK_OK(d2c_act_forward(be, y, x, (d2c_act)act), &be->error);
        check_golden(y, name[act]);
    }
    release_blocks();
}

static void
test_layernorm(void)
{
    d2c_tensor x = golden("norm.x"), y = like(x);

    CHECK_OK(d2c_layernorm_forward(be, y, d2c_absent(), x, d2c_absent(), d2c_absent(), 1e-6f), &be->error);
    check_golden(y, "norm.plain");
    CHECK_OK(d2c_layernorm_forward(be, y, d2c_absent(), x, golden("norm.gamma"), golden("norm.beta"), 1e-12f),
             &be->error);
    check_golden(y, "norm.affine");
    release_blocks();
}

static void
test_attention(void)
{
    d2c_tensor qkv = golden("attention.qkv"), bias = golden("attention.bias"),
               dout = golden("attention.dout");
    d2c_tensor o = like(dout), dqkv = like(qkv), lse = fresh(2, 3, 7);
    float scale = 1 / sqrtf(8);

    CHECK_OK(d2c_attention_forward(be, o, lse, qkv, bias, 3, scale), &be->error);
    check_golden(o, "attention.o");
    check_golden(lse, "attention.lse");
    CHECK_OK(d2c_attention_backward(be, dqkv, dout, o, lse, qkv, bias, 3, scale), &be->error);
    check_golden(dqkv, "attention.dqkv");
    release_blocks();
}

static void
test_wide_attention(void)
{
    d2c_tensor o = fresh(1, 12, 512);

    CHECK_OK(d2c_attention_forward(be, o, d2c_absent(), golden("wide.qkv"), d2c_absent(), 1, 1 / sqrtf(512)),
             &be->error);
    check_golden(o, "wide.o");
    release_blocks();
}

static d2c_tensor
picture(int64_t height, int64_t width, int64_t channels)
{
    return device_tensor(4, (const int64_t[]){2, height, width, channels}, NULL);
}

/* One convolution of the golden file, plain and with an activation. */
static void
check_convolution(const char *name, const d2c_window *window, int64_t rows, int64_t columns)
{
    char x[32], weight[32], bias[32], plain[32], silu[32];
    d2c_tensor y = picture(rows, columns, 6);
    d2c_weight w = {.value = d2c_absent()};

    snprintf(x, sizeof x, "conv.%s.x", name);
    snprintf(weight, sizeof weight, "conv.%s.weight", name);
    snprintf(bias, sizeof bias, "conv.%s.bias", name);
    snprintf(plain, sizeof plain, "conv.%s.y", name);
    snprintf(silu, sizeof silu, "conv.%s.silu", name);
    w.value = golden(weight);
    w.bias = golden(bias);
    CHECK_OK(d2c_conv2d_forward(be, y, golden(x), &w, window, D2C_ACT_NONE), &be->error);
    check_golden(y, plain);
    CHECK_OK(d2c_conv2d_forward(be, y, golden(x), &w, window, D2C_ACT_SILU), &be->error);
    check_golden(y, silu);
    release_blocks();
}

static void
test_convolutions(void)
{
    check_convolution("same", &(d2c_window){3, 3, 1, 1, 1, 1, 1}, 9, 7);
    check_convolution("down", &(d2c_window){3, 3, 2, 0, 0, 1, 1}, 4, 3);
    check_convolution("stem", &(d2c_window){7, 7, 2, 3, 3, 3, 3}, 5, 4);
    check_convolution("wide", &(d2c_window){1, 7, 1, 0, 3, 0, 3}, 9, 7);
    check_convolution("skewed", &(d2c_window){3, 2, 3, 2, 0, 1, 1}, 4, 3);
    check_convolution("point", &(d2c_window){1, 1, 1, 0, 0, 0, 0}, 9, 7);
    check_convolution("point_2", &(d2c_window){1, 1, 2, 0, 0, 0, 0}, 5, 4);
}

static void
test_groupnorm(void)
{
    d2c_tensor x = golden("group.x"), y = like(x), gamma = golden("group.gamma"), beta = golden("group.beta");

    CHECK_OK(d2c_groupnorm_forward(be, y, x, gamma, beta, 6, 1e-6f, D2C_ACT_NONE), &be->error);
    check_golden(y, "group.y");
    CHECK_OK(d2c_groupnorm_forward(be, y, x, gamma, beta, 6, 1e-6f, D2C_ACT_SILU), &be->error);
    check_golden(y, "group.silu");
    release_blocks();
}

/* Maxima and copies are equal. */
static void
test_pools(void)
{
    d2c_tensor x = golden("pool.x"), valid = picture(4, 3, 6), max = picture(5, 4, 6), mean = like(x);
    d2c_tensor twice = picture(18, 14, 6);

    CHECK_OK(d2c_pool_forward(be, valid, x, &(d2c_window){3, 3, 2, 0, 0, 0, 0}, D2C_POOL_MAX), &be->error);
    check_within(valid, "pool.valid", 0);
    CHECK_OK(d2c_pool_forward(be, max, x, &(d2c_window){3, 3, 2, 1, 1, 1, 1}, D2C_POOL_MAX), &be->error);
    check_within(max, "pool.max", 0);
    CHECK_OK(d2c_pool_forward(be, mean, x, &(d2c_window){3, 3, 1, 1, 1, 1, 1}, D2C_POOL_MEAN), &be->error);
    check_golden(mean, "pool.mean");
    CHECK_OK(d2c_upsample_forward(be, twice, x), &be->error);
    check_within(twice, "pool.twice", 0);
    release_blocks();
}

static void
test_gated(void)
{
    d2c_tensor x = golden("gated.x"), rms = like(x), both = golden("gated.both");
    d2c_tensor y = device_tensor(2, (const int64_t[]){5, 12}, NULL);
    d2c_tensor gate = d2c_rows(both.data, D2C_F32, 5, 12, 24);
    d2c_tensor value = d2c_rows((float *)both.data + 12, D2C_F32, 5, 12, 24);

    CHECK_OK(d2c_rmsnorm_forward(be, rms, x, golden("gated.gamma"), 1e-6f), &be->error);
    check_golden(rms, "gated.rms");
    CHECK_OK(d2c_glu_forward(be, y, gate, value, D2C_ACT_GELU_TANH), &be->error);
    check_golden(y, "gated.gelu");
    CHECK_OK(d2c_glu_forward(be, y, gate, value, D2C_ACT_SILU), &be->error);
    check_golden(y, "gated.silu");
    CHECK_OK(d2c_glu_forward(be, y, gate, value, D2C_ACT_NONE), &be->error);
    check_golden(y, "gated.plain");
    release_blocks();
}

/* Whether the backend has the ops of the tests above. */
static int
has_image_ops(void)
{
    return D2C_HAS(be, conv2d_forward) && D2C_HAS(be, groupnorm_forward) && D2C_HAS(be, upsample_forward) &&
           D2C_HAS(be, pool_forward) && D2C_HAS(be, rmsnorm_forward) && D2C_HAS(be, glu_forward);
}

/* Layouts are copies: equal. */
static void
test_patches(void)
{
    d2c_tensor x = golden("patch.x"), tokens = fresh(2, 6, 12), back = like(x);

    CHECK_OK(d2c_patchify(be, tokens, x, 2, D2C_PATCH_CHANNEL_FIRST), &be->error);
    check_within(tokens, "patch.first", 0);
    CHECK_OK(d2c_patchify(be, tokens, x, 2, D2C_PATCH_CHANNEL_LAST), &be->error);
    check_within(tokens, "patch.last", 0);
    CHECK_OK(d2c_unpatchify(be, back, tokens, 2, D2C_PATCH_CHANNEL_LAST), &be->error);
    check_within(back, "patch.x", 0);
    release_blocks();
}

static void
test_text_convolution(void)
{
    d2c_tensor unfolded = device_tensor(2, (const int64_t[]){3, 24}, NULL);
    d2c_tensor y = device_tensor(2, (const int64_t[]){3, 5}, NULL);
    d2c_weight w = {.value = golden("text.weight"), .bias = golden("text.bias")};

    CHECK_OK(d2c_text_unfold(be, unfolded, golden("text.x"), golden("text.mask")), &be->error);
    CHECK_OK(d2c_linear_forward(be, y, d2c_absent(), unfolded, &w, D2C_ACT_NONE), &be->error);
    check_golden(y, "text.y");
    release_blocks();
}

/* The golden gradient is that of the mean over the two samples. */
static void
check_cosine(const char *z_name, const char *loss_name, const char *dz_name)
{
    d2c_step_record record = {.loss_scale = 0.5f};
    d2c_tensor z = golden(z_name), dz = like(z), loss = device_tensor(1, (const int64_t[]){2}, NULL);
    d2c_tensor at = device_tensor(1, (const int64_t[]){sizeof record / 4}, (const float *)&record);

    CHECK_OK(d2c_cosine_loss(be, loss, dz, z, golden("cosine.q"), 0.5f, at.data), &be->error);
    check_golden(loss, loss_name);
    check_golden(dz, dz_name);
    CHECK_OK(d2c_cosine_loss(be, loss, d2c_absent(), z, golden("cosine.q"), 0.5f, NULL), &be->error);
    check_golden(loss, loss_name);
    release_blocks();
}

static void
test_cosine_loss(void)
{
    d2c_tensor z, loss;

    check_cosine("cosine.z", "cosine.loss", "cosine.dz");
    check_cosine("cosine.zero.z", "cosine.zero.loss", "cosine.zero.dz");
    z = golden("cosine.z");
    loss = device_tensor(1, (const int64_t[]){2}, NULL);
    CHECK_OK(d2c_cosine_loss(be, loss, d2c_absent(), z, golden("cosine.q"), -1, NULL), &be->error);
    check_golden(loss, "cosine.similarity");
    release_blocks();
}

static void
test_timestep_embedding(void)
{
    d2c_tensor y = device_tensor(2, (const int64_t[]){4, 32}, NULL);

    CHECK_OK(d2c_timestep_embedding(be, y, golden("time.t")), &be->error);
    check_golden(y, "time.y");
    release_blocks();
}

/* The bf16 shadow is the value, rounded. */
static void
check_shadow(d2c_tensor shadow, d2c_tensor value)
{
    uint16_t rounded[50];
    float exact[50];

    CHECK_OK(d2c_download(be, rounded, shadow.data, sizeof rounded), &be->error);
    CHECK_OK(d2c_download(be, exact, value.data, sizeof exact), &be->error);
    for (int i = 0; i < 50; i++)
        CHECK(rounded[i] == d2c_bf16_from_float(exact[i]));
}

/* One step; `position` is the record's place on the device. */
static void
optimizer_step(int step, d2c_tensor state[4], d2c_tensor shadow, d2c_step_record *position)
{
    const d2c_adamw setting = {0.9f, 0.999f, 1e-8f, 0.05f, 0};
    d2c_step_record record = {.learning_rate = 0.01f,
                              .bias_correction1 = (float)(1 - pow(0.9, step + 1)),
                              .bias_correction2 = (float)(1 - pow(0.999, step + 1)),
                              .ema_decay = 0.9f,
                              .max_grad_norm = 1};
    d2c_tensor grad, norm;
    char name[32];

    snprintf(name, sizeof name, "adamw.grad.%d", step);
    grad = golden(name);
    CHECK_OK(d2c_upload(be, position, &record, sizeof record), &be->error);
    CHECK_OK(d2c_gradient_norm(be, position, grad), &be->error);
    CHECK_OK(d2c_adamw_step(be, state[0], state[1], state[2], state[3], shadow, grad, &setting, position),
             &be->error);
    CHECK_OK(d2c_download(be, &record, position, sizeof record), &be->error);
    CHECK(record.skip == 0 && (record.clip_scale < 1) == (step < 2));
    norm = device_tensor(1, (const int64_t[]){1}, &record.grad_norm);
    snprintf(name, sizeof name, "adamw.norm.%d", step);
    check_within(norm, name, 1e-6);
    snprintf(name, sizeof name, "adamw.value.%d", step);
    check_within(state[0], name, 1e-6);
    snprintf(name, sizeof name, "adamw.ema.%d", step);
    check_within(state[3], name, 1e-6);
    check_shadow(shadow, state[0]);
}

static void
test_optimizer(void)
{
    static const float zeros[50];
    const int64_t count = 50, words = sizeof(d2c_step_record) / 4;
    d2c_tensor state[4] = {golden("adamw.start"), device_tensor(1, &count, zeros),
                           device_tensor(1, &count, zeros), golden("adamw.start")};
    d2c_tensor shadow = device_tensor(1, &count, NULL), record = device_tensor(1, &words, NULL);

    shadow.dtype = D2C_BF16;
    for (int step = 0; step < 5; step++)
        optimizer_step(step, state, shadow, record.data);
    release_blocks();
}

/* A loss or a gradient that is no number: the step is skipped and nothing changes. */
static void
check_skipped(float loss, float gradient)
{
    const d2c_adamw setting = {0.9f, 0.999f, 1e-8f, 0.05f, 0};
    const float ones[2] = {1, 1}, bad[2] = {0.5f, gradient};
    const int64_t two = 2, words = sizeof(d2c_step_record) / 4;
    d2c_step_record record = {.learning_rate = 1, .bias_correction1 = 1, .bias_correction2 = 1, .loss = loss};
    d2c_tensor state[3] = {device_tensor(1, &two, ones), device_tensor(1, &two, ones),
                           device_tensor(1, &two, ones)};
    d2c_tensor grad = device_tensor(1, &two, bad), at = device_tensor(1, &words, (const float *)&record);
    float after[2];

    CHECK_OK(d2c_gradient_norm(be, at.data, grad), &be->error);
    CHECK_OK(
        d2c_adamw_step(be, state[0], state[1], state[2], d2c_absent(), d2c_absent(), grad, &setting, at.data),
        &be->error);
    CHECK_OK(d2c_download(be, &record, at.data, sizeof record), &be->error);
    CHECK(record.skip == 1);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(d2c_download(be, after, state[i].data, sizeof after), &be->error);
        CHECK(after[0] == 1 && after[1] == 1);
    }
    release_blocks();
}

static void
test_skip(void)
{
    check_skipped(NAN, 1);
    check_skipped(INFINITY, 1);
    check_skipped(1, NAN);
    check_skipped(1, -INFINITY);
}

static void
run_all(const char *device, double limit)
{
    d2c_error err;
    d2c_status status = d2c_backend_open(&be, device, 1, &err);

    if (status == D2C_UNSUPPORTED) {
        printf("# %s: %s\n", device, err.message);
        return;
    }
    CHECK_OK(status, &err);
    tolerance = limit;
    RUN(test_activations);
    RUN(test_layernorm);
    RUN(test_attention);
    if (has_image_ops()) {
        RUN(test_wide_attention);
        RUN(test_convolutions);
        RUN(test_groupnorm);
        RUN(test_pools);
        RUN(test_gated);
    }
    RUN(test_patches);
    RUN(test_text_convolution);
    RUN(test_cosine_loss);
    RUN(test_timestep_embedding);
    RUN(test_optimizer);
    RUN(test_skip);
    d2c_backend_close(be);
}

int
main(void)
{
    d2c_error err;

    if (d2c_safetensors_open(&file, GOLDEN "/ops/ops.safetensors", &err) != D2C_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    run_all("reference", 1e-7);
    run_all("cpu", 1e-5);
    run_all("cuda", 1e-5);
    d2c_safetensors_close(file);
    return check_report();
}
