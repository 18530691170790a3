/*
 * test_sit.c: the SiT against the public code: output, loss and every gradient, in f32 and bf16, on every backend; the
 * attachments; configs, files and their errors.
 */
#include "nn/sit_layers.h"

#include "sit_fixture.h"

#include <stddef.h>
#include <unistd.h>

/* Relative errors allowed: f32 sums in another order; bf16 operands have 8 bits. */
#define F32_OUTPUT 2e-6
#define F32_GRADIENT 3e-6
#define BF16_OUTPUT 8e-3
#define BF16_GRADIENT 1.5e-2
#define F8_OUTPUT 6e-2 /* e4m3 operands have 4 bits */

static double
output_bound(d2c_dtype precision)
{
    return precision == D2C_F32 ? F32_OUTPUT : BF16_OUTPUT;
}

/* ---- a training pass ------------------------------------------------------------------------------------------- */

typedef struct training {
    fixture *f;
    d2c_arena arena;
    d2c_sit_input in;
    d2c_sit_output out;
    d2c_tensor target, dv, dprojected, loss;
    d2c_step_record *record; /* device */
    d2c_sit_pass *pass;
} training;

static void
training_begin(training *s, fixture *f, int texts)
{
    d2c_step_record record = {.loss_scale = 1.0f / (float)s->in.batch};
    size_t bytes = 0;

    s->f = f;
    s->record = fixture_device(f, sizeof record);
    CHECK_OK(d2c_upload(f->be, s->record, &record, sizeof record), &f->be->error);
    s->dv = device_like(f, s->target);
    s->out.v = device_like(f, s->target);
    s->loss = d2c_tensor1(fixture_device(f, (size_t)s->in.batch * sizeof(float)), D2C_F32, s->in.batch);
    CHECK_OK(d2c_sit_workspace(&bytes, f->sit, s->in.batch, texts, 1, &f->err), &f->err);
    s->arena = (d2c_arena){.base = fixture_device(f, bytes), .capacity = bytes};
}

static d2c_sit_input
plain_input(fixture *f, d2c_tensor xt)
{
    d2c_sit_input in = {
        .batch = (int)xt.dim[0], .x = xt, .t = golden_upload(f, "t"), .label = golden_upload(f, "y")};

    return in;
}

/* Diffusion along a path as the public transport does it. */
static void
check_path(fixture *f, training *s, const char *name, d2c_path path)
{
    d2c_tensor x1 = golden_upload(f, "x1"), x0 = golden_upload(f, "x0");
    d2c_tensor coefficient = d2c_tensor2(fixture_device(f, 12 * sizeof(float)), D2C_F32, 3, 4);
    d2c_tensor xt = device_like(f, x1);
    int64_t n = d2c_tensor_count(x1) / 3;
    char key[64];

    s->target = device_like(f, x1);
    s->in = plain_input(f, xt);
    CHECK_OK(d2c_path_coefficients(f->be, coefficient, s->in.t, path), &f->be->error);
    CHECK_OK(d2c_diffuse(f->be, d2c_tensor2(xt.data, D2C_F32, 3, n),
                         d2c_tensor2(s->target.data, D2C_F32, 3, n), d2c_tensor2(x1.data, D2C_F32, 3, n),
                         d2c_tensor2(x0.data, D2C_F32, 3, n), coefficient),
             &f->be->error);
    snprintf(key, sizeof key, "%s.xt", name);
    CHECK(relative_error(f, device_values(f, xt), key) < 1e-6);
    snprintf(key, sizeof key, "%s.target", name);
    CHECK(relative_error(f, device_values(f, s->target), key) < 1e-6);
}

/* Forward and loss on a path. */
static void
check_loss(fixture *f, training *s, const char *name, double bound)
{
    int64_t n = d2c_tensor_count(s->target) / s->in.batch;
    char key[64];

    CHECK_OK(d2c_sit_forward(f->sit, f->be, &s->arena, &s->in, &s->out, 1, &s->pass, &f->err), &f->err);
    CHECK_OK(d2c_mse_loss(f->be, s->loss, d2c_tensor2(s->dv.data, D2C_F32, s->in.batch, n),
                          d2c_tensor2(s->out.v.data, D2C_F32, s->in.batch, n),
                          d2c_tensor2(s->target.data, D2C_F32, s->in.batch, n), s->record),
             &f->be->error);
    snprintf(key, sizeof key, "%s.out", name);
    CHECK(relative_error(f, device_values(f, s->out.v), key) < bound);
    snprintf(key, sizeof key, "%s.loss", name);
    CHECK(relative_error(f, device_values(f, s->loss), key) < bound);
}

