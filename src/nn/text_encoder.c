/* text_encoder.c: a prompt's way through any encoder (text_encoder.h). */
#include "nn/text_encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static d2c_status
check_tokens(const d2c_text_encoder *encoder, int tokens, d2c_error *err)
{
    if (tokens >= encoder->least && tokens <= encoder->most)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "number of tokens %d is out of range", tokens);
    d2c_detail(err, "The model takes %d to %d tokens.", encoder->least, encoder->most);
    return D2C_INVALID_ARGUMENT;
}

static d2c_status
check_finite(const float *embedding, size_t count, d2c_error *err)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (!isfinite(embedding[i])) {
            d2c_fail(err, D2C_NOT_FINITE, "text embedding is not finite");
            d2c_hint(err, "The model's weights may be damaged.");
            return D2C_NOT_FINITE;
        }
    return D2C_OK;
}

/* The ids as the gather takes them. */
static d2c_status
encode(const d2c_text_encoder *encoder, const void *network, int64_t *ids, int *n, const char *prompt,
       int tokens, d2c_error *err)
{
    int32_t *pieces = malloc((size_t)tokens * sizeof *pieces);
    d2c_status status;
    int i;

    if (pieces == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = encoder->tokenize(network, pieces, n, tokens, prompt, err);
    for (i = 0; i < *n; i++)
        ids[i] = pieces[i];
    free(pieces);
    return status;
}

d2c_status
d2c_text_encoder_embed(const d2c_text_encoder *encoder, const void *network, d2c_backend *be,
                       d2c_scratch *memory, float *embedding, float *mask, const char *prompt, int tokens,
                       d2c_error *err)
{
    size_t hidden = (size_t)encoder->hidden;
    d2c_status status;
    int64_t *ids;
    int n = 0, i;

    D2C_TRY(check_tokens(encoder, tokens, err));
    ids = malloc((size_t)tokens * sizeof *ids);
    if (ids == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = encode(encoder, network, ids, &n, prompt, tokens, err);
    if (status == D2C_OK)
        status = encoder->forward(network, be, memory, embedding, ids, n, err);
    free(ids);
    D2C_TRY(status);
    D2C_TRY(check_finite(embedding, (size_t)n * hidden, err));
    memset(embedding + (size_t)n * hidden, 0, (size_t)(tokens - n) * hidden * sizeof *embedding);
    for (i = 0; i < tokens; i++)
        mask[i] = i < n ? 1.0f : 0.0f;
    return D2C_OK;
}
