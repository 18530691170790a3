/*
 * clip_text.h: CLIP's text tower as text encoder, in the Hugging Face layout: config.json, the weights, vocab.json and
 * merges.txt; alone or out of a whole CLIP.
 *
 * Output per token is the last hidden state, behind the final norm.
 */
#ifndef D2C_NN_CLIP_TEXT_H
#define D2C_NN_CLIP_TEXT_H

#include "nn/model_files.h"
#include "nn/params.h"
#include "nn/scratch.h"
#include "text/clip_bpe.h"

#define D2C_CLIP_TEXT_LEAST_TOKENS 2 /* <|startoftext|> and <|endoftext|> */

typedef struct d2c_clip_text_config {
    int depth, hidden, heads, intermediate, vocabulary, positions;
    d2c_act act;
    float eps;
} d2c_clip_text_config;

typedef struct d2c_clip_text {
    d2c_clip_text_config config;
    d2c_dtype precision;
    d2c_params params;
    d2c_clip_bpe *tokenizer;
    void *layers;
} d2c_clip_text;

d2c_status d2c_clip_text_open(d2c_clip_text **clip, d2c_backend *be, const d2c_model_files *files,
                              d2c_dtype precision, d2c_error *err);
void d2c_clip_text_close(d2c_clip_text *clip, d2c_backend *be);

/* Embeds one prompt, cut or padded to `tokens` pieces, the two special ones counted: embedding [tokens, hidden] f32 (rows
 * beyond the text are zero), mask [tokens] 0/1; host memory. */
d2c_status d2c_clip_text_embed(const d2c_clip_text *clip, d2c_backend *be, d2c_scratch *memory,
                               float *embedding, float *mask, const char *prompt, int tokens, d2c_error *err);

/* What stands before the names of the text tower's tensors, or NULL when the files have none. */
const char *d2c_clip_text_prefix(const d2c_model_files *files);

/* What config.json says.  What this implementation does not compute is D2C_UNSUPPORTED, never ignored. */
d2c_status d2c_clip_text_config_read(d2c_clip_text_config *config, const d2c_model_files *files,
                                     d2c_error *err);

/* Opens FOLDER/vocab.json and FOLDER/merges.txt. */
d2c_status d2c_clip_text_tokenizer_open(d2c_clip_bpe **tokenizer, const d2c_model_files *files,
                                        d2c_error *err);

#endif
