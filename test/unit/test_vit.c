/* test_vit.c: image encoders against the public codes (golden/make_vit.py), and files that are none. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "device.h"
#include "golden_image.h"
#include "image/bicubic.h"
#include "nn/model.h"
#include "nn/vit.h"

#define FOLDER GOLDEN "/vit"

/* ||a - b|| / ||b|| */
static double
relative_error(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    size_t i;

    for (i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / norm);
}

/* ---- resampling ---------------------------------------------------------------------------------------------------- */

/* max |a - b| / max |b|.  torch's own rounding makes up to 7e-7 of it. */
static double
largest_error(const float *a, const float *b, int64_t count)
{
    double difference = 0, largest = 0;
    int64_t i;

    for (i = 0; i < count; i++) {
        difference = fmax(difference, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs(b[i]));
    }
    return difference / largest;
}

/* The tensor whose name is the other's up to its last dot, then `last`. */
static const d2c_st_tensor *
sibling(const d2c_safetensors *file, const d2c_st_tensor *t, const char *last)
{
    char name[64];

    snprintf(name, sizeof name, "%s", t->name);
    strcpy(strrchr(name, '.') + 1, last);
    return d2c_safetensors_find(file, name);
}

static void
check_grid(const d2c_st_tensor *in, const d2c_st_tensor *wanted)
{
    d2c_bicubic kind = in->name[0] == 'p' ? D2C_BICUBIC_PLAIN : D2C_BICUBIC_ANTIALIAS;
    float *out = malloc(wanted->bytes);
    d2c_error err;

    CHECK_OK(d2c_bicubic_resize(out, (int)wanted->dim[0], (int)wanted->dim[1], in->data, (int)in->dim[0],
                                (int)in->dim[1], (int)in->dim[2], kind, 0, &err),
             &err);
    CHECK(largest_error(out, wanted->data, wanted->count) < 1e-6);
    free(out);
}

static void
check_table(const d2c_safetensors *file, const d2c_st_tensor *in)
{
    static const char *const rules[] = {"hub", "huggingface", "antialias"};
    int side, grid, rule;
    d2c_error err;

    CHECK(sscanf(in->name, "position.%d.%d.", &side, &grid) == 2);
    for (rule = 0; rule < 3; rule++) {
        const d2c_st_tensor *wanted = sibling(file, in, rules[rule]);
        float *out = malloc(wanted->bytes);

        CHECK(wanted->dim[0] == grid * grid);
        CHECK_OK(d2c_position_resample(out, grid, in->data, side, (int)in->dim[1], (d2c_position)rule, &err),
                 &err);
        CHECK(largest_error(out, wanted->data, wanted->count) < 1e-6);
        free(out);
    }
}

static void
test_resampling(void)
{
    d2c_safetensors *file = NULL;
    int i, grids = 0, tables = 0;
    d2c_error err;

    CHECK_OK(d2c_safetensors_open(&file, FOLDER "/bicubic.safetensors", &err), &err);
    for (i = 0; i < d2c_safetensors_count(file); i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);

        if (strcmp(strrchr(t->name, '.'), ".in") != 0)
            continue;
        if (strncmp(t->name, "position.", 9) == 0) {
            check_table(file, t);
            tables++;
        } else {
            check_grid(t, sibling(file, t, "out"));
            grids++;
        }
    }
    CHECK(grids == 14 && tables == 6);
    d2c_safetensors_close(file);
}

/* ---- models in a scratch directory --------------------------------------------------------------------------------- */

static char scratch_folder[64];

static const char *
at(const char *name)
{
    static char path[4][256];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", scratch_folder, name);
    return path[turn];
}

static void
put(const char *name, const char *text)
{
    d2c_error err;

    CHECK_OK(d2c_file_write(at(name), text, strlen(text), &err), &err);
}

static void
clear(void)
{
    static const char *const names[] = {"m.safetensors", "m.json", "m/model.safetensors", "m/config.json",
                                        "m/d2c.json"};
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(at(names[i]));
    rmdir(at("m"));
}

