/*
 * test_objective.c: what the kinds are trained to predict, against their public codes: DiT's schedule, the times of rows,
 * DiT's loss and REPA's with alignment, every gradient of both networks, normalised queries and keys among them; and Adam.
 */
#include "base/philox.h"
#include "sit_fixture.h"
#include "train/objective.h"

#define BATCH 4
#define ELEMENTS 32 /* of an image */
#define F32_BOUND 2e-5
#define BF16_BOUND 4e-2

/* ---- schedule and times ---------------------------------------------------------------------------------------- */

static void
open_golden(fixture *f, const char *name)
{
    memset(f, 0, sizeof *f);
    f->golden = fixture_file(f, name);
}

static void
test_schedule(void)
{
    double abar[D2C_DIT_STEPS];
    const float *wanted[5];
    static const char *const name[] = {"alpha", "sigma", "distance", "least", "greatest"};
    fixture f;
    int t, i;

    open_golden(&f, "objective/schedule");
    for (i = 0; i < 5; i++)
        wanted[i] = golden(&f, name[i]);
    d2c_dit_schedule(abar);
    for (t = 0; t < D2C_DIT_STEPS; t++) {
        float coefficient[4], bound[4], got[5];

        d2c_dit_coefficient(coefficient, abar, t);
        d2c_dit_bound(bound, abar, t);
        memcpy(got, coefficient, 2 * sizeof(float));
        memcpy(got + 2, bound, 3 * sizeof(float));
        for (i = 0; i < 5; i++)
            CHECK(fabs((double)got[i] - wanted[i][t]) <= 3e-7 * fabs(wanted[i][t]));
        CHECK(coefficient[2] == 0 && coefficient[3] == 1 && bound[3] == (t == 0));
    }
    fixture_close(&f);
}

/* The times of the recorded rows; SiT's own are those of REPA backwards, or the other way round. */
static void
check_times(fixture *f, const char *name, d2c_sit_kind kind, d2c_path path, d2c_time_sampling sampling)
{
    const d2c_sit_config config = {.kind = kind, .path = path};
    const int64_t *row = golden_tensor(f, "rows")->data;
    const float *wanted = golden(f, name);
    static d2c_objective objective;
    int i;

    CHECK_OK(d2c_objective_make(&objective, &config, sampling, ((uint64_t)1 << 33) + 17, &f->err), &f->err);
    for (i = 0; i < 5; i++) {
        d2c_row_time time = d2c_objective_time(&objective, row[i], 3);

        CHECK_NEAR(time.t, wanted[i], kind == D2C_SIT_KIND_DIT ? 0 : 2e-7);
        if (kind != D2C_SIT_KIND_DIT)
            CHECK_NEAR(time.path, kind == D2C_SIT_KIND_REPA ? 1 - wanted[i] : wanted[i], 2e-7);
    }
}

static void
test_times(void)
{
    const d2c_sit_kind sit = D2C_SIT_KIND_SIT, repa = D2C_SIT_KIND_REPA;
    fixture f;

    open_golden(&f, "objective/times");
    check_times(&f, "sit.linear", sit, D2C_PATH_LINEAR, D2C_TIME_UNIFORM);
    check_times(&f, "sit.gvp", sit, D2C_PATH_GVP, D2C_TIME_UNIFORM);
    check_times(&f, "sit.vp", sit, D2C_PATH_VP, D2C_TIME_UNIFORM);
    check_times(&f, "dit", D2C_SIT_KIND_DIT, D2C_PATH_LINEAR, D2C_TIME_UNIFORM);
    check_times(&f, "repa.linear.uniform", repa, D2C_PATH_LINEAR, D2C_TIME_UNIFORM);
    check_times(&f, "repa.cosine.uniform", repa, D2C_PATH_GVP, D2C_TIME_UNIFORM);
    check_times(&f, "repa.linear.lognormal", repa, D2C_PATH_LINEAR, D2C_TIME_LOGNORMAL);
    check_times(&f, "repa.cosine.lognormal", repa, D2C_PATH_GVP, D2C_TIME_LOGNORMAL);
    fixture_close(&f);
}

