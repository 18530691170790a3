/*
 * sentencepiece.h: T5's tokenizer: a unigram model of google/sentencepiece (spiece.model).
 *
 * The file is read by this project's own code: the library takes the indices in a file's normalisation table as they
 * are, so a damaged file makes it read outside of its memory.
 */
#ifndef D2C_TEXT_SENTENCEPIECE_H
#define D2C_TEXT_SENTENCEPIECE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_sentencepiece d2c_sentencepiece;

/* Reads spiece.model.  extra_ids: how many <extra_id_n> follow the file's pieces, n from that less one down to 0. */
d2c_status d2c_sentencepiece_open(d2c_sentencepiece **tokenizer, const char *path, int extra_ids,
                                  d2c_error *err);
void d2c_sentencepiece_close(d2c_sentencepiece *tokenizer);

/* Pieces and extra ids: every id is smaller. */
int d2c_sentencepiece_size(const d2c_sentencepiece *tokenizer);

/* ids [capacity]: pieces </s>, cut to the capacity as transformers' truncation does.  *count: how many were set.
 * Control pieces and extra ids are taken as such where their names stand in the text; a byte that is no UTF-8 becomes
 * U+FFFD. */
d2c_status d2c_sentencepiece_encode(const d2c_sentencepiece *tokenizer, int32_t *ids, int *count,
                                    int capacity, const char *text, d2c_error *err);

#endif