/* The golden model as "m", with a description unless it is NULL. */
static void
link_model(const char *model, const char *description)
{
    char path[256];

    clear();
    snprintf(path, sizeof path, "%s/%s.safetensors", FOLDER, model);
    if (access(path, R_OK) == 0) {
        CHECK(symlink(path, at("m.safetensors")) == 0);
        if (description != NULL)
            put("m.json", description);
        return;
    }
    CHECK(mkdir(at("m"), 0700) == 0);
    snprintf(path, sizeof path, "%s/%s/model.safetensors", FOLDER, model);
    CHECK(symlink(path, at("m/model.safetensors")) == 0);
    snprintf(path, sizeof path, "%s/%s/config.json", FOLDER, model);
    CHECK(symlink(path, at("m/config.json")) == 0);
    if (description != NULL)
        put("m/d2c.json", description);
}

/* How the single file "m" differs from a golden one. */
typedef struct change {
    const char *from, *to;     /* the first `from` in a name becomes `to`; NULL: none */
    const char *drop, *broken; /* names as they are then: left out; full of NaN */
    const char *flat;          /* becomes of one dimension more */
    const char *prefix;        /* put before every name; NULL: none */
} change;

static void
rename_tensor(char name[96], const char *old, const change *c)
{
    const char *found = c->from != NULL ? strstr(old, c->from) : NULL;

    if (found != NULL)
        snprintf(name, 96, "%s%.*s%s%s", c->prefix != NULL ? c->prefix : "", (int)(found - old), old, c->to,
                 found + strlen(c->from));
    else
        snprintf(name, 96, "%s%s", c->prefix != NULL ? c->prefix : "", old);
}

static int
is(const char *name, const char *wanted)
{
    return wanted != NULL && strcmp(name, wanted) == 0;
}

static void
write_changed(const char *path, const char *from, const change *c)
{
    static char names[120][96];
    static float nan_values[64 * 1024];
    d2c_st_item items[120];
    d2c_safetensors *file = NULL;
    int i, count = 0;
    d2c_error err;

    memset(nan_values, 0xff, sizeof nan_values);
    CHECK_OK(d2c_safetensors_open(&file, from, &err), &err);
    for (i = 0; i < d2c_safetensors_count(file) && i < 120; i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);
        d2c_st_item item = {names[count], t->dtype, t->ndim, {0}, t->data};

        rename_tensor(names[count], t->name, c);
        memcpy(item.dim, t->dim, sizeof t->dim);
        if (is(names[count], c->drop))
            continue;
        if (is(names[count], c->broken))
            item.data = nan_values;
        if (is(names[count], c->flat)) {
            memmove(item.dim + 1, item.dim, sizeof item.dim - sizeof item.dim[0]);
            item.dim[0] = 1;
            item.ndim++;
        }
        items[count++] = item;
    }
    CHECK_OK(d2c_safetensors_write(path, items, count, NULL, 0, &err), &err);
    d2c_safetensors_close(file);
}

static void
change_file(const char *model, const change *c, const char *description)
{
    char path[256];

    clear();
    snprintf(path, sizeof path, "%s/%s.safetensors", FOLDER, model);
    write_changed(at("m.safetensors"), path, c);
    if (description != NULL)
        put("m.json", description);
}

static void
change_folder(const char *model, const change *c)
{
    char path[256];

    link_model(model, NULL);
    unlink(at("m/model.safetensors"));
    snprintf(path, sizeof path, "%s/%s/model.safetensors", FOLDER, model);
    write_changed(at("m/model.safetensors"), path, c);
}

/* ---- networks ------------------------------------------------------------------------------------------------------ */

static d2c_image picture;

/* All tokens of the picture by the model "m", malloc'd; NULL when it failed. */
static float *
embed(d2c_model *model, d2c_backend *be)
{
    float *embedding = malloc((size_t)model->info.tokens * (size_t)model->info.embedding * sizeof *embedding);
    d2c_scratch scratch = {0};
    d2c_error err;

    CHECK_OK(model->family->embed_image(model->network, be, &scratch, embedding, &picture, model->info.tokens,
                                        &err),
             &err);
    d2c_scratch_free(&scratch, be);
    return embedding;
}

