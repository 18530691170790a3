/* bert_config.c: reading and checking a BERT folder's JSON files. */
#include "nn/bert_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/config_json.h"

#define MAX_PATH 4096

static d2c_status
join(char path[MAX_PATH], const char *folder, const char *name, d2c_error *err)
{
    if (snprintf(path, MAX_PATH, "%s/%s", folder, name) >= MAX_PATH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of \"%s\" is too long", name);
    return D2C_OK;
}

static d2c_status
fill_config(d2c_bert_config *c, const cJSON *json, d2c_error *err)
{
    D2C_TRY(d2c_config_require(json, "model_type", "bert", err));
    D2C_TRY(d2c_config_require(json, "position_embedding_type", "absolute", err));
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "is_decoder")))
        return d2c_fail(err, D2C_UNSUPPORTED, "unsupported \"is_decoder\" in config.json");
    D2C_TRY(d2c_config_size(&c->depth, json, "num_hidden_layers", 1024, err));
    D2C_TRY(d2c_config_size(&c->hidden, json, "hidden_size", 1 << 16, err));
    D2C_TRY(d2c_config_size(&c->heads, json, "num_attention_heads", 1 << 16, err));
    D2C_TRY(d2c_config_size(&c->intermediate, json, "intermediate_size", 1 << 18, err));
    D2C_TRY(d2c_config_size(&c->vocabulary, json, "vocab_size", 1 << 24, err));
    D2C_TRY(d2c_config_size(&c->positions, json, "max_position_embeddings", 1 << 16, err));
    D2C_TRY(d2c_config_size(&c->types, json, "type_vocab_size", 1 << 10, err));
    D2C_TRY(d2c_config_eps(&c->eps, json, "layer_norm_eps", 1e-12f, err));
    D2C_TRY(d2c_config_act(&c->act, json, "hidden_act", D2C_ACT_GELU_ERF, err));
    if (c->hidden % c->heads != 0)
        return d2c_fail(err, D2C_BAD_MODEL, "hidden_size %d of config.json is no multiple of %d heads",
                        c->hidden, c->heads);
    return D2C_OK;
}

d2c_status
d2c_bert_config_read(d2c_bert_config *config, const char *folder, d2c_error *err)
{
    d2c_status status;
    cJSON *json;

    memset(config, 0, sizeof *config);
    D2C_TRY(d2c_json_read(&json, folder, "config.json", err));
    status = fill_config(config, json, err);
    cJSON_Delete(json);
    return status;
}

/* The tokenizer follows BERT's own rules: all that can be chosen is whether case and accents are kept. */
static d2c_status
check_tokenizer(int *lower_case, const cJSON *json, d2c_error *err)
{
    const cJSON *lower = cJSON_GetObjectItemCaseSensitive(json, "do_lower_case");
    const cJSON *strip = cJSON_GetObjectItemCaseSensitive(json, "strip_accents");
    const cJSON *split = cJSON_GetObjectItemCaseSensitive(json, "tokenize_chinese_chars");

    *lower_case = !cJSON_IsFalse(lower);
    if (cJSON_IsBool(strip) && cJSON_IsTrue(strip) != *lower_case)
        return d2c_fail(err, D2C_UNSUPPORTED, "unsupported \"strip_accents\" in tokenizer_config.json");
    if (cJSON_IsFalse(split))
        return d2c_fail(err, D2C_UNSUPPORTED,
                        "unsupported \"tokenize_chinese_chars\" in tokenizer_config.json");
    return D2C_OK;
}

d2c_status
d2c_bert_tokenizer_open(d2c_wordpiece **tokenizer, const char *folder, d2c_error *err)
{
    char path[MAX_PATH];
    int lower_case = 1;
    d2c_status status;
    cJSON *json;

    *tokenizer = NULL;
    status = d2c_json_read(&json, folder, "tokenizer_config.json", err);
    if (status == D2C_OK)
        status = check_tokenizer(&lower_case, json, err);
    else if (status == D2C_NOT_FOUND)
        status = D2C_OK;
    cJSON_Delete(json);
    D2C_TRY(status);
    D2C_TRY(join(path, folder, "vocab.txt", err));
    return d2c_wordpiece_open(tokenizer, path, lower_case, err);
}
