/* test_clip_text.c: CLIP's text tower against transformers (golden/make_clip_text.py), and folders that have none. */
#include "device.h"
#include "encoder_fixture.h"
#include "nn/clip_text.h"
#include "nn/config_json.h"
#include "nn/families.h"
#include "nn/model.h"

#define ALONE GOLDEN "/models/tiny-clip"
#define WHOLE GOLDEN "/clip/whole"
#define EXPECTED GOLDEN "/clip/expected.safetensors"

static d2c_status
open_clip(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_clip_text *clip;
    d2c_status status = d2c_clip_text_open(&clip, be, files, precision, err);

    *network = clip;
    return status;
}

static void
close_clip(void *network, d2c_backend *be)
{
    d2c_clip_text_close(network, be);
}

static d2c_status
embed(const void *network, d2c_backend *be, d2c_scratch *memory, float *embedding, float *mask,
      const char *prompt, int tokens, d2c_error *err)
{
    return d2c_clip_text_embed(network, be, memory, embedding, mask, prompt, tokens, err);
}

static const encoder_kind kind = {EXPECTED, open_clip, close_clip, embed};

/* The scratch folder becomes a whole CLIP with its tokenizer. */
static void
make_whole(void)
{
    copy_from(WHOLE, "config.json");
    copy_from(WHOLE, "model.safetensors");
    copy_from(ALONE, "vocab.json");
    copy_from(ALONE, "merges.txt");
}

/* The weights are large, so rounding shows. */
static void
check_device(const char *device)
{
    check_encoder(&kind, ALONE, "alone", device, D2C_F32, 5e-6);
    check_encoder(&kind, ALONE, "alone", device, D2C_BF16, 4e-2);
    make_whole();
    check_encoder(&kind, folder, "whole", device, D2C_F32, 5e-6);
    check_encoder(&kind, folder, "whole", device, D2C_BF16, 4e-2);
}

static void
test_devices(void)
{
    ON_EVERY_DEVICE(check_device);
}

/* Which family takes the scratch folder. */
static const d2c_family *
family_of_folder(void)
{
    const d2c_family *family;
    d2c_model_files files;

    open_files(&files, folder);
    family = d2c_family_of(&files);
    d2c_model_files_close(&files);
    return family;
}

static void
test_family(void)
{
    d2c_backend *be = NULL;
    d2c_model *model = NULL;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(d2c_model_open(&model, be, GOLDEN "/models", "tiny-clip", D2C_F32, &err), &err);
    CHECK(model->family == &d2c_family_clip_text && model->info.role == D2C_ROLE_TEXT);
    CHECK(model->info.embedding == HIDDEN && model->info.tokens == 77 && model->info.least_tokens == 2);
    CHECK(model->info.parameters ==
          (664 + 77) * 24 + 2 * 24 + 3 * (4 * (24 * 24 + 24) + 2 * 24 * 40 + 40 + 24 + 4 * 24));
    d2c_model_close(model, be);
    d2c_backend_close(be);
}

/* Of a whole CLIP the text tower is taken when the description says so. */
static void
test_whole_folder(void)
{
    make_whole();
    CHECK(family_of_folder() != &d2c_family_clip_text);
    put("d2c.json", "{\"kind\":\"clip-text\"}");
    CHECK(family_of_folder() == &d2c_family_clip_text);
    copy_from(ALONE, "model.safetensors");
    put("d2c.json", "{\"kind\":\"vit\"}");
    CHECK(family_of_folder() != &d2c_family_clip_text);
    unlink(at("d2c.json"));
    CHECK(family_of_folder() == &d2c_family_clip_text);
}

/* Names without "text_model.", and a config that leaves the tower's defaults out. */
static void
test_names(void)
{
    copy_from(ALONE, "config.json");
    copy_from(ALONE, "vocab.json");
    copy_from(ALONE, "merges.txt");
    copy_tensors(ALONE, "", "", "text_model.");
    check_encoder(&kind, folder, "alone", "reference", D2C_F32, 5e-6);
    copy_tensors(ALONE, "", "", "");
    put("config.json", "{\"model_type\":\"clip\",\"text_config\":{\"vocab_size\":664,\"hidden_size\":24,"
                       "\"intermediate_size\":40,\"num_hidden_layers\":3,\"num_attention_heads\":4}}");
    check_encoder(&kind, folder, "alone", "reference", D2C_F32, 5e-6);
}

