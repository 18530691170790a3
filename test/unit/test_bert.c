/* test_bert.c: the text encoder against transformers (golden/make_bert.py), and folders that are no BERT. */
#include "device.h"
#include "model_folder.h"
#include "nn/bert.h"
#include "nn/bert_config.h"

#define FOLDER GOLDEN "/models/tiny-bert"
#define HIDDEN 32
#define MAX_TOKENS 80

/* The tensor "index.part" of the golden. */
static const d2c_st_tensor *
golden(const d2c_safetensors *file, int index, const char *part)
{
    char name[32];

    snprintf(name, sizeof name, "%d.%s", index, part);
    return d2c_safetensors_find(file, name);
}

static void
check_prompt(d2c_bert *bert, d2c_backend *be, const d2c_safetensors *file, int index, double tolerance)
{
    float embedding[MAX_TOKENS * HIDDEN], mask[MAX_TOKENS];
    const d2c_st_tensor *hidden = golden(file, index, "hidden");
    int tokens = (int)hidden->dim[0];
    d2c_scratch memory = {0};
    const char *prompt;
    char key[32];
    d2c_error err;

    snprintf(key, sizeof key, "%d.prompt", index);
    prompt = d2c_safetensors_metadata(file, key);
    CHECK_OK(d2c_bert_embed(bert, be, &memory, embedding, mask, prompt, tokens, &err), &err);
    CHECK(hidden->dim[1] == HIDDEN && tokens <= MAX_TOKENS);
    CHECK(memcmp(mask, golden(file, index, "mask")->data, (size_t)tokens * sizeof *mask) == 0);
    CHECK(relative_error(embedding, hidden->data, (size_t)hidden->count) < tolerance);
    d2c_scratch_free(&memory, be);
}

/* Opens the folder; the weights' file is closed, and lives on where the network uses its mapping. */
static d2c_status
open_folder(d2c_bert **bert, d2c_backend *be, const char *path, d2c_dtype precision, d2c_error *err)
{
    d2c_weights *weights;
    char file[512];
    d2c_status status;

    *bert = NULL;
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    D2C_TRY(d2c_weights_open(&weights, file, err));
    status = d2c_bert_open(bert, be, path, weights, precision, err);
    d2c_weights_close(weights);
    return status;
}

static void
check_folder(const char *source, const char *device, d2c_dtype precision, double tolerance)
{
    d2c_safetensors *file = NULL;
    d2c_backend *be = NULL;
    d2c_bert *bert = NULL;
    d2c_error err;
    int i;

    CHECK_OK(d2c_safetensors_open(&file, GOLDEN "/bert/expected.safetensors", &err), &err);
    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    if (precision == D2C_BF16 && !be->has_bf16)
        CHECK(open_folder(&bert, be, source, precision, &err) == D2C_UNSUPPORTED && bert == NULL);
    else
        CHECK_OK(open_folder(&bert, be, source, precision, &err), &err);
    if (bert != NULL)
        for (i = 0; i < 6; i++)
            check_prompt(bert, be, file, i, tolerance);
    CHECK(d2c_safetensors_count(file) == 18);
    d2c_bert_close(bert, be);
    d2c_backend_close(be);
    d2c_safetensors_close(file);
}

static void
test_reference(void)
{
    check_folder(FOLDER, "reference", D2C_F32, 2e-6);
}

/* The weights are large, so rounding shows: torch's own bf16 autocast is off by up to 0.019 on these prompts. */
static void
test_reference_bf16(void)
{
    check_folder(FOLDER, "reference", D2C_BF16, 3e-2);
}

static void
test_devices(void)
{
    check_folder(FOLDER, "cpu", D2C_F32, 2e-6);
    check_folder(FOLDER, "cpu", D2C_BF16, 3e-2);
    if (device_available("cuda")) {
        check_folder(FOLDER, "cuda", D2C_F32, 2e-6);
        check_folder(FOLDER, "cuda", D2C_BF16, 3e-2);
    }
}

/* Copies the model into the scratch folder under other names: without "bert." and, old-style, with gamma and beta; `skip`
 * is left out and `broken` set to NaN. */
