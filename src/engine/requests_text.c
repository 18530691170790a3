/* requests_text.c: what text encoders compute. */
#include "engine/requests.h"

#include <stdlib.h>

#define MAX_TOKENS 4096

/* Embeds the prompt and writes embedding and mask. */
static d2c_status
put_embedding(d2c_worker *worker, const d2c_model *model, d2c_buffer *out, const char *prompt, int tokens,
              d2c_error *err)
{
    int64_t dims[] = {tokens, model->info.embedding};
    size_t bytes = (size_t)tokens * (size_t)model->info.embedding * sizeof(float);
    float *embedding = malloc(bytes), *mask = malloc((size_t)tokens * sizeof *mask);
    uint8_t *kept = malloc((size_t)tokens);
    d2c_status status = D2C_OK;
    int i;

    if (embedding == NULL || mask == NULL || kept == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    if (status == D2C_OK)
        status = model->family->embed_text(model->network, d2c_worker_backend(worker),
                                           d2c_worker_scratch(worker), embedding, mask, prompt, tokens, err);
    if (status == D2C_OK) {
        for (i = 0; i < tokens; i++)
            kept[i] = mask[i] != 0;
        d2c_put_tensor(out, D2C_F32, 2, dims, embedding, bytes);
        d2c_put_tensor(out, D2C_U8, 1, dims, kept, (size_t)tokens);
    }
    free(embedding);
    free(mask);
    free(kept);
    return status;
}

static d2c_status
check_tokens(uint32_t tokens, const d2c_model *model, d2c_error *err)
{
    uint32_t most = model->info.tokens < MAX_TOKENS ? (uint32_t)model->info.tokens : MAX_TOKENS;
    uint32_t least = (uint32_t)model->info.least_tokens;

    if (tokens >= least && tokens <= most)
        return D2C_OK;
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "number of tokens must be between %u and %u", least, most);
}

d2c_status
d2c_request_text_embedding(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    char model[D2C_MODEL_NAME_SIZE];
    d2c_reader text;
    d2c_loaded *loaded;
    d2c_status status;
    uint32_t tokens;
    char *prompt;
    size_t length;

    D2C_TRY(d2c_read_model_name(model, in, err));
    text = *in;
    d2c_read_bytes(in, &length);
    tokens = d2c_read_u32(in);
    D2C_TRY(d2c_read_finish(in, err));
    prompt = malloc(length + 1);
    if (prompt == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_read_string(prompt, length + 1, &text, "prompt", err);
    if (status == D2C_OK)
        status = d2c_worker_model(worker, &loaded, model, D2C_ROLE_TEXT, err);
    if (status == D2C_OK) {
        const d2c_model *encoder = d2c_loaded_model(loaded);

        status = check_tokens(tokens, encoder, err);
        if (status == D2C_OK)
            status = put_embedding(worker, encoder, out, prompt, (int)tokens, err);
        d2c_loaded_release(d2c_worker_pool(worker)->registry, loaded, d2c_worker_backend(worker));
    }
    free(prompt);
    return status;
}
