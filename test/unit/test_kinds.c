/*
 * test_kinds.c: DiT and REPA against their public codes: outputs, scores by an independent computation, samples with the
 * same noise; what tells the kinds of files apart, and what is refused.
 */
#include <stddef.h>
#include <unistd.h>

#include "image/image.h"
#include "nn/difficulty.h"
#include "nn/dit_schedule.h"
#include "nn/model.h"
#include "nn/sampler.h"
#include "sit_fixture.h"

#define SEED 7 /* of the fixtures */
#define LABEL 2
#define ELEMENTS 256
#define PROJECTED 10

/* The three networks of test/golden/kinds. */
typedef struct network {
    const char *name;
    d2c_sit_hints hints;
    int hidden;
    double time[4];
    int64_t label[4]; /* -1: the null class */
} network;

static const network dit = {"kinds/dit", {.kind = "dit", .heads = 2}, 32, {0, 17, 500, 999}, {1, -1, 0, 2}};
static const network repa = {
    "kinds/repa", {.name = "last", .heads = 2}, 32, {0, 0.11, 0.48, 1}, {1, -1, 0, 2}};
static const network repa_qk = {"kinds/repa-qk", {.heads = 3}, 24, {0, 0.11, 0.48, 1}, {1, -1, 0, 2}};

static void
check_near(const fixture *f, const char *name, double error, double bound)
{
    if (!(error < bound))
        fprintf(stderr, "%s: %s is off by %g\n", f->be->ops->name, name, error);
    CHECK(error < bound);
}

/* ---- outputs ------------------------------------------------------------------------------------------------------ */

/* The raw outputs of the four images, and the first block's tokens; |difference| / |golden|. */
static void
check_outputs(fixture *f, const network *n, double bound)
{
    int64_t outputs = (int64_t)d2c_sit_outputs(&f->sit->config) * 64;
    float *out = fixture_host(f, 4 * (size_t)outputs * sizeof *out);
    float *hidden = fixture_host(f, 16 * (size_t)n->hidden * sizeof *hidden);
    d2c_scorer *scorer = NULL;
    int i;

    CHECK(golden_tensor(f, "out")->count == 4 * outputs);
    CHECK_OK(d2c_scorer_open(&scorer, f->sit, f->be, 1, &f->err), &f->err);
    for (i = 0; i < 4; i++)
        CHECK_OK(d2c_scorer_denoise(scorer, out + i * outputs, golden(f, "x") + i * ELEMENTS, n->time[i],
                                    n->label[i], &f->err),
                 &f->err);
    check_near(f, "out", relative_error(f, out, "out"), bound);
    CHECK_OK(d2c_scorer_tokens(scorer, hidden, golden(f, "x"), 16, 1, &f->err), &f->err);
    check_near(f, "tokens", relative_error(f, hidden, "tokens"), bound);
    d2c_scorer_close(scorer);
}

/* The same network with its parameters where the file has them. */
static void
open_in_place(fixture *f)
{
    d2c_sit_config config = f->sit->config;

    d2c_sit_destroy(f->sit, f->be);
    f->sit = NULL;
    CHECK_OK(d2c_sit_open(&f->sit, f->be, &config, D2C_F32, f->weights, "", &f->err), &f->err);
}

static void
check_network(const char *device, const network *n)
{
    fixture f;

    if (!fixture_open_as(&f, device, n->name, &n->hints, D2C_F32, 0))
        return;
    check_outputs(&f, n, 1e-5);
    open_in_place(&f);
    if (f.sit != NULL)
        check_outputs(&f, n, 1e-5);
    fixture_close(&f);
    if (!device_has_bf16(device))
        return;
    if (!fixture_open_as(&f, device, n->name, &n->hints, D2C_BF16, 0))
        return;
    check_outputs(&f, n, 5e-3);
    fixture_close(&f);
}

static void
check_every_network(const char *device)
{
    check_network(device, &dit);
    check_network(device, &repa);
    check_network(device, &repa_qk);
}

