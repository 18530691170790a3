/* clip_text_config.c: reading and checking a CLIP folder's files beside the weights. */
#include <stdio.h>
#include <string.h>

#include "nn/clip_text.h"
#include "nn/config_json.h"

const char *
d2c_clip_text_prefix(const d2c_model_files *files)
{
    static const char *const prefixes[] = {"text_model.", "", NULL};

    return d2c_weights_prefix(files->weights, prefixes, "embeddings.token_embedding.weight");
}

/* The values, or the public code's defaults, which files leave out: those of ViT-B/32. */
static d2c_status
fill_config(d2c_clip_text_config *c, const cJSON *json, d2c_error *err)
{
    D2C_TRY(d2c_config_require(json, "model_type", "clip_text_model", err));
    D2C_TRY(d2c_config_size_or(&c->depth, json, "num_hidden_layers", 1024, 12, err));
    D2C_TRY(d2c_config_size_or(&c->hidden, json, "hidden_size", 1 << 16, 512, err));
    D2C_TRY(d2c_config_size_or(&c->heads, json, "num_attention_heads", 1 << 10, 8, err));
    D2C_TRY(d2c_config_size_or(&c->intermediate, json, "intermediate_size", 1 << 18, 2048, err));
    D2C_TRY(d2c_config_size_or(&c->vocabulary, json, "vocab_size", 1 << 24, 49408, err));
    D2C_TRY(d2c_config_size_or(&c->positions, json, "max_position_embeddings", 1 << 12, 77, err));
    D2C_TRY(d2c_config_eps(&c->eps, json, "layer_norm_eps", 1e-5f, err));
    D2C_TRY(d2c_config_act(&c->act, json, "hidden_act", D2C_ACT_GELU_QUICK, err));
    if (c->hidden % c->heads != 0)
        return d2c_fail(err, D2C_BAD_MODEL, "hidden_size %d of config.json is no multiple of %d heads",
                        c->hidden, c->heads);
    return D2C_OK;
}

d2c_status
d2c_clip_text_config_read(d2c_clip_text_config *config, const d2c_model_files *files, d2c_error *err)
{
    const cJSON *json = files->config, *text = cJSON_GetObjectItemCaseSensitive(json, "text_config");

    memset(config, 0, sizeof *config);
    if (json == NULL)
        return d2c_fail(err, D2C_BAD_MODEL,
                        "a CLIP text encoder needs a folder with config.json, vocab.json and merges.txt");
    if (cJSON_IsObject(text)) {
        D2C_TRY(d2c_config_require(json, "model_type", "clip", err));
        json = text;
    }
    return fill_config(config, json, err);
}

d2c_status
d2c_clip_text_tokenizer_open(d2c_clip_bpe **tokenizer, const d2c_model_files *files, d2c_error *err)
{
    char vocabulary[D2C_MODEL_PATH], merges[D2C_MODEL_PATH];

    *tokenizer = NULL;
    if (snprintf(vocabulary, sizeof vocabulary, "%s/vocab.json", files->folder) >= (int)sizeof vocabulary ||
        snprintf(merges, sizeof merges, "%s/merges.txt", files->folder) >= (int)sizeof merges)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of \"vocab.json\" is too long");
    return d2c_clip_bpe_open(tokenizer, vocabulary, merges, err);
}