static void
check_training(const char *device, const char *name, d2c_dtype precision)
{
    fixture f;
    training s = {0};
    int pass;

    if (!fixture_open(&f, device, name, precision, 1))
        return;
    check_path(&f, &s, "gvp", D2C_PATH_GVP);
    training_begin(&s, &f, 0);
    check_loss(&f, &s, "gvp", output_bound(precision));
    s.arena.used = 0;
    check_path(&f, &s, "vp", D2C_PATH_VP);
    check_loss(&f, &s, "vp", output_bound(precision));
    check_path(&f, &s, "linear", D2C_PATH_LINEAR);
    for (pass = 0; pass < 2; pass++) {
        s.arena.used = 0;
        check_loss(&f, &s, "linear", output_bound(precision));
        CHECK_OK(d2c_sit_backward(f.sit, f.be, &s.arena, s.pass, s.dv, d2c_absent(), &f.err), &f.err);
    }
    CHECK(s.arena.peak == s.arena.capacity);
    check_gradients(&f, precision == D2C_F32 ? F32_GRADIENT : BF16_GRADIENT, 2);
    fixture_close(&f);
}

static void
check_training_f32(const char *device)
{
    check_training(device, "latent", D2C_F32);
    check_training(device, "pixel", D2C_F32);
}

/* e4m3 operands: near the golden, and less near than bf16, or they were not used; a width that is no multiple of 16 is
 * multiplied in bf16. */
static void
check_eight(const char *device, const char *name)
{
    fixture f;
    training s = {0};
    size_t bytes = 0;
    double error;

    if (!fixture_open(&f, device, name, D2C_F8, 0))
        return;
    check_path(&f, &s, "linear", D2C_PATH_LINEAR);
    s.out.v = device_like(&f, s.target);
    CHECK_OK(d2c_sit_workspace(&bytes, f.sit, s.in.batch, 0, 0, &f.err), &f.err);
    s.arena = (d2c_arena){.base = fixture_device(&f, bytes), .capacity = bytes};
    CHECK_OK(d2c_sit_forward(f.sit, f.be, &s.arena, &s.in, &s.out, 0, NULL, &f.err), &f.err);
    error = relative_error(&f, device_values(&f, s.out.v), "linear.out");
    if (f.sit->config.hidden % 16 == 0)
        CHECK(error < F8_OUTPUT && error > BF16_OUTPUT);
    else
        CHECK(error < BF16_OUTPUT);
    fixture_close(&f);
}

/* Opened from the file, which is then closed: in the host's memory the parameters are those of the mapping. */
static void
check_opened(const char *device, const char *name)
{
    fixture f;
    training s = {0};
    size_t bytes = 0;
    d2c_sit_config config;
    int i;

    if (!fixture_open(&f, device, name, D2C_F32, 0))
        return;
    config = f.sit->config;
    d2c_sit_destroy(f.sit, f.be);
    CHECK_OK(d2c_sit_open(&f.sit, f.be, &config, D2C_F32, f.weights, "", &f.err), &f.err);
    d2c_weights_close(f.weights);
    f.weights = NULL;
    for (i = 0; i < f.sit->params.count; i++)
        CHECK((f.sit->params.item[i].mapped != NULL) == (strcmp(device, "cuda") != 0));
    check_path(&f, &s, "linear", D2C_PATH_LINEAR);
    s.out.v = device_like(&f, s.target);
    CHECK_OK(d2c_sit_workspace(&bytes, f.sit, s.in.batch, 0, 0, &f.err), &f.err);
    s.arena = (d2c_arena){.base = fixture_device(&f, bytes), .capacity = bytes};
    CHECK_OK(d2c_sit_forward(f.sit, f.be, &s.arena, &s.in, &s.out, 0, NULL, &f.err), &f.err);
    CHECK(relative_error(&f, device_values(&f, s.out.v), "linear.out") < F32_OUTPUT);
    fixture_close(&f);
}