static void
test_outputs(void)
{
    ON_EVERY_DEVICE(check_every_network);
}

/* REPA's projector under its public names, which a description has to ask for. */
static void
test_projector(void)
{
    const int64_t label[] = {1, 5, 0, 2};
    const float time[] = {0, 0.11f, 0.48f, 1};
    d2c_arena arena = {0};
    d2c_sit_config config;
    d2c_sit *sit = NULL;
    d2c_sit_output out = {0};
    d2c_sit_input in = {.batch = 4};
    fixture f;

    if (!fixture_open_as(&f, "reference", repa.name, &repa.hints, D2C_F32, 0))
        return;
    config = f.sit->config;
    CHECK(config.proj_block == 0);
    config.proj_block = 1;
    config.proj_hidden = 16;
    config.proj_width = PROJECTED;
    CHECK_OK(d2c_sit_create(&sit, f.be, &config, D2C_F32, 0, &f.err), &f.err);
    CHECK_OK(d2c_sit_load(sit, f.be, sit->params.value, f.weights, "", &f.err), &f.err);
    in.x = golden_upload(&f, "x");
    in.t = d2c_tensor1(fixture_device(&f, sizeof time), D2C_F32, 4);
    in.label = d2c_tensor1(fixture_device(&f, sizeof label), D2C_I64, 4);
    CHECK_OK(d2c_upload(f.be, in.t.data, time, sizeof time), &f.be->error);
    CHECK_OK(d2c_upload(f.be, in.label.data, label, sizeof label), &f.be->error);
    CHECK_OK(d2c_sit_workspace(&arena.capacity, sit, 4, 1, 0, &f.err), &f.err);
    arena.base = fixture_device(&f, arena.capacity);
    out.projected = device_like(&f, golden_upload(&f, "projected"));
    CHECK_OK(d2c_sit_forward(sit, f.be, &arena, &in, &out, 0, NULL, &f.err), &f.err);
    check_near(&f, "projected", relative_error(&f, device_values(&f, out.projected), "projected"), 1e-5);
    d2c_sit_destroy(sit, f.be);
    fixture_close(&f);
}

/* ---- scores ------------------------------------------------------------------------------------------------------- */

static void
check_curve(fixture *f, const char *name, int timesteps, double bound)
{
    double score = 0, mean = 0, worst = 0, curve[32], *expected = fixture_host(f, sizeof curve);
    d2c_scorer *scorer = NULL;
    int i;

    CHECK(golden_tensor(f, name)->bytes == (size_t)timesteps * sizeof *expected);
    memcpy(expected, golden_tensor(f, name)->data, (size_t)timesteps * sizeof *expected);
    CHECK_OK(d2c_scorer_open_narrow(&scorer, f->sit, f->be, timesteps, 7, &f->err), &f->err);
    CHECK_OK(d2c_scorer_run(scorer, &score, curve, golden(f, "x"), LABEL, SEED, &f->err), &f->err);
    for (i = 0; i < timesteps; i++) {
        worst = fmax(worst, fabs(curve[i] - expected[i]) / expected[i]);
        mean += curve[i] / timesteps;
    }
    check_near(f, name, worst, bound);
    CHECK_NEAR(score, mean, 1e-12);
    d2c_scorer_close(scorer);
}

static void
check_repa_scores(const char *device, const network *n)
{
    fixture f;

    if (!fixture_open_as(&f, device, n->name, &n->hints, D2C_F32, 0))
        return;
    check_curve(&f, "difficulty.linear.4", 4, 1e-5);
    check_curve(&f, "difficulty.linear.20", 20, 1e-5);
    f.sit->config.path = D2C_PATH_GVP;
    check_curve(&f, "difficulty.cosine.4", 4, 1e-5);
    fixture_close(&f);
}

static void
check_scores(const char *device)
{
    fixture f;

    if (!fixture_open_as(&f, device, dit.name, &dit.hints, D2C_F32, 0))
        return;
    check_curve(&f, "difficulty.4", 4, 1e-5);
    check_curve(&f, "difficulty.20", 20, 1e-5);
    fixture_close(&f);
    check_repa_scores(device, &repa);
    check_repa_scores(device, &repa_qk);
}

