/* t5_config.c: reading and checking a T5 folder's files beside the weights. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nn/config_json.h"
#include "nn/t5.h"

#define EXTRA_IDS 100

/* "relu" is v1.0's, "gated-gelu" that of v1.1 and flan: GELU by tanh, whatever the name says. */
static d2c_status
read_feed_forward(d2c_t5_config *c, const cJSON *json, d2c_error *err)
{
    const char *name = d2c_config_text(json, "feed_forward_proj");

    c->gated = name != NULL && strcmp(name, "gated-gelu") == 0;
    c->act = c->gated ? D2C_ACT_GELU_TANH : D2C_ACT_RELU;
    return c->gated ? D2C_OK : d2c_config_require(json, "feed_forward_proj", "relu", err);
}

/* Half the buckets are for each direction, and half of those for one distance each. */
static d2c_status
check_buckets(const d2c_t5_config *c, d2c_error *err)
{
    if (c->buckets >= 4 && c->distance > c->buckets / 2 / 2)
        return D2C_OK;
    return d2c_fail(err, D2C_BAD_MODEL, "%d buckets for a distance of %d in config.json make no sense",
                    c->buckets, c->distance);
}

d2c_status
d2c_t5_config_read(d2c_t5_config *c, const d2c_model_files *files, d2c_error *err)
{
    const cJSON *json = files->config;

    memset(c, 0, sizeof *c);
    if (json == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "a T5 needs a folder with config.json and spiece.model");
    D2C_TRY(d2c_config_require(json, "model_type", "t5", err));
    D2C_TRY(d2c_config_size(&c->depth, json, "num_layers", 1024, err));
    D2C_TRY(d2c_config_size(&c->hidden, json, "d_model", 1 << 16, err));
    D2C_TRY(d2c_config_size(&c->heads, json, "num_heads", 1 << 10, err));
    D2C_TRY(d2c_config_size(&c->head_width, json, "d_kv", 1 << 10, err));
    D2C_TRY(d2c_config_size(&c->intermediate, json, "d_ff", 1 << 18, err));
    D2C_TRY(d2c_config_size(&c->vocabulary, json, "vocab_size", 1 << 24, err));
    D2C_TRY(d2c_config_size_or(&c->buckets, json, "relative_attention_num_buckets", 1 << 10, 32, err));
    D2C_TRY(d2c_config_size_or(&c->distance, json, "relative_attention_max_distance", 1 << 20, 128, err));
    D2C_TRY(d2c_config_eps(&c->eps, json, "layer_norm_epsilon", 1e-6f, err));
    D2C_TRY(read_feed_forward(c, json, err));
    return check_buckets(c, err);
}

static d2c_status
read_extra_ids(int *count, const cJSON *json, d2c_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "extra_ids");

    *count = EXTRA_IDS;
    if (item == NULL || cJSON_IsNull(item))
        return D2C_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 1 << 16) ||
        item->valuedouble != (double)item->valueint)
        return d2c_fail(err, D2C_BAD_MODEL, "tokenizer_config.json has no valid \"extra_ids\"");
    *count = item->valueint;
    return D2C_OK;
}

/* The hint for a folder that was saved with the fast tokenizer alone. */
static d2c_status
open_pieces(d2c_sentencepiece **tokenizer, const d2c_model_files *files, int extra_ids, d2c_error *err)
{
    char path[D2C_MODEL_PATH], fast[D2C_MODEL_PATH];
    d2c_status status;

    if (snprintf(path, sizeof path, "%s/spiece.model", files->folder) >= (int)sizeof path ||
        snprintf(fast, sizeof fast, "%s/tokenizer.json", files->folder) >= (int)sizeof fast)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of \"spiece.model\" is too long");
    status = d2c_sentencepiece_open(tokenizer, path, extra_ids, err);
    if (status == D2C_NOT_FOUND && access(fast, F_OK) == 0) {
        d2c_detail(err, "The folder has tokenizer.json, which is not read.");
        d2c_hint(err, "Add spiece.model of the public model that this one comes from.");
    }
    return status;
}

d2c_status
d2c_t5_tokenizer_open(d2c_sentencepiece **tokenizer, const d2c_model_files *files, d2c_error *err)
{
    int extra_ids = EXTRA_IDS;
    d2c_status status;
    cJSON *json;

    *tokenizer = NULL;
    status = d2c_json_read(&json, files->folder, "tokenizer_config.json", err);
    if (status == D2C_OK)
        status = read_extra_ids(&extra_ids, json, err);
    else if (status == D2C_NOT_FOUND)
        status = D2C_OK;
    cJSON_Delete(json);
    D2C_TRY(status);
    return open_pieces(tokenizer, files, extra_ids, err);
}

/* The distances at which the next bucket begins, for 32 buckets and a distance of 128: no logarithm decides them. */
static const int boundaries[] = {12, 16, 23, 32, 46, 64, 91};

/* Of `half` buckets, for a distance >= 0: one each up to half/2, then logarithmically wider ones. */
static int
bucket_of_half(const d2c_t5_config *c, int half, int distance)
{
    int exact = half / 2, bucket, i;
    float place;

    if (distance < exact)
        return distance;
    if (c->buckets == 32 && c->distance == 128) {
        for (i = 0; i < 7 && distance >= boundaries[i]; i++)
            ;
        return exact + i;
    }
    place = logf((float)distance / (float)exact) / (float)log((double)c->distance / exact);
    bucket = exact + (int)(place * (float)(half - exact));
    return bucket < half ? bucket : half - 1;
}

int
d2c_t5_bucket(const d2c_t5_config *config, int distance)
{
    int half = config->buckets / 2;

    return distance > 0 ? half + bucket_of_half(config, half, distance)
                        : bucket_of_half(config, half, -distance);
}
