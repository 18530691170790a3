/* clip_bpe_model.h: what vocab.json and merges.txt hold, read and checked; for clip_bpe.c. */
#ifndef D2C_TEXT_CLIP_BPE_MODEL_H
#define D2C_TEXT_CLIP_BPE_MODEL_H

#include "text/clip_bpe.h"

/* Two neighbours, by their ids, that become one. */
typedef struct d2c_merge {
    int32_t left, right;
    int32_t rank; /* the lower, the earlier */
    int32_t id;
} d2c_merge;

struct d2c_clip_bpe {
    d2c_merge *merge; /* sorted by left and right, each pair once */
    size_t merges;
    int32_t byte_id
        [2][256]; /* of a byte, and of a byte at a word's end; that of <|endoftext|> where there is none */
    int32_t start, end; /* ids of <|startoftext|> and <|endoftext|> */
    int size;
};

/* Fills the tokenizer; what was filled is the caller's to close in any case. */
d2c_status d2c_clip_bpe_read(d2c_clip_bpe *tokenizer, const char *vocabulary_path, const char *merges_path,
                             d2c_error *err);

/* By left, then right. */
int d2c_merge_compare(const d2c_merge *a, const d2c_merge *b);

#endif
