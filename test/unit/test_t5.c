/* test_t5.c: T5's encoder against transformers (golden/make_t5.py), and folders that are none. */
#include "device.h"
#include "model_folder.h"
#include "nn/families.h"
#include "nn/model.h"
#include "nn/t5.h"

#define V11 GOLDEN "/models/tiny-t5"
#define V10 GOLDEN "/t5/v10"
#define HIDDEN 24
#define MAX_TOKENS 512
#define PROMPTS 6

/* A folder's files, opened; *directory is its parent's path and name its own. */
static void
open_files(d2c_model_files *files, const char *path)
{
    char parent[512];
    d2c_error err;

    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = '\0';
    CHECK_OK(d2c_model_files_find(files, parent, strrchr(path, '/') + 1, &err), &err);
    CHECK_OK(d2c_model_files_open(files, &err), &err);
}

static d2c_status
open_t5(d2c_t5 **t5, d2c_backend *be, const char *path, d2c_dtype precision, d2c_error *err)
{
    d2c_model_files files;
    d2c_status status;

    open_files(&files, path);
    status = d2c_t5_open(t5, be, &files, precision, err);
    d2c_model_files_close(&files);
    return status;
}

static void
check_prompt(const d2c_t5 *t5, d2c_backend *be, const d2c_safetensors *file, const char *version, int index,
             double tolerance)
{
    float embedding[MAX_TOKENS * HIDDEN], mask[MAX_TOKENS];
    const d2c_st_tensor *hidden, *kept;
    d2c_scratch memory = {0};
    char key[32];
    d2c_error err;
    int tokens, i;

    snprintf(key, sizeof key, "%s.%d.hidden", version, index);
    hidden = d2c_safetensors_find(file, key);
    snprintf(key, sizeof key, "%d.mask", index);
    kept = d2c_safetensors_find(file, key);
    snprintf(key, sizeof key, "%d.prompt", index);
    tokens = (int)hidden->dim[0];
    CHECK_OK(
        d2c_t5_embed(t5, be, &memory, embedding, mask, d2c_safetensors_metadata(file, key), tokens, &err),
        &err);
    CHECK(memcmp(mask, kept->data, (size_t)tokens * sizeof *mask) == 0);
    CHECK(relative_error(embedding, hidden->data, (size_t)hidden->count) < tolerance);
    for (i = 0; i < tokens * HIDDEN && (mask[i / HIDDEN] != 0 || embedding[i] == 0); i++)
        ;
    CHECK(i == tokens * HIDDEN); /* rows beyond the text are zero */
    d2c_scratch_free(&memory, be);
}

static void
check_version(const char *path, const char *version, const char *device, d2c_dtype precision,
              double tolerance)
{
    d2c_safetensors *file = NULL;
    d2c_backend *be = NULL;
    d2c_t5 *t5 = NULL;
    d2c_error err;
    int i;

    CHECK_OK(d2c_safetensors_open(&file, GOLDEN "/t5/expected.safetensors", &err), &err);
    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    if (precision == D2C_BF16 && !be->has_bf16)
        CHECK(open_t5(&t5, be, path, precision, &err) == D2C_UNSUPPORTED && t5 == NULL);
    else
        CHECK_OK(open_t5(&t5, be, path, precision, &err), &err);
    for (i = 0; t5 != NULL && i < PROMPTS; i++)
        check_prompt(t5, be, file, version, i, tolerance);
    d2c_t5_close(t5, be);
    d2c_backend_close(be);
    d2c_safetensors_close(file);
}

/* The scratch folder becomes a whole v1.0: its spiece.model is v1.1's. */
static void
make_v10(void)
{
    copy_from(V10, "config.json");
    copy_from(V10, "model.safetensors");
    copy_from(V11, "spiece.model");
}

/* The weights are large, so rounding shows: torch's own bf16 autocast is off by up to 0.052 on these prompts. */
static void
check_device(const char *device)
{
    check_version(V11, "v11", device, D2C_F32, 5e-6);
    check_version(V11, "v11", device, D2C_BF16, 7e-2);
    make_v10();
    check_version(folder, "v10", device, D2C_F32, 5e-6);
    check_version(folder, "v10", device, D2C_BF16, 7e-2);
}