#define CONFIG(hidden, heads, more)                                                                          \
    "{\"num_hidden_layers\":3,\"hidden_size\":" hidden ",\"num_attention_heads\":" heads                     \
    ",\"intermediate_size\":40,\"vocab_size\":664" more "}"

static void
test_bad_config(void)
{
    static const bad_config bad[] = {
        {"{}", D2C_BAD_MODEL, "has the wrong shape"},
        {CONFIG("0", "4", ""), D2C_BAD_MODEL, "no valid \"hidden_size\""},
        {CONFIG("24", "5", ""), D2C_BAD_MODEL, "no multiple of 5 heads"},
        {CONFIG("24", "4", ",\"hidden_act\":\"mish\""), D2C_UNSUPPORTED, "activation \"mish\""},
        {CONFIG("24", "4", ",\"model_type\":\"siglip_text_model\""), D2C_UNSUPPORTED, "\"model_type\""},
        {CONFIG("24", "4", ",\"model_type\":\"siglip\",\"text_config\":{}"), D2C_UNSUPPORTED,
         "\"model_type\""},
        {CONFIG("24", "4", ",\"layer_norm_eps\":2"), D2C_BAD_MODEL, "layer_norm_eps"},
        {CONFIG("60000", "4", ""), D2C_BAD_MODEL, "has the wrong shape"},
        {CONFIG("24", "4", ",\"max_position_embeddings\":78"), D2C_BAD_MODEL,
         "position_embedding.weight\" has the wrong shape"},
    };

    d2c_error err;
    cJSON *json;

    make_whole();
    copy_from(ALONE, "model.safetensors");
    check_bad_configs(&kind, bad, sizeof bad / sizeof bad[0]);
    put("config.json", CONFIG("24", "4", ",\"model_type\":\"\xff\""));
    CHECK(d2c_json_read(&json, folder, "config.json", &err) == D2C_BAD_MODEL && json == NULL);
    check_message(&err, "config.json\" is not a JSON object");
    unlink(at("config.json"));
    check_refused(&kind, D2C_BAD_MODEL, "needs a folder with config.json, vocab.json and merges.txt");
}

static void
test_bad_files(void)
{
    make_whole();
    copy_tensors(WHOLE, "text_model.encoder.layers.1.self_attn.k_proj.bias", "", "");
    check_refused(&kind, D2C_BAD_MODEL,
                  "tensor \"text_model.encoder.layers.1.self_attn.k_proj.bias\" is missing");
    copy_tensors(WHOLE, "text_model.embeddings.token_embedding.weight", "", "");
    check_refused(&kind, D2C_BAD_MODEL, "tensor \"text_model.embeddings.token_embedding.weight\" is missing");
    make_whole();
    put("vocab.json", "{\"<|startoftext|>\":1,\"<|endoftext|>\":664}");
    put("merges.txt", "");
    check_refused(&kind, D2C_BAD_MODEL, "vocab.json has 665 tokens and the model 664");
    unlink(at("merges.txt"));
    check_refused(&kind, D2C_NOT_FOUND, "merges.txt\": No such file");
    unlink(at("vocab.json"));
    check_refused(&kind, D2C_NOT_FOUND, "vocab.json\": No such file");
    make_whole();
}

static void
test_bad_prompts(void)
{
    make_whole();
    check_bad_prompts(&kind, 2, 77);
    check_prompt_status(&kind, "\xff", 16, D2C_BAD_DATA);
    copy_tensors(WHOLE, "", "text_model.encoder.layers.2.mlp.fc2.weight", "");
    check_prompt_status(&kind, "a", 16, D2C_NOT_FINITE);
}

int
main(void)
{
    if (!make_folder())
        return 1;
    RUN(test_devices);
    RUN(test_family);
    RUN(test_whole_folder);
    RUN(test_names);
    RUN(test_bad_config);
    RUN(test_bad_files);
    RUN(test_bad_prompts);
    remove_folder();
    return check_report();
}