static void
test_scores(void)
{
    ON_EVERY_DEVICE(check_scores);
}

/* ---- samples ------------------------------------------------------------------------------------------------------ */

static void
check_sample(fixture *f, const d2c_sampler *setting, const char *name, double bound)
{
    const int64_t labels[] = {1, 2};
    const uint64_t seeds[] = {5, (1ull << 40) + 3};
    float x[2 * ELEMENTS];

    CHECK_OK(d2c_sample(x, f->sit, f->be, setting, 2, labels, seeds, 2, NULL, NULL, &f->err), &f->err);
    check_near(f, name, relative_error(f, x, name), bound);
}

static void
check_dit_samples(const char *device)
{
    const d2c_sampler plain = {D2C_SAMPLER_ANCESTRAL, 10, 1, 0, 999, 0, 0, 0};
    const d2c_sampler guided = {D2C_SAMPLER_ANCESTRAL, 10, 2.5f, 0, 999, 3, 0, 0};
    const d2c_sampler few = {D2C_SAMPLER_ANCESTRAL, 3, 1, 0, 999, 0, 0, 0};
    fixture f;

    if (!fixture_open_as(&f, device, dit.name, &dit.hints, D2C_F32, 0))
        return;
    check_sample(&f, &plain, "sample.plain", 1e-5);
    check_sample(&f, &guided, "sample.guided", 1e-5);
    check_sample(&f, &few, "sample.few", 1e-5);
    fixture_close(&f);
}

static void
check_repa_samples(const char *device, const network *n)
{
    const d2c_sampler euler = {D2C_SAMPLER_EULER, 5, 1, 0, 1, 0, 0, 0},
                      heun = {D2C_SAMPLER_HEUN, 5, 1, 0, 1, 0, 0, 0};
    const d2c_sampler sde = {D2C_SAMPLER_SDE, 6, 1, 0, 1, 0, 0, 0};
    const d2c_sampler guided_euler = {D2C_SAMPLER_EULER, 5, 2.5f, 0.4, 0.8, 0, 0, 0};
    const d2c_sampler guided_heun = {D2C_SAMPLER_HEUN, 5, 2.5f, 0.5, 0.7, 0, 0, 0};
    const d2c_sampler guided_sde = {D2C_SAMPLER_SDE, 6, 1.8f, 0, 0.7, 0, 0, 0};
    fixture f;

    if (!fixture_open_as(&f, device, n->name, &n->hints, D2C_F32, 0))
        return;
    check_sample(&f, &euler, "sample.euler", 1e-5);
    check_sample(&f, &heun, "sample.heun", 1e-5);
    check_sample(&f, &sde, "sample.sde", 1e-5);
    check_sample(&f, &guided_euler, "sample.guided.euler", 1e-5);
    check_sample(&f, &guided_heun, "sample.guided.heun", 1e-5);
    check_sample(&f, &guided_sde, "sample.guided.sde", 1e-5);
    f.sit->config.path = D2C_PATH_GVP;
    check_sample(&f, &sde, "sample.sde.cosine", 1e-5);
    fixture_close(&f);
}

static void
check_samples(const char *device)
{
    check_dit_samples(device);
    check_repa_samples(device, &repa);
    check_repa_samples(device, &repa_qk);
}

static void
test_samples(void)
{
    ON_EVERY_DEVICE(check_samples);
}

