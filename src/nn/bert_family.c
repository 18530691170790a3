/* bert_family.c: BERT folders as models. */
#include "nn/bert_config.h"
#include "nn/families.h"

static const char *
prefix_of(const d2c_model_files *files)
{
    static const char *const prefixes[] = {"", "bert.", NULL};

    return d2c_weights_prefix(files->weights, prefixes, "embeddings.word_embeddings.weight");
}

static int
recognizes(const d2c_model_files *files)
{
    return prefix_of(files) != NULL;
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_wordpiece *tokenizer;
    d2c_bert_config config;

    info->parameters = d2c_weights_parameters(files->weights, prefix_of(files));
    if (files->folder[0] == '\0')
        return d2c_fail(err, D2C_BAD_MODEL, "a text encoder needs a folder with config.json and vocab.txt");
    D2C_TRY(d2c_bert_config_read(&config, files->folder, err));
    info->embedding = config.hidden;
    info->tokens = config.positions;
    info->least_tokens = D2C_BERT_LEAST_TOKENS;
    D2C_TRY(d2c_bert_tokenizer_open(&tokenizer, files->folder, err));
    d2c_wordpiece_close(tokenizer);
    return D2C_OK;
}

static d2c_status
open_bert(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_bert *bert;
    d2c_status status = d2c_bert_open(&bert, be, files->folder, files->weights, precision, err);

    *network = bert;
    return status;
}

static void
close_bert(void *network, d2c_backend *be)
{
    d2c_bert_close(network, be);
}

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_bert *)network)->params;
}

static d2c_status
embed_text(void *network, d2c_backend *be, d2c_scratch *scratch, float *embedding, float *mask,
           const char *prompt, int tokens, d2c_error *err)
{
    return d2c_bert_embed(network, be, scratch, embedding, mask, prompt, tokens, err);
}

const d2c_family d2c_family_bert = {
    .kind = "bert",
    .role = D2C_ROLE_TEXT,
    .recognizes = recognizes,
    .describe = describe,
    .open = open_bert,
    .close = close_bert,
    .params = params_of,
    .embed_text = embed_text,
};