/* The model "m" gives every stride-th row of `wanted`; its kind is `kind` unless that is NULL. */
static void
check_tokens(const char *device, d2c_dtype precision, const d2c_st_tensor *wanted, int stride,
             const char *kind, double tolerance)
{
    size_t width = (size_t)wanted->dim[1];
    d2c_model *model = NULL;
    d2c_backend *be = NULL;
    double worst = 0;
    float *tokens;
    d2c_error err;
    int64_t i;

    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    CHECK_OK(d2c_model_open(&model, be, scratch_folder, "m", precision, &err), &err);
    if (model != NULL) {
        CHECK(model->info.role == D2C_ROLE_IMAGE && model->info.embedding == (int)width);
        CHECK(kind == NULL || strcmp(model->info.kind, kind) == 0);
        CHECK(model->info.tokens == wanted->dim[0] * stride);
        tokens = embed(model, be);
        for (i = 0; i < wanted->dim[0]; i++)
            memmove(tokens + (size_t)i * width, tokens + (size_t)(i * stride) * width,
                    width * sizeof *tokens);
        worst = relative_error(tokens, wanted->data, (size_t)wanted->count);
        if (!(worst < tolerance)) {
            fprintf(stderr, "%s on %s: %g\n", wanted->name, device, worst);
            CHECK(!"the tokens are the public code's");
        }
        free(tokens);
    }
    d2c_model_close(model, be);
    d2c_backend_close(be);
}

static const struct {
    const char *name, *kind;
} cases[] = {
    {"hf-dinov2.repa", "dinov2"},
    {"hf-dinov2.huggingface", "dinov2"},
    {"hf-dinov2.mixed", "dinov2"},
    {"hf-dinov2.repa512", "dinov2"},
    {"hf-dinov2-reg.repa", "dinov2"},
    {"hf-dinov2-reg.huggingface", "dinov2"},
    {"hub-dinov2.repa", "dinov2"},
    {"hub-dinov2.hub", "dinov2"},
    {"hub-dinov2.huggingface", "dinov2"},
    {"hub-dinov2-reg.repa", "dinov2"},
    {"hub-dinov2-reg.huggingface", "dinov2"},
    {"hf-clip.repa", "clip-vision"},
    {"hf-clip.huggingface", "clip-vision"},
    {"clip.repa", "clip-vision"},
    {"mae.repa", "mae"},
    {"mocov3.repa", "mocov3"},
};

/* "m" as the golden wants it: its model, unless `model` is already there as "m"; *stride of its rows. */
static const d2c_st_tensor *
prepare(const d2c_safetensors *file, const char *name, int *stride, int linked)
{
    cJSON *said = cJSON_Parse(d2c_safetensors_metadata(file, name));
    char *description = cJSON_PrintUnformatted(cJSON_GetObjectItem(said, "description")), model[64];

    *stride = cJSON_GetObjectItem(said, "stride")->valueint;
    snprintf(model, sizeof model, "%.*s", (int)(strchr(name, '.') - name), name);
    if (!linked)
        link_model(model, description);
    free(description);
    cJSON_Delete(said);
    return d2c_safetensors_find(file, name);
}

static d2c_safetensors *
open_expected(void)
{
    d2c_safetensors *file = NULL;
    d2c_error err;

    CHECK_OK(d2c_safetensors_open(&file, FOLDER "/expected.safetensors", &err), &err);
    CHECK(d2c_safetensors_count(file) == (int)(sizeof cases / sizeof cases[0]));
    return file;
}

static void
check_all(const char *device, d2c_dtype precision, double tolerance)
{
    d2c_safetensors *file = open_expected();
    int stride;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const d2c_st_tensor *wanted = prepare(file, cases[i].name, &stride, 0);

        check_tokens(device, precision, wanted, stride, cases[i].kind, tolerance);
    }
    d2c_safetensors_close(file);
}

/* "m" as it lies there gives what the golden says. */
static void
check_same(const char *name)
{
    d2c_safetensors *file = open_expected();
    int stride;
    const d2c_st_tensor *wanted = prepare(file, name, &stride, 1);

    check_tokens("reference", D2C_F32, wanted, stride, NULL, 1e-5);
    d2c_safetensors_close(file);
}