/* The steps of 250, and the schedule, as DiT's paper and code state them. */
static void
test_schedule(void)
{
    static const int first[] = {999, 995, 991, 987}, last[] = {12, 8, 4, 0};
    double abar[D2C_DIT_STEPS];
    d2c_dit_step step[250];
    int i;

    d2c_dit_schedule(abar);
    CHECK_NEAR(abar[0], 0.9999, 1e-12);
    CHECK_NEAR(abar[250], 0.52142303, 1e-8);
    CHECK_NEAR(abar[999], 4.03583e-5, 1e-10);
    d2c_dit_respace(step, 250);
    for (i = 0; i < 4; i++) {
        CHECK(step[i].t == first[i]);
        CHECK(step[246 + i].t == last[i]);
    }
    for (i = 1; i < 250; i++)
        CHECK(step[i].t < step[i - 1].t && isfinite(step[i].low) && step[i - 1].low <= step[i - 1].high);
    CHECK_NEAR(step[249].from_x, 1 / sqrt(abar[0]), 1e-12);
}

/* ---- what a file is ------------------------------------------------------------------------------------------------ */

/* A public file of an official size with no values to speak of: SiT-S/2 of 8x8 latents with `outputs` channels out, and
 * `extra`, one more tensor. */
static d2c_weights *
public_file(char path[64], int outputs, const char *extra)
{
    static float zeros[384 * 1536 + 1];
    d2c_st_item item[32] = {
        {"x_embedder.proj.weight", D2C_ST_F32, 4, {384, 4, 2, 2}, zeros},
        {"pos_embed", D2C_ST_F32, 3, {1, 16, 384}, zeros},
        {"y_embedder.embedding_table.weight", D2C_ST_F32, 2, {11, 384}, zeros},
        {"final_layer.linear.weight", D2C_ST_F32, 2, {4 * outputs, 384}, zeros},
        {extra, D2C_ST_F32, 1, {1}, zeros},
    };
    static char name[12][64];
    int items = extra != NULL ? 5 : 4, i;
    d2c_weights *file = NULL;
    d2c_error err;

    for (i = 0; i < 12; i++) {
        snprintf(name[i], sizeof name[i], "%sblocks.%d.attn.qkv.weight", i < 8 ? "" : "decoder_",
                 i < 8 ? i : i - 8);
        item[items++] = (d2c_st_item){name[i], D2C_ST_F32, 2, {1152, 384}, zeros};
    }
    strcpy(path, "/tmp/d2c-test-kinds-XXXXXX");
    close(mkstemp(path));
    CHECK_OK(d2c_safetensors_write(path, item, items, NULL, 0, &err), &err);
    CHECK_OK(d2c_weights_open(&file, path, &err), &err);
    return file;
}

static void
test_kind_told(void)
{
    static const char projectors[] = "projectors.0.0.weight";
    const struct {
        int outputs;
        const char *extra, *kind, *name;
        int told; /* -1: refused with: */
        const char *says;
    } cases[] = {
        {8, NULL, "dit", "x", D2C_SIT_KIND_DIT, NULL},
        {8, NULL, "sit", "DiT-XL-2-256x256", D2C_SIT_KIND_SIT, NULL},
        {4, NULL, "repa", NULL, D2C_SIT_KIND_REPA, NULL},
        {8, NULL, NULL, "DiT-XL-2-256x256", D2C_SIT_KIND_DIT, NULL},
        {8, NULL, NULL, "dit-mine", D2C_SIT_KIND_DIT, NULL},
        {8, NULL, NULL, "SiT-XL-2-256", D2C_SIT_KIND_SIT, NULL},
        {8, NULL, NULL, "sit-xl", D2C_SIT_KIND_SIT, NULL},
        {4, NULL, NULL, "SiT-XL-2-repa", -1, "cannot be told"},
        {4, projectors, NULL, "last", D2C_SIT_KIND_REPA, NULL},
        {4, projectors, "sit", NULL, D2C_SIT_KIND_SIT, NULL},
        {4, projectors, NULL, "SiT-XL-2-256x256", -1, "cannot be told"},
        {8, NULL, NULL, "mydit", -1, "cannot be told"},
        {4, NULL, NULL, NULL, -1, "cannot be told"},
        {8, NULL, "unet", NULL, -1, "\"unet\""},
        {4, NULL, "dit", NULL, -1, "twice as many output channels"},
        {8, "text_embedder.conv.weight", "sit", NULL, -1, "text embedder"},
        {4, "bn.running_mean", "repa", NULL, -1, "normalises its latents"},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const d2c_sit_hints hints = {.kind = cases[i].kind, .name = cases[i].name};
        char path[64];
        d2c_weights *file = public_file(path, cases[i].outputs, cases[i].extra);
        d2c_sit_config c;
        d2c_error err = {0};
        d2c_status status = d2c_sit_config_read(&c, file, "", &hints, &err);

        if (cases[i].told >= 0) {
            CHECK_OK(status, &err);
            CHECK((int)c.kind == cases[i].told && c.depth == 12 && c.heads == 6 && c.height == 8);
            CHECK(c.proj_block == 0 && c.qk_norm == 0 && c.path == D2C_PATH_LINEAR);
        } else {
            CHECK(status == D2C_BAD_MODEL || status == D2C_UNSUPPORTED);
            CHECK(strstr(err.message, cases[i].says) != NULL);
        }
        if (cases[i].told < 0 && strcmp(cases[i].says, "cannot be told") == 0)
            CHECK(strstr(err.hint, "{\"kind\": \"") != NULL);
        d2c_weights_close(file);
        unlink(path);
    }
}