static void
check_opened_both(const char *device)
{
    check_opened(device, "latent");
    check_opened(device, "pixel");
}

static void
test_opened(void)
{
    ON_EVERY_DEVICE(check_opened_both);
}

/* Refused where the hardware does not multiply e4m3, and in training. */
static void
check_inference_eight(const char *device)
{
    d2c_sit_config config = {
        .depth = 1, .hidden = 16, .heads = 1, .patch = 1, .channels = 1, .out_channels = 1};
    d2c_backend *be = NULL;
    d2c_sit *sit = NULL;
    d2c_error err;
    int has;

    config.height = config.width = config.classes = 1;
    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    has = be->has_f8;
    CHECK(d2c_sit_create(&sit, be, &config, D2C_F8, 1, &err) == D2C_UNSUPPORTED);
    CHECK(d2c_sit_create(&sit, be, &config, D2C_F8, 0, &err) == (has ? D2C_OK : D2C_UNSUPPORTED));
    d2c_sit_destroy(sit, be);
    d2c_backend_close(be);
    if (!has)
        return;
    check_eight(device, "latent");
    check_eight(device, "pixel");
}

static void
test_inference_eight(void)
{
    ON_EVERY_DEVICE(check_inference_eight);
}

/* A network in bf16 is refused where the hardware would only emulate it; 1 when it was, and has to be. */
static int
bf16_refused(const char *device)
{
    d2c_sit_config config = {
        .depth = 1, .hidden = 8, .heads = 1, .patch = 1, .channels = 1, .out_channels = 1};
    d2c_backend *be = NULL;
    d2c_sit *sit = NULL;
    d2c_status status;
    d2c_error err;
    int refused;

    config.height = config.width = config.classes = 1;
    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    refused = !be->has_bf16;
    status = d2c_sit_create(&sit, be, &config, D2C_BF16, 0, &err);
    CHECK(status == (refused ? D2C_UNSUPPORTED : D2C_OK));
    d2c_sit_destroy(sit, be);
    d2c_backend_close(be);
    return refused;
}

static void
check_training_bf16(const char *device)
{
    if (bf16_refused(device))
        return;
    check_training(device, "latent", D2C_BF16);
    check_training(device, "pixel", D2C_BF16);
}

static void
test_training_f32(void)
{
    ON_EVERY_DEVICE(check_training_f32);
}

static void
test_training_bf16(void)
{
    ON_EVERY_DEVICE(check_training_bf16);
}

/* ---- the attachments --------------------------------------------------------------------------------------------- */

static d2c_sit_input
attached_input(fixture *f)
{
    d2c_sit_input in = plain_input(f, golden_upload(f, "x"));

    in.text = golden_upload(f, "text");
    in.text_mask = golden_upload(f, "mask");
    in.text_index = golden_upload(f, "index");
    return in;
}

/* Both losses, added up per image as the fixture has them. */
static void
attached_losses(fixture *f, training *s, double bound)
{
    int64_t n = d2c_tensor_count(s->target) / 4;
    d2c_tensor features = golden_upload(f, "features"), align = device_like(f, s->loss);

    CHECK_OK(d2c_mse_loss(f->be, s->loss, d2c_tensor2(s->dv.data, D2C_F32, 4, n),
                          d2c_tensor2(s->out.v.data, D2C_F32, 4, n),
                          d2c_tensor2(s->target.data, D2C_F32, 4, n), s->record),
             &f->be->error);
    CHECK_OK(d2c_cosine_loss(f->be, align, s->dprojected, s->out.projected, features, 0.5f, s->record),
             &f->be->error);
    CHECK_OK(d2c_axpby(f->be, s->loss, 1.0f, align, 1.0f), &f->be->error);
    CHECK(relative_error(f, device_values(f, s->loss), "loss") < bound);
}

