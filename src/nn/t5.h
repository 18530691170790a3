/*
 * t5.h: the encoder of T5 (v1.0, v1.1, flan, sentence-T5) as text encoder, in the Hugging Face layout: config.json, the
 * weights, spiece.model.
 *
 * Output per token is the last hidden state.
 */
#ifndef D2C_NN_T5_H
#define D2C_NN_T5_H

#include "nn/model_files.h"
#include "nn/params.h"
#include "nn/scratch.h"
#include "text/sentencepiece.h"

#define D2C_T5_LEAST_TOKENS 1 /* </s> */

/* T5 is trained on at most so many; the bias of longer prompts would all be that of its last bucket, and its size grows
 * with the square. */
#define D2C_T5_MOST_TOKENS 512

typedef struct d2c_t5_config {
    int depth, hidden, heads, head_width, intermediate, vocabulary;
    int buckets, distance; /* of relative positions; those beyond the distance share one */
    int gated;
    d2c_act act;
    float eps;
} d2c_t5_config;

typedef struct d2c_t5 {
    d2c_t5_config config;
    d2c_dtype precision;
    d2c_params params;
    d2c_sentencepiece *tokenizer;
    float *bias; /* [buckets, heads], on the host */
    void *layers;
} d2c_t5;

d2c_status d2c_t5_open(d2c_t5 **t5, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision,
                       d2c_error *err);
void d2c_t5_close(d2c_t5 *t5, d2c_backend *be);

/* Embeds one prompt, cut or padded to `tokens` pieces, </s> counted: embedding [tokens, hidden] f32 (rows beyond the
 * text are zero), mask [tokens] 0/1; host memory. */
d2c_status d2c_t5_embed(const d2c_t5 *t5, d2c_backend *be, d2c_scratch *memory, float *embedding, float *mask,
                        const char *prompt, int tokens, d2c_error *err);

/* What config.json says.  What this implementation does not compute is D2C_UNSUPPORTED, never ignored. */
d2c_status d2c_t5_config_read(d2c_t5_config *config, const d2c_model_files *files, d2c_error *err);

/* Opens FOLDER/spiece.model, with as many extra ids as FOLDER/tokenizer_config.json says, or 100. */
d2c_status d2c_t5_tokenizer_open(d2c_sentencepiece **tokenizer, const d2c_model_files *files, d2c_error *err);

/* The bucket of a key that stands `distance` tokens behind its query. */
int d2c_t5_bucket(const d2c_t5_config *config, int distance);

#endif
