/* clip_text_family.c: CLIP folders as text encoders. */
#include <string.h>

#include "nn/clip_text.h"
#include "nn/families.h"

/* A whole CLIP is an image encoder unless its description says otherwise. */
static int
recognizes(const d2c_model_files *files)
{
    const char *kind = d2c_model_files_say(files, "kind");

    if (kind != NULL && strcmp(kind, d2c_family_clip_text.kind) != 0)
        return 0;
    return d2c_clip_text_prefix(files) != NULL &&
           (kind != NULL ||
            !d2c_weights_has(files->weights, "", "vision_model.embeddings.position_embedding.weight"));
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_clip_text_config config;
    d2c_clip_bpe *tokenizer;

    info->parameters = d2c_weights_parameters(files->weights, d2c_clip_text_prefix(files));
    D2C_TRY(d2c_clip_text_config_read(&config, files, err));
    info->embedding = config.hidden;
    info->tokens = config.positions;
    info->least_tokens = D2C_CLIP_TEXT_LEAST_TOKENS;
    D2C_TRY(d2c_clip_text_tokenizer_open(&tokenizer, files, err));
    d2c_clip_bpe_close(tokenizer);
    return D2C_OK;
}

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

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_clip_text *)network)->params;
}

static d2c_status
embed_text(void *network, d2c_backend *be, d2c_scratch *scratch, float *embedding, float *mask,
           const char *prompt, int tokens, d2c_error *err)
{
    return d2c_clip_text_embed(network, be, scratch, embedding, mask, prompt, tokens, err);
}

const d2c_family d2c_family_clip_text = {
    .kind = "clip-text",
    .role = D2C_ROLE_TEXT,
    .recognizes = recognizes,
    .describe = describe,
    .open = open_clip,
    .close = close_clip,
    .params = params_of,
    .embed_text = embed_text,
};