static void
rename_tensors(int keep_prefix, int old_names, const char *skip, const char *broken)
{
    static char names[100][96];
    static float nan_values[64 * 1024];
    d2c_st_item items[100];
    d2c_safetensors *file = NULL;
    d2c_error err;
    int i, count = 0;

    CHECK_OK(d2c_safetensors_open(&file, FOLDER "/model.safetensors", &err), &err);
    memset(nan_values, 0xff, sizeof nan_values);
    for (i = 0; i < d2c_safetensors_count(file) && i < 100; i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);
        const char *name = t->name + (keep_prefix ? 0 : strlen("bert."));
        const char *last = strstr(name, "LayerNorm.");

        if (strcmp(name, skip) == 0)
            continue;
        snprintf(names[count], sizeof names[count], "%s", name);
        if (old_names && last != NULL)
            snprintf(names[count] + (last - name), 32, "LayerNorm.%s", last[10] == 'w' ? "gamma" : "beta");
        items[count] = (d2c_st_item){names[count], t->dtype, t->ndim, {0}, t->data};
        if (strcmp(name, broken) == 0)
            items[count].data = nan_values;
        memcpy(items[count].dim, t->dim, sizeof t->dim);
        count++;
    }
    CHECK_OK(d2c_safetensors_write(at("model.safetensors"), items, count, NULL, 0, &err), &err);
    d2c_safetensors_close(file);
}

static void
test_names(void)
{
    rename_tensors(0, 0, "", "");
    check_folder(folder, "reference", D2C_F32, 2e-6);
    rename_tensors(0, 1, "", "");
    check_folder(folder, "reference", D2C_F32, 2e-6);
    rename_tensors(1, 1, "", "");
    check_folder(folder, "reference", D2C_F32, 2e-6);
    CHECK(unlink(at("tokenizer_config.json")) == 0); /* lower case is the default */
    check_folder(folder, "reference", D2C_F32, 2e-6);
    copy_from(FOLDER, "tokenizer_config.json");
    copy_from(FOLDER, "model.safetensors");
}

/* The scratch folder must not open, and the message says why. */
static void
check_refused(d2c_status wanted, const char *message)
{
    d2c_backend *be = NULL;
    d2c_bert *bert;
    d2c_error err = {0};

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK(open_folder(&bert, be, folder, D2C_F32, &err) == wanted && bert == NULL);
    check_message(&err, message);
    d2c_backend_close(be);
}

#define CONFIG(hidden, heads, more)                                                                          \
    "{\"num_hidden_layers\":3,\"hidden_size\":" hidden ",\"num_attention_heads\":" heads                     \
    ",\"intermediate_size\":48,\"vocab_size\":327,\"max_position_embeddings\":80,\"type_vocab_size\":2" more \
    "}"

static void
test_bad_config(void)
{
    static const struct {
        const char *text;
        d2c_status status;
        const char *message;
    } bad[] = {
        {"", D2C_BAD_MODEL, "is not a JSON object"},
        {"[1]", D2C_BAD_MODEL, "is not a JSON object"},
        {"{}", D2C_BAD_MODEL, "no valid \"num_hidden_layers\""},
        {CONFIG("0", "4", ""), D2C_BAD_MODEL, "no valid \"hidden_size\""},
        {CONFIG("\"32\"", "4", ""), D2C_BAD_MODEL, "no valid \"hidden_size\""},
        {CONFIG("32.5", "4", ""), D2C_BAD_MODEL, "no valid \"hidden_size\""},
        {CONFIG("1e30", "4", ""), D2C_BAD_MODEL, "no valid \"hidden_size\""},
        {CONFIG("32", "-4", ""), D2C_BAD_MODEL, "no valid \"num_attention_heads\""},
        {CONFIG("32", "5", ""), D2C_BAD_MODEL, "no multiple of 5 heads"},
        {CONFIG("32", "4", ",\"layer_norm_eps\":\"x\""), D2C_BAD_MODEL, "layer_norm_eps"},
        {CONFIG("32", "4", ",\"hidden_act\":\"mish\""), D2C_UNSUPPORTED, "activation \"mish\""},
        {CONFIG("32", "4", ",\"model_type\":\"roberta\""), D2C_UNSUPPORTED, "unsupported \"model_type\""},
        {CONFIG("32", "4", ",\"is_decoder\":true"), D2C_UNSUPPORTED, "unsupported \"is_decoder\""},
        {CONFIG("32", "4", ",\"position_embedding_type\":\"relative_key\""), D2C_UNSUPPORTED,
         "position_embedding"},
        {CONFIG("64", "4", ""), D2C_BAD_MODEL, "has the wrong shape"},
    };
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("config.json", bad[i].text);
        check_refused(bad[i].status, bad[i].message);
    }
    unlink(at("config.json"));
    check_refused(D2C_NOT_FOUND, "config.json\": No such file");
    copy_from(FOLDER, "config.json");
    put("tokenizer_config.json", "{\"strip_accents\":false}");
    check_refused(D2C_UNSUPPORTED, "strip_accents");
    put("tokenizer_config.json", "{\"tokenize_chinese_chars\":false}");
    check_refused(D2C_UNSUPPORTED, "tokenize_chinese_chars");
    copy_from(FOLDER, "tokenizer_config.json");
}