/* The path is what is said, where the kind has it. */
static void
test_path(void)
{
    static const struct {
        const char *kind, *said;
        int path; /* -1: refused with: */
        const char *says;
    } cases[] = {
        {"sit", "linear", D2C_PATH_LINEAR, NULL}, {"sit", "gvp", D2C_PATH_GVP, NULL},
        {"sit", "vp", D2C_PATH_VP, NULL},         {"repa", "gvp", D2C_PATH_GVP, NULL},
        {"repa", "vp", -1, "no path \"vp\""},     {"sit", "GVP", -1, "\"path\" must be"},
    };
    char path[64];
    d2c_weights *file = public_file(path, 4, NULL);
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const d2c_sit_hints hints = {.kind = cases[i].kind, .path = cases[i].said};
        d2c_sit_config c;
        d2c_error err = {0};
        d2c_status status = d2c_sit_config_read(&c, file, "", &hints, &err);

        CHECK(cases[i].path >= 0 ? status == D2C_OK && (int)c.path == cases[i].path
                                 : status == D2C_BAD_MODEL && strstr(err.message, cases[i].says) != NULL);
    }
    d2c_weights_close(file);
    unlink(path);
}

/* Heads are said where the size is none of the public ones; what is said must fit. */
static void
test_heads(void)
{
    d2c_sit_hints hints = {.kind = "dit"};
    d2c_weights *file;
    d2c_sit_config c;
    d2c_error err;
    fixture f = {0};

    file = fixture_weights(&f, "kinds/dit");
    CHECK(d2c_sit_config_read(&c, file, "", &hints, &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "heads") != NULL && strstr(err.hint, "{\"heads\": 16}") != NULL);
    hints.heads = 5;
    CHECK(d2c_sit_config_read(&c, file, "", &hints, &err) == D2C_BAD_MODEL);
    hints.heads = 2;
    CHECK_OK(d2c_sit_config_read(&c, file, "", &hints, &err), &err);
    CHECK(c.heads == 2 && c.depth == 3 && c.out_channels == 8 && d2c_sit_outputs(&c) == 8);
    d2c_weights_close(file);
}

