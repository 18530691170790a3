/* bert_config.c: reading and checking a BERT folder's JSON files. */
#include "nn/bert_config.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define MAX_JSON_BYTES ((size_t)1 << 20)
#define MAX_PATH 4096

static d2c_status
join(char path[MAX_PATH], const char *folder, const char *name, d2c_error *err)
{
    if (snprintf(path, MAX_PATH, "%s/%s", folder, name) >= MAX_PATH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of \"%s\" is too long", name);
    return D2C_OK;
}

/* Parses a file that must hold one JSON object. */
static d2c_status
read_json(cJSON **json, const char *folder, const char *name, d2c_error *err)
{
    char path[MAX_PATH];
    uint8_t *bytes;
    size_t length;

    *json = NULL;
    D2C_TRY(join(path, folder, name, err));
    D2C_TRY(d2c_file_read(&bytes, &length, path, MAX_JSON_BYTES, err));
    *json = cJSON_ParseWithLength((const char *)bytes, length);
    free(bytes);
    if (cJSON_IsObject(*json))
        return D2C_OK;
    cJSON_Delete(*json);
    *json = NULL;
    return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" is not a JSON object", path);
}

/* An integer of config.json between 1 and the limit. */
static d2c_status
get_size(int *value, const cJSON *json, const char *key, int limit, d2c_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

    if (!cJSON_IsNumber(item) || item->valuedouble < 1 || item->valuedouble > limit ||
        item->valuedouble != (double)item->valueint) {
        d2c_fail(err, D2C_BAD_MODEL, "config.json has no valid \"%s\"", key);
        d2c_detail(err, "An integer between 1 and %d is needed.", limit);
        return D2C_BAD_MODEL;
    }
    *value = item->valueint;
    return D2C_OK;
}

/* An optional text must be `wanted`; other networks share the layout and compute something else. */
static d2c_status
require_text(const cJSON *json, const char *key, const char *wanted, d2c_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

    if (item == NULL || cJSON_IsNull(item) ||
        (cJSON_IsString(item) && strcmp(item->valuestring, wanted) == 0))
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "unsupported \"%s\" in config.json", key);
    d2c_detail(err, "It is \"%s\"; only \"%s\" is supported.",
               cJSON_IsString(item) ? item->valuestring : "not a text", wanted);
    return D2C_UNSUPPORTED;
}

static d2c_status
get_act(d2c_act *act, const cJSON *json, d2c_error *err)
{
    static const struct {
        const char *name;
        d2c_act act;
    } names[] = {{"gelu", D2C_ACT_GELU_ERF},
                 {"gelu_new", D2C_ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", D2C_ACT_GELU_TANH},
                 {"relu", D2C_ACT_RELU},
                 {"silu", D2C_ACT_SILU}};
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "hidden_act"));
    size_t i;

    if (name == NULL)
        name = "gelu";
    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, name) == 0) {
            *act = names[i].act;
            return D2C_OK;
        }
    return d2c_fail(err, D2C_UNSUPPORTED, "unsupported activation \"%s\" in config.json", name);
}

static d2c_status
get_eps(float *eps, const cJSON *json, d2c_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "layer_norm_eps");

    *eps = 1e-12f;
    if (item == NULL)
        return D2C_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < 1))
        return d2c_fail(err, D2C_BAD_MODEL, "config.json has no valid \"layer_norm_eps\"");
    *eps = (float)item->valuedouble;
    return D2C_OK;
}

static d2c_status
fill_config(d2c_bert_config *c, const cJSON *json, d2c_error *err)
{
    D2C_TRY(require_text(json, "model_type", "bert", err));
    D2C_TRY(require_text(json, "position_embedding_type", "absolute", err));
    D2C_TRY(get_size(&c->depth, json, "num_hidden_layers", 1024, err));
    D2C_TRY(get_size(&c->hidden, json, "hidden_size", 1 << 16, err));
    D2C_TRY(get_size(&c->heads, json, "num_attention_heads", 1 << 16, err));
    D2C_TRY(get_size(&c->intermediate, json, "intermediate_size", 1 << 18, err));
    D2C_TRY(get_size(&c->vocabulary, json, "vocab_size", 1 << 24, err));
    D2C_TRY(get_size(&c->positions, json, "max_position_embeddings", 1 << 16, err));
    D2C_TRY(get_size(&c->types, json, "type_vocab_size", 1 << 10, err));
    D2C_TRY(get_eps(&c->eps, json, err));
    D2C_TRY(get_act(&c->act, json, err));
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
    D2C_TRY(read_json(&json, folder, "config.json", err));
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
    status = read_json(&json, folder, "tokenizer_config.json", err);
    if (status == D2C_OK)
        status = check_tokenizer(&lower_case, json, err);
    else if (status == D2C_NOT_FOUND)
        status = D2C_OK;
    cJSON_Delete(json);
    D2C_TRY(status);
    D2C_TRY(join(path, folder, "vocab.txt", err));
    return d2c_wordpiece_open(tokenizer, path, lower_case, err);
}