static void
test_f32(void)
{
    check_all("reference", D2C_F32, 1e-5);
    check_all("cpu", D2C_F32, 1e-5);
    if (device_available("cuda"))
        check_all("cuda", D2C_F32, 1e-5);
}

#define BF16_BOUND 2e-2

static void
test_bf16(void)
{
    check_all("reference", D2C_BF16, BF16_BOUND);
    if (device_has_bf16("cpu"))
        check_all("cpu", D2C_BF16, BF16_BOUND);
    if (device_available("cuda"))
        check_all("cuda", D2C_BF16, BF16_BOUND);
}

/* The first tokens are a prefix, bit for bit, and no more and no less than are asked for. */
static void
test_first_tokens(void)
{
    d2c_scratch scratch = {0};
    d2c_model *model = NULL;
    d2c_backend *be = NULL;
    float *all, few[6 * 32];
    d2c_error err;

    link_model("hf-dinov2", NULL);
    CHECK_OK(d2c_backend_open(&be, "cpu", 1, &err), &err);
    CHECK_OK(d2c_model_open(&model, be, scratch_folder, "m", D2C_F32, &err), &err);
    CHECK(model->info.tokens == 256 && model->info.width == 224 && model->info.channels == 3);
    all = embed(model, be);
    few[5 * 32] = 7;
    CHECK_OK(model->family->embed_image(model->network, be, &scratch, few, &picture, 5, &err), &err);
    CHECK(memcmp(few, all, 5 * 32 * sizeof *few) == 0 && few[5 * 32] == 7);
    CHECK(model->family->embed_image(model->network, be, &scratch, few, &picture, 0, &err) ==
          D2C_INVALID_ARGUMENT);
    CHECK(model->family->embed_image(model->network, be, &scratch, few, &picture, 257, &err) ==
          D2C_INVALID_ARGUMENT);
    free(all);
    d2c_scratch_free(&scratch, be);
    d2c_model_close(model, be);
    d2c_backend_close(be);
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

static void
test_names(void)
{
    static const change none, chunks = {.from = "blocks.", .to = "blocks.0."};
    static const change teacher = {.prefix = "teacher.backbone."}, classifier = {.prefix = "dinov2."};
    static const change packed = {.from = "mlp.w12", .to = "mlp.fc1"}, state = {.prefix = "state_dict."};
    static const change bare = {.from = "visual.", .to = ""}, plain = {.from = "model.", .to = ""};
    static const change slips[] = {{.from = "0.norm1.", .to = "0.norm13."},
                                   {.from = "1.norm2.", .to = "1.norm14."},
                                   {.from = "1.mlp.fc1.", .to = "1.mlp.fc13."},
                                   {.from = "0.mlp.fc2.", .to = "0.mlp.fc14."}};
    static const change moco = {.from = "module.base_encoder.", .to = ""};
    size_t i;

    change_file("hub-dinov2", &none, NULL);
    check_same("hub-dinov2.repa");
    change_file("hub-dinov2", &chunks, NULL);
    check_same("hub-dinov2.repa");
    change_file("hub-dinov2", &teacher, NULL);
    check_same("hub-dinov2.repa");
    change_folder("hf-dinov2", &classifier);
    check_same("hf-dinov2.repa");
    change_file("hub-dinov2-reg", &packed, "{\"heads\":2}");
    check_same("hub-dinov2-reg.repa");
    change_file("clip", &bare, "{\"heads\":2}");
    check_same("clip.repa");
    change_file("mae", &plain, "{\"heads\":2,\"kind\":\"mae\"}");
    check_same("mae.repa");
    change_file("mocov3", &moco, "{\"heads\":2,\"kind\":\"mocov3\"}");
    check_same("mocov3.repa");
    change_file("mocov3", &state, "{\"heads\":2}");
    check_same("mocov3.repa");
    for (i = 0; i < 4; i++) {
        change_file("mocov3", &slips[i], "{\"heads\":2}");
        check_same("mocov3.repa");
    }
}

/* Blocks in two chunks, numbered through: blocks.0.0 and blocks.1.1. */
static void
test_chunks(void)
{
    static const change first = {.from = "blocks.0.", .to = "blocks.0.0."};
    change second = {.from = "blocks.1.", .to = "blocks.1.1."};
    char path[64];

    change_file("hub-dinov2", &first, NULL);
    snprintf(path, sizeof path, "%s", at("n.safetensors"));
    CHECK(rename(at("m.safetensors"), path) == 0);
    write_changed(at("m.safetensors"), path, &second);
    check_same("hub-dinov2.repa");
    second.drop = "blocks.1.1.attn.proj.bias";
    write_changed(at("m.safetensors"), path, &second);
    unlink(path);
}

/* A whole CLIP is the vision half's, unless its description says the other. */
static void
test_clip_halves(void)
{
    d2c_model_files files;
    d2c_error err;

    link_model("hf-clip", "{\"kind\":\"clip-text\"}");
    CHECK_OK(d2c_model_files_find(&files, scratch_folder, "m", &err), &err);
    CHECK_OK(d2c_model_files_open(&files, &err), &err);
    CHECK(!d2c_family_of(&files) || d2c_family_of(&files)->role != D2C_ROLE_IMAGE);
    d2c_model_files_close(&files);
    link_model("hf-clip", "{\"kind\":\"clip-vision\"}");
    check_same("hf-clip.repa");
}

/* ---- what must not open -------------------------------------------------------------------------------------------- */

static void
check_refused(d2c_status wanted, const char *message)
{
    d2c_backend *be = NULL;
    d2c_model *model;
    d2c_error err = {0};

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK(d2c_model_open(&model, be, scratch_folder, "m", D2C_F32, &err) == wanted && model == NULL);
    if (strstr(err.message, message) == NULL) {
        fprintf(stderr, "\"%s\", not \"%s\"\n", err.message, message);
        CHECK(!"the message says why");
    }
    d2c_backend_close(be);
}

static void
test_missing(void)
{
    static const struct {
        const char *model;
        change change;
        const char *message;
    } bad[] = {
        {"hub-dinov2", {.drop = "blocks.1.attn.proj.bias"}, "tensor \"blocks.1.attn.proj.bias\" is missing"},
        {"hub-dinov2", {.drop = "norm.weight"}, "tensor \"norm.weight\" is missing"},
        {"hub-dinov2", {.drop = "pos_embed"}, "tensor \"pos_embed\" is missing"},
        {"hub-dinov2", {.drop = "patch_embed.proj.weight"}, "tensor \"patch_embed.proj.weight\" is missing"},
        {"hub-dinov2", {.drop = "blocks.0.mlp.fc1.weight"}, "tensor \"blocks.0.mlp.fc1.weight\" is missing"},
        {"hub-dinov2", {.drop = "blocks.1.ls2.gamma"}, "tensor \"blocks.1.ls2.gamma\" is missing"},
        {"hub-dinov2",
         {.from = "blocks.1.", .to = "blocks.3."},
         "tensor \"blocks.1.norm1.weight\" is missing"},
        {"hub-dinov2", {.from = "blocks.1.", .to = "blocks.99999999999999999999."}, "blocks"},
        {"hub-dinov2", {.from = "blocks.1.", .to = "blocks.2147483647."}, "count 2147483647 blocks"},
        {"hub-dinov2", {.drop = "cls_token"}, "no known kind of model"},
        {"hub-dinov2",
         {.flat = "patch_embed.proj.weight"},
         "\"patch_embed.proj.weight\" has the wrong shape"},
        {"hub-dinov2",
         {.flat = "blocks.0.mlp.fc2.weight"},
         "\"blocks.0.mlp.fc2.weight\" has the wrong shape"},
        {"hub-dinov2",
         {.flat = "blocks.1.attn.qkv.weight"},
         "\"blocks.1.attn.qkv.weight\" has the wrong shape"},
        {"mae", {.from = "model.", .to = ""}, "do not tell which vision transformer"},
    };
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        change_file(bad[i].model, &bad[i].change, NULL);
        check_refused(D2C_BAD_MODEL, bad[i].message);
    }
    change_folder("hf-dinov2", &(change){.drop = "encoder.layer.1.attention.attention.key.weight"});
    check_refused(D2C_BAD_MODEL, "tensor \"encoder.layer.1.attention.attention.key.weight\" is missing");
}

