/* sentencepiece_model.h: what a spiece.model holds, read and checked; for sentencepiece.c. */
#ifndef D2C_TEXT_SENTENCEPIECE_MODEL_H
#define D2C_TEXT_SENTENCEPIECE_MODEL_H

#include "text/sentencepiece.h"

/* Bytes of the file, or of a text. */
typedef struct d2c_bytes {
    const uint8_t *at;
    size_t length;
} d2c_bytes;

typedef struct d2c_piece {
    d2c_bytes text;
    float score;
    int32_t id;
} d2c_piece;

struct d2c_sentencepiece {
    uint8_t *file; /* all bytes below point into it */
    int count;     /* pieces of the file */
    int extra_ids;
    d2c_piece *piece; /* those that texts are made of, sorted by text, each once */
    int pieces;
    d2c_piece *special; /* control pieces and the unknown one */
    int specials;
    int32_t unknown, end; /* ids */
    float lowest;         /* score of a piece */
    int byte_fallback;    /* what is unknown becomes the pieces of its bytes */
    int32_t byte_id[256]; /* -1: none */
    int dummy_prefix, trim_spaces, escape_spaces;
    d2c_bytes trie;        /* of the normalisation: a double array of little-endian units of 32 bits */
    d2c_bytes replacement; /* texts that end with a zero byte, by offset */
};

/* Fills all but extra_ids; what was filled is the caller's to close in any case. */
d2c_status d2c_sentencepiece_read(d2c_sentencepiece *tokenizer, const char *path, d2c_error *err);

/* Of bytes; a prefix comes before what it begins. */
int d2c_bytes_compare(d2c_bytes a, d2c_bytes b);

#endif