static void
test_devices(void)
{
    ON_EVERY_DEVICE(check_device);
}

static void
check_buckets(const d2c_safetensors *file, int buckets, int distance)
{
    d2c_t5_config config = {.buckets = buckets, .distance = distance};
    const d2c_st_tensor *expected;
    int32_t bucket;
    char name[32];
    int i;

    snprintf(name, sizeof name, "bucket.%d.%d", buckets, distance);
    expected = d2c_safetensors_find(file, name);
    CHECK(expected->count == 1201);
    for (i = 0; i < 1201; i++) {
        memcpy(&bucket, (const char *)expected->data + (size_t)i * sizeof bucket, sizeof bucket);
        CHECK(d2c_t5_bucket(&config, i - 600) == bucket);
    }
}

static void
test_buckets(void)
{
    d2c_safetensors *file = NULL;
    d2c_error err;

    CHECK_OK(d2c_safetensors_open(&file, GOLDEN "/t5/expected.safetensors", &err), &err);
    check_buckets(file, 32, 128);
    check_buckets(file, 12, 40);
    check_buckets(file, 64, 300);
    d2c_safetensors_close(file);
}

/* The family describes, opens and embeds as SQL reaches it. */
static void
test_family(void)
{
    d2c_scratch memory = {0};
    d2c_backend *be = NULL;
    d2c_model *model = NULL;
    float embedding[4 * HIDDEN], mask[4];
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(d2c_model_open(&model, be, GOLDEN "/models", "tiny-t5", D2C_F32, &err), &err);
    CHECK(model->family == &d2c_family_t5 && model->info.role == D2C_ROLE_TEXT);
    CHECK(model->info.embedding == HIDDEN && model->info.tokens == 512 && model->info.least_tokens == 1);
    CHECK(model->info.parameters == 416 * 24 + 32 * 4 + 24 + 3 * (4 * 24 * 32 + 3 * 24 * 40 + 2 * 24));
    CHECK_OK(model->family->embed_text(model->network, be, &memory, embedding, mask, "a dress", 4, &err),
             &err);
    CHECK(mask[0] == 1);
    d2c_scratch_free(&memory, be);
    d2c_model_close(model, be);
    d2c_backend_close(be);
}

/* The scratch folder must not open, and the message says why. */
static void
check_refused(d2c_status wanted, const char *message)
{
    d2c_backend *be = NULL;
    d2c_t5 *t5;
    d2c_error err = {0};

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK(open_t5(&t5, be, folder, D2C_F32, &err) == wanted && t5 == NULL);
    check_message(&err, message);
    d2c_backend_close(be);
}

#define CONFIG(hidden, heads, more)                                                                          \
    "{\"num_layers\":3,\"d_model\":" hidden ",\"num_heads\":" heads                                          \
    ",\"d_kv\":8,\"d_ff\":40,\"vocab_size\":416,\"feed_forward_proj\":\"relu\"" more "}"

static void
test_bad_config(void)
{
    static const struct {
        const char *text;
        d2c_status status;
        const char *message;
    } bad[] = {
        {"{}", D2C_BAD_MODEL, "no valid \"num_layers\""},
        {CONFIG("0", "4", ""), D2C_BAD_MODEL, "no valid \"d_model\""},
        {CONFIG("24", "1e9", ""), D2C_BAD_MODEL, "no valid \"num_heads\""},
        {CONFIG("24", "4", ",\"relative_attention_num_buckets\":2"), D2C_BAD_MODEL, "make no sense"},
        {CONFIG("24", "4", ",\"relative_attention_max_distance\":8"), D2C_BAD_MODEL, "make no sense"},
        {CONFIG("24", "4", ",\"model_type\":\"umt5\""), D2C_UNSUPPORTED, "unsupported \"model_type\""},
        {"{\"num_layers\":3,\"d_model\":24,\"num_heads\":4,\"d_kv\":8,\"d_ff\":40,\"vocab_size\":416,"
         "\"feed_forward_proj\":\"gated-silu\"}",
         D2C_UNSUPPORTED, "unsupported \"feed_forward_proj\""},
        {CONFIG("24", "4", ""), D2C_BAD_MODEL, "relative_attention_bias.weight\" has the wrong shape"},
        {CONFIG("60000", "4", ""), D2C_BAD_MODEL, "has the wrong shape"},
    };
    size_t i;

    make_v10();
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("config.json", bad[i].text);
        check_refused(bad[i].status, bad[i].message);
    }
    unlink(at("config.json"));
    check_refused(D2C_BAD_MODEL, "needs a folder with config.json and spiece.model");
    make_v10();
}