/* The description or config.json of a model, and what is said of it. */
static void
test_bad_json(void)
{
    static const struct {
        const char *model, *description;
        d2c_status status;
        const char *message;
    } bad[] = {
        {"hub-dinov2", "{", D2C_BAD_MODEL, "is not a JSON object"},
        {"hub-dinov2", "{\"heads\":3}", D2C_BAD_MODEL, "no multiple of 3 heads"},
        {"hub-dinov2", "{\"heads\":0}", D2C_BAD_MODEL, "no valid \"heads\""},
        {"hub-dinov2-reg", "{}", D2C_BAD_MODEL, "number of heads of a network 32 wide is not known"},
        {"hub-dinov2", "{\"position\":\"nearest\"}", D2C_BAD_MODEL, "no valid \"position\""},
        {"hub-dinov2", "{\"position\":7}", D2C_BAD_MODEL, "no valid \"position\""},
        {"hub-dinov2", "{\"preprocess\":\"torch\"}", D2C_BAD_MODEL, "no valid \"preprocess\""},
        {"hub-dinov2", "{\"size\":384}", D2C_BAD_MODEL, "no valid \"size\""},
        {"hub-dinov2", "{\"size\":\"256\"}", D2C_BAD_MODEL, "no valid \"size\""},
        {"hub-dinov2", "{\"hidden_act\":\"mish\"}", D2C_UNSUPPORTED, "activation \"mish\""},
        {"mae", "{\"heads\":2,\"preprocess\":\"huggingface\"}", D2C_UNSUPPORTED,
         "no \"preprocess\" but \"repa\""},
    };
    static const struct {
        const char *text, *message;
    } config[] = {
        {"[]", "is not a JSON object"},
        {"{\"hidden_size\":48,\"num_attention_heads\":2}", "\"hidden_size\" of config.json is 48"},
        {"{\"num_hidden_layers\":3,\"num_attention_heads\":2}", "\"num_hidden_layers\" of config.json is 3"},
        {"{\"patch_size\":16,\"num_attention_heads\":2}", "\"patch_size\" of config.json is 16"},
        {"{\"num_attention_heads\":5}", "no multiple of 5 heads"},
        {"{\"num_attention_heads\":-1}", "no valid \"num_attention_heads\""},
        {"{\"num_attention_heads\":2,\"layer_norm_eps\":2}", "no valid \"layer_norm_eps\""},
        {"{}", "number of heads of a network 32 wide is not known"},
    };
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        link_model(bad[i].model, bad[i].description);
        check_refused(bad[i].status, bad[i].message);
    }
    for (i = 0; i < sizeof config / sizeof config[0]; i++) {
        link_model("hf-dinov2", NULL);
        unlink(at("m/config.json"));
        put("m/config.json", config[i].text);
        check_refused(D2C_BAD_MODEL, config[i].message);
    }
}