/* SiT's times with this sampling are REPA's backwards; DiT's steps are all there, and as often. */
static void
test_time_draws(void)
{
    static d2c_objective sit, repa, dit;
    d2c_sit_config config = {.kind = D2C_SIT_KIND_SIT, .path = D2C_PATH_GVP};
    int count[D2C_DIT_STEPS] = {0}, row;
    d2c_time_sampling sampling;
    d2c_error err;

    CHECK_OK(d2c_objective_make(&sit, &config, D2C_TIME_LOGNORMAL, 5, &err), &err);
    config.kind = D2C_SIT_KIND_REPA;
    CHECK_OK(d2c_objective_make(&repa, &config, D2C_TIME_LOGNORMAL, 5, &err), &err);
    config = (d2c_sit_config){.kind = D2C_SIT_KIND_DIT};
    CHECK_OK(d2c_objective_make(&dit, &config, D2C_TIME_UNIFORM, 5, &err), &err);
    for (row = 0; row < 100000; row++) {
        d2c_row_time a = d2c_objective_time(&sit, row, 1), b = d2c_objective_time(&repa, row, 1);

        CHECK(a.t == a.path && a.t == b.path && a.t == 1 - b.t && a.t > 0 && a.t < 1);
        count[(int)d2c_objective_time(&dit, row, 1).t]++;
    }
    for (row = 0; row < D2C_DIT_STEPS; row++)
        CHECK(count[row] > 50 && count[row] < 160);
    CHECK(d2c_objective_make(&dit, &config, D2C_TIME_LOGNORMAL, 5, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strcmp(err.message, "times of a network of kind \"dit\" cannot be drawn \"lognormal\"") == 0);
    config = (d2c_sit_config){.path = D2C_PATH_VP};
    CHECK(d2c_objective_make(&dit, &config, D2C_TIME_LOGNORMAL, 5, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_time_sampling_read(&sampling, "logit", &err) == D2C_INVALID_ARGUMENT);
    CHECK_OK(d2c_time_sampling_read(&sampling, "lognormal", &err), &err);
    CHECK(sampling == D2C_TIME_LOGNORMAL);
}

/* ---- losses and gradients ---------------------------------------------------------------------------------------- */

typedef struct pass {
    d2c_arena arena;
    d2c_sit_input in;
    d2c_sit_output out;
    d2c_tensor x, noise, xt, dv, dprojected, loss, align;
    d2c_step_record *record;
    d2c_sit_pass *saved;
} pass;

static d2c_tensor
on_device(fixture *f, const float *values, int64_t rows, int64_t width)
{
    d2c_tensor t =
        d2c_tensor2(fixture_device(f, (size_t)(rows * width) * sizeof(float)), D2C_F32, rows, width);

    CHECK_OK(d2c_upload(f->be, t.data, values, (size_t)(rows * width) * sizeof(float)), &f->be->error);
    return t;
}

static d2c_tensor
flat(d2c_tensor t)
{
    return d2c_tensor2(t.data, t.dtype, BATCH, d2c_tensor_count(t) / BATCH);
}

static void
pass_open(pass *p, fixture *f)
{
    const d2c_sit_config *c = &f->sit->config;
    const d2c_step_record record = {.loss_scale = 1.0f / BATCH};
    float t[BATCH];
    int i;

    memset(p, 0, sizeof *p);
    for (i = 0; i < BATCH; i++)
        t[i] = golden_tensor(f, "t")->dtype == D2C_ST_I64
                   ? (float)((const int64_t *)golden_tensor(f, "t")->data)[i]
                   : golden(f, "t")[i];
    p->record = fixture_device(f, sizeof record);
    CHECK_OK(d2c_upload(f->be, p->record, &record, sizeof record), &f->be->error);
    p->x = golden_upload(f, "x");
    p->noise = golden_upload(f, "noise");
    p->xt = device_like(f, p->x);
    p->in = (d2c_sit_input){.batch = BATCH, .x = p->xt, .label = golden_upload(f, "y")};
    p->in.t = on_device(f, t, BATCH, 1);
    p->in.t = d2c_tensor1(p->in.t.data, D2C_F32, BATCH);
    p->out.v = p->x;
    p->out.v.dim[1] = d2c_sit_outputs(c);
    p->out.v = d2c_tensor4(fixture_device(f, (size_t)(BATCH * d2c_sit_outputs(c) * 16) * sizeof(float)),
                           D2C_F32, BATCH, d2c_sit_outputs(c), 4, 4);
    p->dv = device_like(f, p->out.v);
    p->loss = d2c_tensor1(fixture_device(f, BATCH * sizeof(float)), D2C_F32, BATCH);
    p->align = d2c_tensor1(fixture_device(f, BATCH * sizeof(float)), D2C_F32, BATCH);
    if (c->proj_block > 0) {
        p->out.projected =
            d2c_tensor3(fixture_device(f, BATCH * 4 * 5 * sizeof(float)), D2C_F32, BATCH, 4, 5);
        p->dprojected = device_like(f, p->out.projected);
    }
    CHECK_OK(d2c_sit_workspace(&p->arena.capacity, f->sit, BATCH, 0, 1, &f->err), &f->err);
    p->arena.base = fixture_device(f, p->arena.capacity);
}

static void
check_error(fixture *f, const char *name, d2c_tensor got, double bound)
{
    double error = relative_error(f, device_values(f, got), name);

    if (!(error < bound))
        fprintf(stderr, "%s: %s is off by %g\n", f->be->ops->name, name, error);
    CHECK(error < bound);
}

/* The recorded steps, DiT's loss, and backward. */
static void
check_dit(const char *device, d2c_dtype precision, double bound)
{
    const d2c_sit_hints hints = {.kind = "dit", .heads = 2};
    float coefficient[BATCH][4], terms[BATCH][4];
    double abar[D2C_DIT_STEPS];
    fixture f;
    pass p;
    int i;

    if (!fixture_open_as(&f, device, "objective/dit", &hints, precision, 1))
        return;
    pass_open(&p, &f);
    d2c_dit_schedule(abar);
    for (i = 0; i < BATCH; i++) {
        int t = (int)((const int64_t *)golden_tensor(&f, "t")->data)[i];

        d2c_dit_coefficient(coefficient[i], abar, t);
        d2c_dit_bound(terms[i], abar, t);
    }
    CHECK_OK(d2c_diffuse(f.be, p.xt, d2c_absent(), p.x, p.noise, on_device(&f, coefficient[0], BATCH, 4)),
             &f.be->error);
    check_error(&f, "xt", p.xt, 1e-6);
    CHECK_OK(d2c_sit_forward(f.sit, f.be, &p.arena, &p.in, &p.out, 1, &p.saved, &f.err), &f.err);
    check_error(&f, "out", p.out.v, bound);
    CHECK_OK(d2c_dit_loss(f.be, p.loss, flat(p.dv), flat(p.out.v), p.noise, p.x,
                          on_device(&f, terms[0], BATCH, 4), p.record),
             &f.be->error);
    check_error(&f, "loss", p.loss, bound);
    CHECK_OK(d2c_sit_backward(f.sit, f.be, &p.arena, p.saved, p.dv, d2c_absent(), &f.err), &f.err);
    check_gradients(&f, bound, 1);
    fixture_close(&f);
}

/* What the public code predicts along its path, in SiT's time with the sign turned. */
static void
diffuse_back(fixture *f, pass *p, d2c_tensor target, d2c_path path)
{
    float t[BATCH];
    d2c_tensor coefficient = d2c_tensor2(fixture_device(f, 4 * BATCH * sizeof(float)), D2C_F32, BATCH, 4);
    d2c_tensor time;
    int i;

    for (i = 0; i < BATCH; i++)
        t[i] = 1 - golden(f, "t")[i];
    time = on_device(f, t, BATCH, 1);
    CHECK_OK(d2c_path_coefficients(f->be, coefficient, d2c_tensor1(time.data, D2C_F32, BATCH), path),
             &f->be->error);
    CHECK_OK(d2c_diffuse(f->be, p->xt, target, p->x, p->noise, coefficient), &f->be->error);
    CHECK_OK(d2c_axpby(f->be, target, 0, target, -1), &f->be->error);
}

/* The projector is among a file's tensors, but its description alone says that it is used. */
static int
open_repa(fixture *f, const char *device, d2c_dtype precision)
{
    const d2c_sit_hints hints = {.kind = "repa", .heads = 2};
    d2c_sit_config config;

    if (!fixture_open_as(f, device, "objective/repa", &hints, precision, 1))
        return 0;
    config = f->sit->config;
    CHECK(config.qk_norm && config.proj_block == 0);
    config.proj_block = 1;
    config.proj_hidden = 8;
    config.proj_width = 5;
    d2c_sit_destroy(f->sit, f->be);
    CHECK_OK(d2c_sit_create(&f->sit, f->be, &config, precision, 1, &f->err), &f->err);
    CHECK_OK(d2c_sit_load(f->sit, f->be, f->sit->params.value, f->weights, "", &f->err), &f->err);
    return f->sit != NULL;
}

static void
check_repa(const char *device, d2c_dtype precision, double bound)
{
    static const char *const name[] = {"cosine", "linear"};
    static const d2c_path path[] = {D2C_PATH_GVP, D2C_PATH_LINEAR};
    d2c_tensor target;
    char key[32];
    fixture f;
    pass p;
    int i;

    if (!open_repa(&f, device, precision))
        return;
    pass_open(&p, &f);
    target = device_like(&f, p.x);
    for (i = 0; i < 2; i++) {
        p.arena.used = 0;
        diffuse_back(&f, &p, target, path[i]);
        snprintf(key, sizeof key, "%s.xt", name[i]);
        check_error(&f, key, p.xt, 1e-6);
        CHECK_OK(d2c_sit_forward(f.sit, f.be, &p.arena, &p.in, &p.out, 1, &p.saved, &f.err), &f.err);
        CHECK_OK(d2c_mse_loss(f.be, p.loss, flat(p.dv), flat(p.out.v), flat(target), p.record), &f.be->error);
        snprintf(key, sizeof key, "%s.loss", name[i]);
        check_error(&f, key, p.loss, bound);
    }
    check_error(&f, "out", p.out.v, bound);
    CHECK_OK(d2c_cosine_loss(f.be, p.align, p.dprojected, p.out.projected, golden_upload(&f, "features"),
                             0.5f, p.record),
             &f.be->error);
    CHECK_OK(d2c_sit_backward(f.sit, f.be, &p.arena, p.saved, p.dv, p.dprojected, &f.err), &f.err);
    check_gradients(&f, bound, 1);
    for (i = 1; i < BATCH; i++) /* the public code tells the mean of the batch */
        CHECK_NEAR(golden(&f, "align")[0],
                   (device_values(&f, p.align)[0] + device_values(&f, p.align)[1] +
                    device_values(&f, p.align)[2] + device_values(&f, p.align)[3]) /
                       4,
                   bound);
    fixture_close(&f);
}

static void
check_gradients_on(const char *device)
{
    check_dit(device, D2C_F32, F32_BOUND);
    check_repa(device, D2C_F32, F32_BOUND);
    if (!device_has_bf16(device))
        return;
    check_dit(device, D2C_BF16, BF16_BOUND);
    check_repa(device, D2C_BF16, BF16_BOUND);
}

static void
test_gradients(void)
{
    ON_EVERY_DEVICE(check_gradients_on);
}

/* ---- sizes ----------------------------------------------------------------------------------------------------------- */

static int64_t
parameters_of(const d2c_params *params)
{
    int64_t count = 0;
    int i;

    for (i = 0; i < params->count; i++)
        count += params->item[i].count;
    return count;
}

/* Every public size of the kind, at 32 x 32 x 4 and 1000 classes, has as many parameters as the public code's. */
static void
check_sizes(fixture *f, const char *name, d2c_sit_kind kind)
{
    static const char *const size[] = {"S", "B", "L", "XL"};
    const int64_t *wanted = golden_tensor(f, name)->data;
    int i;

    for (i = 0; i < 12; i++) {
        d2c_sit_config config = {.kind = kind,
                                 .channels = 4,
                                 .out_channels = kind == D2C_SIT_KIND_REPA ? 4 : 8,
                                 .height = 32,
                                 .width = 32,
                                 .classes = 1000,
                                 .null_class = 1,
                                 .qk_norm = kind == D2C_SIT_KIND_REPA};
        d2c_sit *sit = NULL;
        char model[16];

        snprintf(model, sizeof model, "%s-%s/%d", kind == D2C_SIT_KIND_DIT ? "DiT" : "SiT", size[i / 3],
                 2 << i % 3);
        CHECK_OK(d2c_sit_preset(&config, model, &f->err), &f->err);
        CHECK_OK(d2c_sit_outline(&sit, &config, D2C_F32, &f->err), &f->err);
        CHECK(sit != NULL && parameters_of(&sit->params) == wanted[i]);
        d2c_sit_destroy(sit, NULL);
    }
}

static void
test_sizes(void)
{
    d2c_sit_config config = {.kind = D2C_SIT_KIND_DIT};
    fixture f;

    open_golden(&f, "objective/sizes");
    check_sizes(&f, "sit", D2C_SIT_KIND_SIT);
    check_sizes(&f, "dit", D2C_SIT_KIND_DIT);
    check_sizes(&f, "repa", D2C_SIT_KIND_REPA);
    CHECK(d2c_sit_preset(&config, "SiT-S/2", &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(f.err.hint, "DiT-S, DiT-B, DiT-L and DiT-XL") != NULL);
    fixture_close(&f);
}

/* ---- Adam ---------------------------------------------------------------------------------------------------------- */

static void
check_adam(const char *device)
{
    const d2c_adamw setting = {0.9f, 0.999f, 1e-8f, 0.05f, 1};
    const float zeros[37] = {0};
    d2c_tensor value, m, v;
    d2c_step_record *at;
    char key[32];
    fixture f;
    int step;

    open_golden(&f, "objective/adam");
    CHECK_OK(d2c_backend_open(&f.be, device, 1, &f.err), &f.err);
    value = golden_upload(&f, "start");
    m = on_device(&f, zeros, 1, 37);
    v = on_device(&f, zeros, 1, 37);
    at = fixture_device(&f, sizeof *at);
    for (step = 0; step < 3; step++) {
        const d2c_step_record record = {.learning_rate = 0.01f,
                                        .bias_correction1 = (float)(1 - pow(0.9, step + 1)),
                                        .bias_correction2 = (float)(1 - pow(0.999, step + 1)),
                                        .max_grad_norm = 1};
        d2c_tensor grad;

        snprintf(key, sizeof key, "grad.%d", step);
        grad = golden_upload(&f, key);
        CHECK_OK(d2c_upload(f.be, at, &record, sizeof record), &f.be->error);
        CHECK_OK(d2c_gradient_norm(f.be, at, grad), &f.be->error);
        CHECK_OK(d2c_adamw_step(f.be, value, m, v, d2c_absent(), d2c_absent(), grad, &setting, at),
                 &f.be->error);
        snprintf(key, sizeof key, "value.%d", step);
        check_error(&f, key, value, 1e-6);
    }
    fixture_close(&f);
}

static void
test_adam(void)
{
    ON_EVERY_DEVICE(check_adam);
}

int
main(void)
{
    RUN(test_schedule);
    RUN(test_times);
    RUN(test_time_draws);
    RUN(test_gradients);
    RUN(test_adam);
    RUN(test_sizes);
    return check_report();
}