static void
test_bad_files(void)
{
    make_v10();
    damage_tensors(V10, "encoder.embed_tokens.weight", "");
    check_refused(D2C_BAD_MODEL, "tensor \"shared.weight\" is missing");
    damage_tensors(V10, "encoder.block.1.layer.0.SelfAttention.k.weight", "");
    check_refused(D2C_BAD_MODEL, "tensor \"encoder.block.1.layer.0.SelfAttention.k.weight\" is missing");
    damage_tensors(V10, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "");
    check_refused(D2C_BAD_MODEL, "relative_attention_bias.weight\" is missing");
    make_v10();

    put("tokenizer_config.json", "{\"extra_ids\":-1}");
    check_refused(D2C_BAD_MODEL, "no valid \"extra_ids\"");
    put("tokenizer_config.json", "{\"extra_ids\":117}");
    check_refused(D2C_BAD_MODEL, "spiece.model has 417 tokens with the extra ids, and the model 416");
    unlink(at("tokenizer_config.json"));
    put("spiece.model", "rubbish");
    check_refused(D2C_BAD_MODEL, "spiece.model\": the file");
    unlink(at("spiece.model"));
    check_refused(D2C_NOT_FOUND, "spiece.model\": No such file");
    make_v10();
}

static void
test_fast_tokenizer(void)
{
    d2c_model_files files;
    d2c_sentencepiece *tokenizer;
    d2c_error err;

    make_v10();
    unlink(at("spiece.model"));
    put("tokenizer.json", "{}");
    open_files(&files, folder);
    CHECK(d2c_t5_tokenizer_open(&tokenizer, &files, &err) == D2C_NOT_FOUND && tokenizer == NULL);
    CHECK(strstr(err.detail, "tokenizer.json") != NULL && strstr(err.hint, "spiece.model") != NULL);
    d2c_model_files_close(&files);
    unlink(at("tokenizer.json"));
    make_v10();
}

static void
test_bad_prompts(void)
{
    static float embedding[MAX_TOKENS * HIDDEN], mask[MAX_TOKENS];
    d2c_scratch memory = {0};
    d2c_backend *be = NULL;
    d2c_t5 *t5 = NULL;
    d2c_error err;

    make_v10();
    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(open_t5(&t5, be, folder, D2C_F32, &err), &err);
    CHECK(d2c_t5_embed(t5, be, &memory, embedding, mask, "a", 0, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_t5_embed(t5, be, &memory, embedding, mask, "a", 513, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(err.detail, "1 to 512") != NULL);
    CHECK_OK(d2c_t5_embed(t5, be, &memory, embedding, mask, "a", 512, &err), &err);
    d2c_t5_close(t5, be);
    damage_tensors(V10, "", "encoder.block.2.layer.1.DenseReluDense.wo.weight");
    CHECK_OK(open_t5(&t5, be, folder, D2C_F32, &err), &err);
    CHECK(d2c_t5_embed(t5, be, &memory, embedding, mask, "a", 16, &err) == D2C_NOT_FINITE);
    d2c_t5_close(t5, be);
    d2c_scratch_free(&memory, be);
    d2c_backend_close(be);
}

int
main(void)
{
    if (!make_folder())
        return 1;
    RUN(test_devices);
    RUN(test_buckets);
    RUN(test_family);
    RUN(test_bad_config);
    RUN(test_bad_files);
    RUN(test_fast_tokenizer);
    RUN(test_bad_prompts);
    remove_folder();
    return check_report();
}