static void
check_attached(const char *device, d2c_dtype precision)
{
    double bound = output_bound(precision);
    training s = {0};
    fixture f;

    if (!fixture_open(&f, device, "attached", precision, 1))
        return;
    s.in = attached_input(&f);
    s.target = golden_upload(&f, "target");
    training_begin(&s, &f, 3);
    s.out.projected = device_like(&f, golden_upload(&f, "projected"));
    s.dprojected = device_like(&f, s.out.projected);
    CHECK_OK(d2c_sit_forward(f.sit, f.be, &s.arena, &s.in, &s.out, 1, &s.pass, &f.err), &f.err);
    CHECK(relative_error(&f, device_values(&f, s.out.v), "out") < bound);
    CHECK(relative_error(&f, device_values(&f, s.out.projected), "projected") < bound);
    attached_losses(&f, &s, bound);
    CHECK_OK(d2c_sit_backward(f.sit, f.be, &s.arena, s.pass, s.dv, s.dprojected, &f.err), &f.err);
    CHECK(s.arena.peak == s.arena.capacity);
    check_gradients(&f, precision == D2C_F32 ? F32_GRADIENT : BF16_GRADIENT, 1);
    fixture_close(&f);
}

static void
check_attached_both(const char *device)
{
    check_attached(device, D2C_F32);
    if (!bf16_refused(device))
        check_attached(device, D2C_BF16);
}

static void
test_attached(void)
{
    ON_EVERY_DEVICE(check_attached_both);
}

/* v of the attached network without training, into host memory. */
static float *
plain_forward(fixture *f, d2c_sit *sit, const d2c_sit_input *in)
{
    d2c_sit_output out = {.v = device_like(f, in->x)};
    d2c_arena arena = {0};
    size_t bytes = 0;

    CHECK_OK(d2c_sit_workspace(&bytes, sit, in->batch, 3, 0, &f->err), &f->err);
    arena = (d2c_arena){.base = fixture_device(f, bytes), .capacity = bytes};
    CHECK_OK(d2c_sit_forward(sit, f->be, &arena, in, &out, 0, NULL, &f->err), &f->err);
    CHECK(arena.used == 0 && arena.peak <= bytes);
    return device_values(f, out.v);
}

/* The folded table, the network made of it, and the file of it give what the text condition gives. */
static void
test_fold_text(void)
{
    char path[] = "/tmp/d2c-test-sit-XXXXXX";
    const d2c_st_pair pair = {"note", "folded"};
    d2c_weights *file = NULL;
    d2c_sit_config config;
    d2c_sit *plain = NULL, *loaded = NULL;
    d2c_sit_input in;
    float *folded, *expected;
    fixture f;

    if (!fixture_open(&f, "reference", "attached", D2C_F32, 1))
        return;
    in = attached_input(&f);
    folded = fixture_host(&f, 6 * 24 * sizeof *folded);
    CHECK_OK(d2c_sit_fold_text(folded, f.sit, f.be, f.sit->params.value, golden(&f, "class_text"),
                               golden(&f, "class_mask"), &f.err),
             &f.err);
    CHECK(relative_error(&f, folded, "folded") < 1e-6);
    expected = plain_forward(&f, f.sit, &in);
    CHECK(relative_error(&f, expected, "out") < F32_OUTPUT);
    CHECK_OK(d2c_sit_plain(&plain, f.sit, f.be, f.sit->params.value, folded, &f.err), &f.err);
    CHECK(distance(plain_forward(&f, plain, &in), expected, 4 * 108) < 1e-5 * norm_of(expected, 4 * 108));
    close(mkstemp(path));
    CHECK_OK(d2c_sit_save_plain(path, f.sit, f.be, f.sit->params.value, folded, &pair, 1, &f.err), &f.err);
    CHECK_OK(d2c_weights_open(&file, path, &f.err), &f.err);
    CHECK(strcmp(d2c_weights_metadata(file, "note"), "folded") == 0);
    CHECK(d2c_weights_find(file, "projectors.0.0.weight") == NULL);
    CHECK_OK(d2c_sit_config_read(&config, file, "", NULL, &f.err), &f.err);
    CHECK(config.text_tokens == 0 && config.proj_block == 0 && config.hidden == 24);
    CHECK_OK(d2c_sit_create(&loaded, f.be, &config, D2C_F32, 0, &f.err), &f.err);
    CHECK_OK(d2c_sit_load(loaded, f.be, loaded->params.value, file, "", &f.err), &f.err);
    CHECK(distance(plain_forward(&f, loaded, &in), expected, 4 * 108) < 1e-5 * norm_of(expected, 4 * 108));
    d2c_weights_close(file);
    d2c_sit_destroy(plain, f.be);
    d2c_sit_destroy(loaded, f.be);
    unlink(path);
    fixture_close(&f);
}