/* The metadata carries what older files do not have, and older files read as before. */
static void
test_metadata(void)
{
    static const char *const wrong[] = {"\"kind\":\"unet\"", "\"kind\":1", "\"qk_norm\":2",
                                        "\"kind\":\"repa\",\"kind\":\"repa\""};
    d2c_sit_config c, back;
    d2c_error err;
    fixture f;
    char *json, changed[1024];
    size_t i;

    if (!fixture_open_as(&f, "reference", repa_qk.name, &repa_qk.hints, D2C_F32, 0))
        return;
    c = f.sit->config;
    json = d2c_sit_config_json(&c);
    CHECK(strstr(json, "\"kind\":\"repa\"") != NULL && strstr(json, "\"qk_norm\":1") != NULL);
    CHECK_OK(d2c_sit_config_parse(&back, json, &err), &err);
    CHECK(memcmp(&c, &back, sizeof c) == 0);
    free(json);
    c.kind = D2C_SIT_KIND_SIT;
    c.qk_norm = 0;
    json = d2c_sit_config_json(&c);
    CHECK(strstr(json, "kind") == NULL && strstr(json, "qk_norm") == NULL);
    CHECK_OK(d2c_sit_config_parse(&back, json, &err), &err);
    CHECK(back.kind == D2C_SIT_KIND_SIT && back.qk_norm == 0);
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(changed, sizeof changed, "%.*s,%s}", (int)strlen(json) - 1, json, wrong[i]);
        CHECK(d2c_sit_config_parse(&back, changed, &err) == D2C_BAD_MODEL);
    }
    free(json);
    fixture_close(&f);
}

/* REPA's first files call the blocks behind the projector's tap otherwise. */
static void
test_legacy_names(void)
{
    d2c_st_item item[256];
    char path[] = "/tmp/d2c-test-kinds-XXXXXX", renamed[256][96];
    const d2c_sit_hints hints = {.kind = "repa", .heads = 2};
    d2c_sit_config config;
    d2c_sit *sit = NULL;
    d2c_weights *file = NULL;
    fixture f;
    int i, count, block, at;

    if (!fixture_open_as(&f, "reference", repa.name, &repa.hints, D2C_F32, 0))
        return;
    count = d2c_weights_count(f.weights);
    for (i = 0; i < count && i < 256; i++) {
        const d2c_st_tensor *t = d2c_weights_at(f.weights, i);

        snprintf(renamed[i], sizeof renamed[i], "%s", t->name);
        if (sscanf(t->name, "blocks.%d.%n", &block, &at) == 1 && block >= 1)
            snprintf(renamed[i], sizeof renamed[i], "decoder_blocks.%d.%s", block - 1, t->name + at);
        item[i] = (d2c_st_item){renamed[i], D2C_ST_F32, t->ndim, {0}, t->data};
        memcpy(item[i].dim, t->dim, (size_t)t->ndim * sizeof t->dim[0]);
    }
    close(mkstemp(path));
    CHECK_OK(d2c_safetensors_write(path, item, count, NULL, 0, &f.err), &f.err);
    CHECK_OK(d2c_weights_open(&file, path, &f.err), &f.err);
    CHECK_OK(d2c_sit_config_read(&config, file, "", &hints, &f.err), &f.err);
    CHECK(memcmp(&config, &f.sit->config, sizeof config) == 0);
    CHECK_OK(d2c_sit_create(&sit, f.be, &config, D2C_F32, 0, &f.err), &f.err);
    CHECK_OK(d2c_sit_load(sit, f.be, sit->params.value, file, "", &f.err), &f.err);
    CHECK(memcmp(sit->params.value, f.sit->params.value, (size_t)sit->params.total * sizeof(float)) == 0);
    d2c_sit_destroy(sit, f.be);
    CHECK_OK(d2c_sit_open(&sit, f.be, &config, D2C_F32, file, "", &f.err), &f.err);
    d2c_sit_destroy(f.sit, f.be);
    f.sit = sit;
    check_outputs(&f, &repa, 1e-5);
    d2c_weights_close(file);
    unlink(path);
    fixture_close(&f);
}

/* SiT and DiT round a picture, REPA cuts it. */
static void
test_rounding(void)
{
    const float x[] = {-1, 1, 0, 0.5f, -2, 2, NAN};
    const uint8_t rounded[] = {0, 255, 128, 191, 0, 255, 0}, cut[] = {0, 255, 127, 191, 0, 255, 0};
    d2c_image image = {0};
    d2c_error err;

    CHECK_OK(d2c_image_allocate(&image, 7, 1, 1, &err), &err);
    d2c_image_from_planes(&image, x);
    CHECK(memcmp(image.pixels, rounded, 7) == 0);
    d2c_image_from_planes_down(&image, x);
    CHECK(memcmp(image.pixels, cut, 7) == 0);
    d2c_image_free(&image);
}

