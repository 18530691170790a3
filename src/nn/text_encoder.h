/*
 * text_encoder.h: what the encoders of prompts have in common.
 *
 * A prompt runs alone and without padding: the public code masks padding out, so the numbers are the same, a prompt
 * never depends on its neighbours, and a short one costs little.
 */
#ifndef D2C_NN_TEXT_ENCODER_H
#define D2C_NN_TEXT_ENCODER_H

#include "nn/params.h"
#include "nn/scratch.h"

/* What each kind does its own way. */
typedef struct d2c_text_encoder {
    int hidden;      /* width of a token */
    int least, most; /* tokens of a prompt, special ones counted */

    /* ids [capacity] of the prompt, cut to the capacity; *count: how many were set. */
    d2c_status (*tokenize)(const void *network, int32_t *ids, int *count, int capacity, const char *prompt,
                           d2c_error *err);
    /* out [n, hidden], on the host: the last hidden state of the ids. */
    d2c_status (*forward)(const void *network, d2c_backend *be, d2c_scratch *memory, float *out,
                          const int64_t *ids, int n, d2c_error *err);
} d2c_text_encoder;

/* embedding [tokens, hidden] f32, rows beyond the text zero, and mask [tokens] 0/1, of the prompt cut or padded to
 * `tokens`; host memory.  D2C_NOT_FINITE when a number is not. */
d2c_status d2c_text_encoder_embed(const d2c_text_encoder *encoder, const void *network, d2c_backend *be,
                                  d2c_scratch *memory, float *embedding, float *mask, const char *prompt,
                                  int tokens, d2c_error *err);

#endif