/* A file of nothing but the tensors that sizes are read from, of zeros. */
static void
write_sizes(const char *prefix, int64_t hidden, int64_t patch, int64_t positions)
{
    static float zeros[1 << 22];
    char names[7][64];
    static const char *const own[] = {"cls_token",
                                      "pos_embed",
                                      "patch_embed.proj.weight",
                                      "blocks.0.attn.qkv.weight",
                                      "blocks.0.mlp.fc1.weight",
                                      "blocks.0.mlp.fc2.weight"};
    const int64_t dim[][4] = {{1, 1, hidden}, {1, positions, hidden}, {hidden, 3, patch, patch},
                              {1, hidden},    {2 * hidden, hidden},   {hidden, 2 * hidden}};
    static const int ndim[] = {3, 3, 4, 2, 2, 2};
    d2c_st_item items[6];
    d2c_error err;
    int i;

    clear();
    for (i = 0; i < 6; i++) {
        snprintf(names[i], sizeof names[i], "%s%s", prefix, own[i]);
        items[i] = (d2c_st_item){names[i], D2C_ST_F32, ndim[i], {0}, zeros};
        memcpy(items[i].dim, dim[i], (size_t)ndim[i] * sizeof dim[i][0]);
    }
    CHECK_OK(d2c_safetensors_write(at("m.safetensors"), items, 6, NULL, 0, &err), &err);
}