/* The model of that name in the fixtures' folder, by its own description: its output for the recorded image. */
static void
check_file(const char *name, const char *kind, double t, const char *output)
{
    d2c_scorer *scorer = NULL;
    d2c_model *model = NULL;
    float out[64];
    fixture f = {0};

    f.golden = fixture_file(&f, "kinds/files.golden");
    CHECK_OK(d2c_backend_open(&f.be, "reference", 1, &f.err), &f.err);
    CHECK_OK(d2c_model_open(&model, f.be, GOLDEN "/kinds", name, D2C_F32, &f.err), &f.err);
    if (model != NULL) {
        CHECK(strcmp(model->info.kind, kind) == 0 && model->info.channels == 2 && model->info.height == 4);
        CHECK_OK(d2c_scorer_open(&scorer, d2c_model_sit(model), f.be, 1, &f.err), &f.err);
        CHECK_OK(d2c_scorer_denoise(scorer, out, golden(&f, "x"), t, 1, &f.err), &f.err);
        check_near(&f, output, relative_error(&f, out, output), 1e-5);
        d2c_scorer_close(scorer);
    }
    d2c_model_close(model, f.be);
    fixture_close(&f);
}

static void
test_public_files(void)
{
    check_file("DiT-tiny", "dit", 17, "dit");
    check_file("checkpoint", "repa", 0.25, "repa");
}

/* ---- wrong use ----------------------------------------------------------------------------------------------------- */

static void
test_errors(void)
{
    const d2c_sampler wrong[] = {
        {D2C_SAMPLER_EULER, 10, 1, 0, 999, 0, 0, 0},
        {D2C_SAMPLER_ANCESTRAL, 1, 1, 0, 999, 0, 0, 0},
        {D2C_SAMPLER_ANCESTRAL, 1001, 1, 0, 999, 0, 0, 0},
        {D2C_SAMPLER_ANCESTRAL, 10, 2, 0, 999, 5, 0, 0},
    };
    const d2c_sampler ancestral = {D2C_SAMPLER_ANCESTRAL, 10, 1, 0, 1, 0, 0, 0};
    const int64_t label = 1;
    const uint64_t seed = 1;
    static float x[ELEMENTS];
    d2c_sit_config c;
    fixture f;
    size_t i;

    if (!fixture_open_as(&f, "reference", dit.name, &dit.hints, D2C_F32, 0))
        return;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(d2c_sample(x, f.sit, f.be, &wrong[i], 1, &label, &seed, 1, NULL, NULL, &f.err) ==
              D2C_INVALID_ARGUMENT);
    c = f.sit->config;
    c.path = D2C_PATH_GVP;
    CHECK(d2c_sit_config_check(&c, &f.err) == D2C_INVALID_ARGUMENT);
    c.kind = D2C_SIT_KIND_REPA;
    c.path = D2C_PATH_VP;
    CHECK(d2c_sit_config_check(&c, &f.err) == D2C_INVALID_ARGUMENT);
    c.kind = (d2c_sit_kind)3;
    CHECK(d2c_sit_config_check(&c, &f.err) == D2C_INVALID_ARGUMENT);
    f.sit->config.kind = D2C_SIT_KIND_SIT;
    CHECK(d2c_sample(x, f.sit, f.be, &ancestral, 1, &label, &seed, 1, NULL, NULL, &f.err) ==
          D2C_INVALID_ARGUMENT);
    fixture_close(&f);
}

int
main(void)
{
    RUN(test_outputs);
    RUN(test_projector);
    RUN(test_scores);
    RUN(test_samples);
    RUN(test_schedule);
    RUN(test_kind_told);
    RUN(test_path);
    RUN(test_heads);
    RUN(test_metadata);
    RUN(test_legacy_names);
    RUN(test_public_files);
    RUN(test_rounding);
    RUN(test_errors);
    return check_report();
}
