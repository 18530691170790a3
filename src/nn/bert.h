/*
 * bert.h: the BERT family as text encoder (Hugging Face layout: config.json, model.safetensors, vocab.txt).
 *
 * Output per token is the last hidden state.
 */
#ifndef D2C_NN_BERT_H
#define D2C_NN_BERT_H

#include "nn/params.h"
#include "nn/scratch.h"
#include "text/wordpiece.h"

#define D2C_BERT_LEAST_TOKENS 2 /* [CLS] and [SEP] */

typedef struct d2c_bert_config {
    int depth, hidden, heads, intermediate, vocabulary, positions, types;
    float eps;
    d2c_act act;
} d2c_bert_config;

typedef struct d2c_bert {
    d2c_bert_config config;
    d2c_dtype precision;
    d2c_params params;
    d2c_wordpiece *tokenizer;
    void *layers;
} d2c_bert;

/* Loads the folder, whose weights are those. */
d2c_status d2c_bert_open(d2c_bert **bert, d2c_backend *be, const char *folder, d2c_weights *weights,
                         d2c_dtype precision, d2c_error *err);
void d2c_bert_close(d2c_bert *bert, d2c_backend *be);

/* Embeds one prompt, cut or padded to `tokens` word pieces, [CLS] and [SEP] counted: embedding [tokens, hidden] f32 (rows
 * beyond the text are zero), mask [tokens] 0/1; host memory. */
d2c_status d2c_bert_embed(d2c_bert *bert, d2c_backend *be, d2c_scratch *memory, float *embedding, float *mask,
                          const char *prompt, int tokens, d2c_error *err);

#endif
