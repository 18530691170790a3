/* t5_family.c: T5 folders as models; of a whole T5 the encoder. */
#include "nn/families.h"
#include "nn/t5.h"

static int
recognizes(const d2c_model_files *files)
{
    return d2c_weights_has(files->weights, "", "encoder.block.0.layer.0.SelfAttention.q.weight");
}

/* The embedding counts once, whichever its name. */
static int64_t
count_parameters(const d2c_weights *weights)
{
    const d2c_st_tensor *shared = d2c_weights_find(weights, "shared.weight");
    int64_t count = d2c_weights_parameters(weights, "encoder.");

    if (shared != NULL && !d2c_weights_has(weights, "", "encoder.embed_tokens.weight"))
        count += shared->count;
    return count;
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_sentencepiece *tokenizer;
    d2c_t5_config config;

    info->parameters = count_parameters(files->weights);
    D2C_TRY(d2c_t5_config_read(&config, files, err));
    info->embedding = config.hidden;
    info->tokens = D2C_T5_MOST_TOKENS;
    info->least_tokens = D2C_T5_LEAST_TOKENS;
    D2C_TRY(d2c_t5_tokenizer_open(&tokenizer, files, err));
    d2c_sentencepiece_close(tokenizer);
    return D2C_OK;
}

static d2c_status
open_t5(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_t5 *t5;
    d2c_status status = d2c_t5_open(&t5, be, files, precision, err);

    *network = t5;
    return status;
}

static void
close_t5(void *network, d2c_backend *be)
{
    d2c_t5_close(network, be);
}

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_t5 *)network)->params;
}

static d2c_status
embed_text(void *network, d2c_backend *be, d2c_scratch *scratch, float *embedding, float *mask,
           const char *prompt, int tokens, d2c_error *err)
{
    return d2c_t5_embed(network, be, scratch, embedding, mask, prompt, tokens, err);
}

const d2c_family d2c_family_t5 = {
    .kind = "t5",
    .role = D2C_ROLE_TEXT,
    .recognizes = recognizes,
    .describe = describe,
    .open = open_t5,
    .close = close_t5,
    .params = params_of,
    .embed_text = embed_text,
};