static d2c_status
read_sizes(d2c_vit_config *config, d2c_error *err)
{
    d2c_model_files files;
    d2c_vit_names names;
    d2c_status status;

    CHECK_OK(d2c_model_files_find(&files, scratch_folder, "m", err), err);
    CHECK_OK(d2c_model_files_open(&files, err), err);
    CHECK(d2c_vit_names_find(&names, &files));
    status = d2c_vit_config_read(config, &names, &files, err);
    d2c_model_files_close(&files);
    return status;
}

/* Published networks whose heads are not 64 wide, and sizes that do not fit each other. */
static void
test_sizes(void)
{
    d2c_vit_config config;
    d2c_error err;

    write_sizes("module.base_encoder.", 384, 16, 197);
    CHECK_OK(read_sizes(&config, &err), &err);
    CHECK(config.heads == 12 && config.side == 14 && config.grid == 16 && !config.gated &&
          config.intermediate == 768);
    write_sizes("model.", 384, 16, 197);
    CHECK_OK(read_sizes(&config, &err), &err);
    CHECK(config.heads == 6 && !config.last_norm && config.position == D2C_POSITION_ANTIALIAS);
    write_sizes("model.", 1280, 32, 50);
    CHECK_OK(read_sizes(&config, &err), &err);
    CHECK(config.heads == 16 && config.grid == 8);
    check_refused(D2C_BAD_MODEL, "tensor \"model.blocks.0.norm1.weight\" is missing");
    write_sizes("model.", 128, 14, 257);
    CHECK(read_sizes(&config, &err) == D2C_BAD_MODEL &&
          strstr(err.message, "256 pixels cannot be cut") != NULL);
    write_sizes("model.", 128, 16, 198);
    CHECK(read_sizes(&config, &err) == D2C_BAD_MODEL && strstr(err.message, "\"model.pos_embed\"") != NULL);
    write_sizes("model.", 128, 16, 1);
    CHECK(read_sizes(&config, &err) == D2C_BAD_MODEL);
    write_sizes("model.", 128, 2, 197);
    CHECK(read_sizes(&config, &err) == D2C_BAD_MODEL && strstr(err.detail, "4 to 64") != NULL);
}

static void
test_not_finite(void)
{
    d2c_scratch scratch = {0};
    d2c_model *model = NULL;
    d2c_backend *be = NULL;
    float tokens[64];
    d2c_error err;

    change_file("hub-dinov2", &(change){.broken = "blocks.1.mlp.fc2.bias"}, NULL);
    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(d2c_model_open(&model, be, scratch_folder, "m", D2C_F32, &err), &err);
    CHECK(model->family->embed_image(model->network, be, &scratch, tokens, &picture, 1, &err) ==
          D2C_NOT_FINITE);
    CHECK(strstr(err.hint, "weights") != NULL);
    d2c_scratch_free(&scratch, be);
    d2c_model_close(model, be);
    d2c_backend_close(be);
}

int
main(void)
{
    snprintf(scratch_folder, sizeof scratch_folder, "/tmp/d2c-vit-XXXXXX");
    if (mkdtemp(scratch_folder) == NULL)
        return 1;
    golden_image(&picture, "large.png", 3);
    RUN(test_resampling);
    RUN(test_f32);
    RUN(test_bf16);
    RUN(test_first_tokens);
    RUN(test_names);
    RUN(test_chunks);
    RUN(test_clip_halves);
    RUN(test_missing);
    RUN(test_bad_json);
    RUN(test_sizes);
    RUN(test_not_finite);
    d2c_image_free(&picture);
    clear();
    rmdir(scratch_folder);
    return check_report();
}