static void
test_bad_files(void)
{
    char *many = malloc(4 * 400 + 32), *end = many;
    int i;

    unlink(at("model.safetensors"));
    check_refused(D2C_NOT_FOUND, "model.safetensors\": No such file");
    put("model.safetensors", "rubbish rubbish");
    check_refused(D2C_BAD_MODEL, "is not a valid safetensors file");
    rename_tensors(1, 0, "bert.encoder.layer.1.output.dense.bias", "");
    check_refused(D2C_BAD_MODEL, "tensor \"bert.encoder.layer.1.output.dense.bias\" is missing");
    rename_tensors(0, 0, "encoder.layer.2.attention.self.key.weight", "");
    check_refused(D2C_BAD_MODEL, "tensor \"encoder.layer.2.attention.self.key.weight\" is missing");
    copy_from(FOLDER, "model.safetensors");

    unlink(at("vocab.txt"));
    check_refused(D2C_NOT_FOUND, "vocab.txt\": No such file");
    for (i = 0; i < 400; i++)
        end += sprintf(end, "%d\n", i);
    strcpy(end, "[UNK]\n[CLS]\n[SEP]\n");
    put("vocab.txt", many);
    check_refused(D2C_BAD_MODEL, "vocab.txt has 403 tokens and the model 327");
    copy_from(FOLDER, "vocab.txt");
    free(many);
}

static void
test_bad_prompts(void)
{
    float embedding[MAX_TOKENS * HIDDEN], mask[MAX_TOKENS];
    d2c_scratch memory = {0};
    d2c_backend *be = NULL;
    d2c_bert *bert = NULL;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(open_folder(&bert, be, folder, D2C_F32, &err), &err);
    CHECK(d2c_bert_embed(bert, be, &memory, embedding, mask, "a", 1, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_bert_embed(bert, be, &memory, embedding, mask, "a", 81, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(err.detail, "2 to 80") != NULL);
    CHECK(d2c_bert_embed(bert, be, &memory, embedding, mask, "\xff", 16, &err) == D2C_BAD_DATA);
    CHECK_OK(d2c_bert_embed(bert, be, &memory, embedding, mask, "a", 80, &err), &err);
    d2c_bert_close(bert, be);
    rename_tensors(1, 0, "", "bert.encoder.layer.2.output.dense.weight");
    CHECK_OK(open_folder(&bert, be, folder, D2C_F32, &err), &err);
    CHECK(d2c_bert_embed(bert, be, &memory, embedding, mask, "a", 16, &err) == D2C_NOT_FINITE);
    d2c_bert_close(bert, be);
    d2c_scratch_free(&memory, be);
    d2c_backend_close(be);
    copy_from(FOLDER, "model.safetensors");
}

int
main(void)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer_config.json",
                                        "vocab.txt"};
    size_t i;

    if (!make_folder())
        return 1;
    for (i = 0; i < 4; i++)
        copy_from(FOLDER, names[i]);
    RUN(test_reference);
    RUN(test_reference_bf16);
    RUN(test_devices);
    RUN(test_names);
    RUN(test_bad_config);
    RUN(test_bad_files);
    RUN(test_bad_prompts);
    remove_folder();
    return check_report();
}