static void
test_attached_misuse(void)
{
    d2c_sit_output out = {0};
    d2c_sit_input in;
    d2c_arena arena = {0};
    d2c_sit *plain;
    fixture f;

    if (!fixture_open(&f, "reference", "attached", D2C_F32, 0))
        return;
    in = plain_input(&f, golden_upload(&f, "x"));
    out.v = device_like(&f, in.x);
    CHECK(d2c_sit_forward(f.sit, f.be, &arena, &in, &out, 0, NULL, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(f.err.message, "text condition") != NULL);
    in = attached_input(&f);
    CHECK(d2c_sit_forward(f.sit, f.be, &arena, &in, &out, 1, NULL, &f.err) == D2C_INTERNAL);
    out.hidden = out.v;
    out.hidden_block = 3;
    CHECK(d2c_sit_forward(f.sit, f.be, &arena, &in, &out, 0, NULL, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_sit_plain(&plain, f.sit, f.be, f.sit->params.value, NULL, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_sit_save_plain("/nowhere", f.sit, f.be, f.sit->params.value, NULL, NULL, 0, &f.err) ==
          D2C_INVALID_ARGUMENT);
    fixture_close(&f);
}

/* ---- memory, position, initial values ----------------------------------------------------------------------------- */

/* An arena that is too small is an error, not a wild write. */
static void
test_small_arena(void)
{
    d2c_sit_output out = {0};
    d2c_arena arena;
    d2c_sit_input in;
    size_t bytes = 0;
    fixture f;

    if (!fixture_open(&f, "reference", "pixel", D2C_F32, 0))
        return;
    in = plain_input(&f, golden_upload(&f, "x1"));
    out.v = device_like(&f, in.x);
    CHECK_OK(d2c_sit_workspace(&bytes, f.sit, 3, 0, 0, &f.err), &f.err);
    arena = (d2c_arena){.base = fixture_device(&f, bytes), .capacity = bytes - 1};
    CHECK(d2c_sit_forward(f.sit, f.be, &arena, &in, &out, 0, NULL, &f.err) == D2C_NO_MEMORY);
    fixture_close(&f);
}

/* The table made here is the public code's. */
static void
test_position_table(void)
{
    const d2c_param *p;
    const d2c_st_tensor *t;
    d2c_sit *made = NULL;
    float *ours, *public;
    fixture f;

    if (!fixture_open(&f, "reference", "latent", D2C_F32, 0))
        return;
    CHECK_OK(d2c_sit_create(&made, f.be, &f.sit->config, D2C_F32, 0, &f.err), &f.err);
    p = d2c_params_find(&made->params, "pos_embed");
    t = d2c_weights_find(f.weights, "pos_embed");
    ours = device_values(&f, d2c_tensor1(made->params.value + p->offset, D2C_F32, p->count));
    public = fixture_host(&f, (size_t)p->count * sizeof *public);
    CHECK_OK(d2c_st_tensor_to_f32(public, t, p->count, &f.err), &f.err);
    CHECK(distance(ours, public, p->count) < 1e-6 * norm_of(public, p->count));
    d2c_sit_destroy(made, f.be);
    fixture_close(&f);
}

/* Any grid: values of token (row 1, column 2) of width 1152, worked out by hand; sines and cosines of the column first. */
static void
test_position_values(void)
{
    static const struct {
        int at;
        double value;
    } expected[] = {{0, 0.909297},   {1, 0.933675},   {288, -0.416147}, {289, -0.358121},
                    {576, 0.841471}, {577, 0.824051}, {864, 0.540302},  {865, 0.566515}};
    const d2c_sit_config wide = {.hidden = 1152, .patch = 2, .height = 4, .width = 6};
    static float table[6][1152];
    int i;

    sit_position_table(&table[0][0], &wide);
    for (i = 0; i < 8; i++)
        CHECK_NEAR(table[5][expected[i].at], expected[i].value, 1e-6);
}

static double
parameter_norm(fixture *f, const d2c_sit *sit, const float *range, const char *name)
{
    const d2c_param *p = d2c_params_find(&sit->params, name);

    return norm_of(device_values(f, d2c_tensor1((float *)range + p->offset, D2C_F32, p->count)), p->count);
}

/* adaLN and the final layer start at zero, the rest does not; the EMA starts as the values; the seed decides. */
static void
test_initialize(void)
{
    static const char *const zero[] = {"blocks.1.adaLN_modulation.1.weight", "final_layer.linear.weight",
                                       "blocks.0.attn.qkv.bias"};
    static const char *const drawn[] = {"x_embedder.proj.weight", "blocks.1.mlp.fc2.weight",
                                        "t_embedder.mlp.0.weight", "pos_embed"};
    const d2c_params *p;
    double first;
    fixture f;
    int i;

    if (!fixture_open(&f, "reference", "latent", D2C_F32, 1))
        return;
    p = &f.sit->params;
    CHECK_OK(d2c_sit_initialize(f.sit, f.be, 1, &f.err), &f.err);
    for (i = 0; i < 3; i++)
        CHECK(parameter_norm(&f, f.sit, p->value, zero[i]) == 0);
    for (i = 0; i < 4; i++)
        CHECK(parameter_norm(&f, f.sit, p->value, drawn[i]) > 0);
    CHECK(parameter_norm(&f, f.sit, p->ema, "pos_embed") == parameter_norm(&f, f.sit, p->value, "pos_embed"));
    /* N(0, 0.02^2) of 256 x 32 values */
    CHECK_NEAR(parameter_norm(&f, f.sit, p->value, "t_embedder.mlp.0.weight"), 0.02 * sqrt(256 * 32), 0.1);
    first = parameter_norm(&f, f.sit, p->value, "x_embedder.proj.weight");
    CHECK_OK(d2c_sit_initialize(f.sit, f.be, 2, &f.err), &f.err);
    CHECK(parameter_norm(&f, f.sit, p->value, "x_embedder.proj.weight") != first);
    fixture_close(&f);
}

/* ---- configs -------------------------------------------------------------------------------------------------------- */

static void
test_presets(void)
{
    d2c_sit_config c = {0};
    d2c_error err;

    CHECK_OK(d2c_sit_preset(&c, "SiT-XL/2", &err), &err);
    CHECK(c.depth == 28 && c.hidden == 1152 && c.heads == 16 && c.patch == 2);
    CHECK_OK(d2c_sit_preset(&c, "SiT-S/8", &err), &err);
    CHECK(c.depth == 12 && c.hidden == 384 && c.heads == 6 && c.patch == 8);
    CHECK(d2c_sit_preset(&c, "SiT-X/2", &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_sit_preset(&c, "SiT-S/3", &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_sit_preset(&c, "SiT-S/22", &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_sit_preset(&c, "SiT-S/2x", &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_sit_preset(&c, "", &err) == D2C_INVALID_ARGUMENT);
}

static d2c_sit_config
small_config(void)
{
    d2c_sit_config c = {.depth = 2, .hidden = 24, .heads = 3, .patch = 4, .channels = 1, .out_channels = 1};

    c.height = c.width = 28;
    c.classes = 10;
    c.null_class = 1;
    c.path = D2C_PATH_GVP;
    return c;
}

static void
test_config_json(void)
{
    d2c_sit_config c = small_config(), back;
    char *json = d2c_sit_config_json(&c);
    char changed[1024];
    d2c_error err;

    CHECK_OK(d2c_sit_config_parse(&back, json, &err), &err);
    CHECK(memcmp(&c, &back, sizeof c) == 0);
    CHECK(d2c_sit_config_parse(&back, "{}", &err) == D2C_BAD_MODEL && strstr(err.message, "missing") != NULL);
    CHECK(d2c_sit_config_parse(&back, "[1", &err) == D2C_BAD_MODEL);
    CHECK(d2c_sit_config_parse(&back, "{\"colour\":1}", &err) == D2C_BAD_MODEL &&
          strstr(err.message, "colour"));
    CHECK(d2c_sit_config_parse(&back, "{\"depth\":1.5}", &err) == D2C_BAD_MODEL &&
          strstr(err.message, "integer"));
    CHECK(d2c_sit_config_parse(&back, "{\"depth\":1,\"depth\":2}", &err) == D2C_BAD_MODEL);
    CHECK(d2c_sit_config_parse(&back, "{\"path\":\"edm\"}", &err) == D2C_BAD_MODEL);
    snprintf(changed, sizeof changed, "%s trailing", json);
    CHECK(d2c_sit_config_parse(&back, changed, &err) == D2C_BAD_MODEL);
    free(json);
}

static void
test_config_check(void)
{
    const struct {
        size_t field;
        int value;
    } wrong[] = {{offsetof(d2c_sit_config, depth), 0},      {offsetof(d2c_sit_config, depth), 1 << 30},
                 {offsetof(d2c_sit_config, heads), 5},      {offsetof(d2c_sit_config, hidden), 27},
                 {offsetof(d2c_sit_config, patch), 3},      {offsetof(d2c_sit_config, out_channels), 3},
                 {offsetof(d2c_sit_config, classes), -1},   {offsetof(d2c_sit_config, text_tokens), 16},
                 {offsetof(d2c_sit_config, proj_block), 3}, {offsetof(d2c_sit_config, proj_block), 1},
                 {offsetof(d2c_sit_config, path), 7}};
    d2c_sit_config c = small_config();
    d2c_error err;
    size_t i;

    CHECK_OK(d2c_sit_config_check(&c, &err), &err);
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        c = small_config();
        memcpy((char *)&c + wrong[i].field, &wrong[i].value, sizeof(int));
        CHECK(d2c_sit_config_check(&c, &err) == D2C_INVALID_ARGUMENT);
    }
}

/* Writes a file with the shapes of a public SiT-S/2 (its blocks' contents do not matter) and opens it; json: the
 * metadata "d2c.sit", or NULL. */
static d2c_weights *
public_file(char *path, int depth, const char *extra, const char *json)
{
    const d2c_st_pair pair = {"d2c.sit", json};
    static float zeros[384 * 2048];
    d2c_st_item item[40] = {
        {"ema.pos_embed", D2C_ST_F32, 3, {1, 16, 384}, zeros},
        {"ema.x_embedder.proj.weight", D2C_ST_F32, 4, {384, 4, 2, 2}, zeros},
        {"ema.y_embedder.embedding_table.weight", D2C_ST_F32, 2, {11, 384}, zeros},
        {"ema.final_layer.linear.weight", D2C_ST_F32, 2, {32, 384}, zeros},
    };
    char names[32][64];
    d2c_weights *file = NULL;
    d2c_error err;
    int i;

    for (i = 0; i < depth; i++) {
        snprintf(names[i], sizeof names[i], "ema.blocks.%d.attn.qkv.weight", i);
        item[4 + i] = (d2c_st_item){names[i], D2C_ST_F32, 1, {1}, zeros};
    }
    if (extra != NULL)
        item[4 + depth] = (d2c_st_item){extra, D2C_ST_F32, 1, {1}, zeros};
    strcpy(path, "/tmp/d2c-test-sit-XXXXXX");
    close(mkstemp(path));
    CHECK_OK(d2c_safetensors_write(path, item, 4 + depth + (extra != NULL), &pair, json != NULL, &err), &err);
    CHECK_OK(d2c_weights_open(&file, path, &err), &err);
    return file;
}

static void
test_config_from_shapes(void)
{
    char path[64];
    d2c_weights *file = public_file(path, 12, NULL, NULL);
    const d2c_sit_hints hints = {.kind = "sit"};
    d2c_sit_config c;
    d2c_error err;

    CHECK_OK(d2c_sit_config_read(&c, file, "ema.", &hints, &err), &err);
    CHECK(c.depth == 12 && c.hidden == 384 && c.heads == 6 && c.patch == 2 && c.channels == 4);
    CHECK(c.out_channels == 8 && c.height == 8 && c.width == 8 && c.classes == 10 && c.null_class == 1);
    CHECK(c.path == D2C_PATH_LINEAR && c.text_tokens == 0 && c.proj_block == 0);
    CHECK(d2c_sit_config_read(&c, file, "", NULL, &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "\"x_embedder.proj.weight\"") != NULL);
    d2c_weights_close(file);
    unlink(path);
}

/* What the shapes cannot tell is refused. */
static void
test_config_refused(void)
{
    const struct {
        int depth;
        const char *extra;
        d2c_status status;
        const char *says;
    } cases[] = {
        {11, NULL, D2C_BAD_MODEL, "heads"},
        {12, "ema.text_embedder.conv.weight", D2C_UNSUPPORTED, "text embedder"},
    };
    const d2c_sit_hints hints = {.kind = "sit"};
    d2c_sit_config c;
    d2c_error err;
    int i;

    for (i = 0; i < 2; i++) {
        char path[64];
        d2c_weights *file = public_file(path, cases[i].depth, cases[i].extra, NULL);

        CHECK(d2c_sit_config_read(&c, file, "ema.", &hints, &err) == cases[i].status);
        CHECK(strstr(err.message, cases[i].says) != NULL);
        d2c_weights_close(file);
        unlink(path);
    }
}

/* A description that the tensors do not bear out, here of a much larger network, is refused before memory is asked for. */
static void
test_config_lies(void)
{
    d2c_sit_config c = {.depth = 12, .hidden = 384, .heads = 6, .patch = 2, .channels = 4, .out_channels = 8},
                   read;
    const struct {
        size_t field;
        int value;
        const char *says;
    } lies[] = {{offsetof(d2c_sit_config, hidden), 38400, "x_embedder.proj.weight"},
                {offsetof(d2c_sit_config, height), 4096, "pos_embed"},
                {offsetof(d2c_sit_config, classes), 1 << 24, "y_embedder"},
                {offsetof(d2c_sit_config, out_channels), 4, "final_layer"},
                {offsetof(d2c_sit_config, depth), 12, "blocks.0."}};
    d2c_error err;
    size_t i;

    c.height = c.width = 8;
    c.classes = 10;
    c.null_class = 1;
    for (i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        d2c_sit_config lie = c;
        d2c_weights *file;
        char path[64], *json;

        memcpy((char *)&lie + lies[i].field, &lies[i].value, sizeof(int));
        json = d2c_sit_config_json(&lie);
        file = public_file(path, 12, NULL, json);
        CHECK(d2c_sit_config_read(&read, file, "ema.", NULL, &err) == D2C_BAD_MODEL);
        CHECK(strstr(err.message, lies[i].says) != NULL);
        d2c_weights_close(file);
        unlink(path);
        free(json);
    }
}

/* The network has a parameter for every tensor of a public file. */
static void
test_names(void)
{
    fixture f;
    int i;

    if (!fixture_open(&f, "reference", "latent", D2C_F32, 0))
        return;
    CHECK(d2c_weights_count(f.weights) == f.sit->params.count);
    for (i = 0; i < d2c_weights_count(f.weights); i++)
        CHECK(d2c_params_find(&f.sit->params, d2c_weights_at(f.weights, i)->name) != NULL);
    fixture_close(&f);
}

/* Loading names the tensor that is missing, or has another shape. */
static void
test_load_errors(void)
{
    d2c_sit_config config;
    d2c_sit *other = NULL;
    fixture f;

    if (!fixture_open(&f, "reference", "pixel", D2C_F32, 0))
        return;
    config = f.sit->config;
    config.depth = 3;
    CHECK_OK(d2c_sit_create(&other, f.be, &config, D2C_F32, 0, &f.err), &f.err);
    CHECK(d2c_sit_load(other, f.be, other->params.value, f.weights, "", &f.err) == D2C_BAD_MODEL);
    CHECK(strstr(f.err.message, "blocks.2.") != NULL && strstr(f.err.message, "missing") != NULL);
    d2c_sit_destroy(other, f.be);
    config.depth = 2;
    config.classes = 7;
    CHECK_OK(d2c_sit_create(&other, f.be, &config, D2C_F32, 0, &f.err), &f.err);
    CHECK(d2c_sit_load(other, f.be, other->params.value, f.weights, "", &f.err) == D2C_BAD_MODEL);
    CHECK(strstr(f.err.message, "embedding_table") != NULL && strstr(f.err.detail, "[8, 24]") != NULL);
    d2c_sit_destroy(other, f.be);
    fixture_close(&f);
}

int
main(void)
{
    RUN(test_training_f32);
    RUN(test_training_bf16);
    RUN(test_opened);
    RUN(test_inference_eight);
    RUN(test_attached);
    RUN(test_fold_text);
    RUN(test_attached_misuse);
    RUN(test_small_arena);
    RUN(test_position_table);
    RUN(test_position_values);
    RUN(test_initialize);
    RUN(test_presets);
    RUN(test_config_json);
    RUN(test_config_check);
    RUN(test_config_from_shapes);
    RUN(test_config_refused);
    RUN(test_config_lies);
    RUN(test_names);
    RUN(test_load_errors);
    return check_report();
}
