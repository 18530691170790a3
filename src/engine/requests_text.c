/* requests_text.c: what text encoders compute. */
#include "engine/requests.h"

#include <stdlib.h>

#define MAX_TOKENS 4096

static d2c_status
check_tokens(int64_t tokens, const d2c_model *model, d2c_error *err)
{
    int most = model->info.tokens < MAX_TOKENS ? model->info.tokens : MAX_TOKENS;

    if (tokens >= model->info.least_tokens && tokens <= most)
        return D2C_OK;
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "number of tokens must be between %d and %d",
                    model->info.least_tokens, most);
}

d2c_status
d2c_embed_prompt(float **embedding, float **mask, d2c_worker *worker, const d2c_model *encoder,
                 const char *prompt, int64_t tokens, d2c_error *err)
{
    d2c_status status;

    *embedding = *mask = NULL;
    D2C_TRY(check_tokens(tokens, encoder, err));
    *embedding = malloc((size_t)tokens * (size_t)encoder->info.embedding * sizeof **embedding);
    *mask = malloc((size_t)tokens * sizeof **mask);
    if (*embedding == NULL || *mask == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    else
        status = encoder->family->embed_text(encoder->network, d2c_worker_backend(worker),
                                             d2c_worker_scratch(worker), *embedding, *mask, prompt,
                                             (int)tokens, err);
    if (status == D2C_OK)
        return D2C_OK;
    free(*embedding);
    free(*mask);
    *embedding = *mask = NULL;
    return status;
}

static d2c_status
put_embedding(d2c_buffer *out, const float *embedding, const float *mask, int64_t tokens, int64_t width,
              d2c_error *err)
{
    int64_t dims[] = {tokens, width}, i;
    uint8_t *kept = malloc((size_t)tokens);

    if (kept == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < tokens; i++)
        kept[i] = mask[i] != 0;
    d2c_put_tensor(out, D2C_F32, 2, dims, embedding, (size_t)(tokens * width) * sizeof *embedding);
    d2c_put_tensor(out, D2C_U8, 1, dims, kept, (size_t)tokens);
    free(kept);
    return D2C_OK;
}

/* Embeds the prompt and writes embedding and mask. */
static d2c_status
answer(d2c_worker *worker, const d2c_model *encoder, d2c_buffer *out, const char *prompt, int64_t tokens,
       d2c_error *err)
{
    float *embedding, *mask;
    d2c_status status;

    D2C_TRY(d2c_embed_prompt(&embedding, &mask, worker, encoder, prompt, tokens, err));
    status = put_embedding(out, embedding, mask, tokens, encoder->info.embedding, err);
    free(embedding);
    free(mask);
    return status;
}

d2c_status
d2c_read_text(char **text, d2c_reader *in, const char *what, d2c_error *err)
{
    d2c_reader again = *in;
    d2c_status status;
    size_t length;

    d2c_read_bytes(in, &length);
    *text = malloc(length + 1);
    if (*text == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_read_string(*text, length + 1, &again, what, err);
    if (status == D2C_OK)
        return D2C_OK;
    free(*text);
    *text = NULL;
    return status;
}

d2c_status
d2c_request_text_embedding(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    char model[D2C_MODEL_NAME_SIZE], *prompt;
    d2c_loaded *loaded;
    d2c_status status;
    uint32_t tokens;

    D2C_TRY(d2c_read_model_name(model, in, err));
    D2C_TRY(d2c_read_text(&prompt, in, "prompt", err));
    tokens = d2c_read_u32(in);
    status = d2c_read_finish(in, err);
    if (status == D2C_OK)
        status = d2c_worker_model(worker, &loaded, model, D2C_ROLE_TEXT, err);
    if (status == D2C_OK) {
        status = answer(worker, d2c_loaded_model(loaded), out, prompt, tokens, err);
        d2c_loaded_release(d2c_worker_pool(worker)->registry, loaded, d2c_worker_backend(worker));
    }
    free(prompt);
    return status;
}
