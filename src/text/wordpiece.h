/* wordpiece.h: BERT's tokenizer: clean, split CJK, lower-case and strip accents, split on punctuation, then greedy
 * longest match with "##" (transformers' BertTokenizer). */
#ifndef D2C_TEXT_WORDPIECE_H
#define D2C_TEXT_WORDPIECE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_wordpiece d2c_wordpiece;

/* Reads vocab.txt; lower_case as in tokenizer_config.json's do_lower_case. */
d2c_status d2c_wordpiece_open(d2c_wordpiece **tokenizer, const char *path, int lower_case, d2c_error *err);
void d2c_wordpiece_close(d2c_wordpiece *tokenizer);

/* Lines of the vocabulary: every id is smaller. */
int d2c_wordpiece_size(const d2c_wordpiece *tokenizer);

/* ids [capacity]: [CLS] pieces [SEP], cut to the capacity as transformers' truncation does.  *count: how many were
 * set.  Invalid UTF-8 is D2C_BAD_DATA. */
d2c_status d2c_wordpiece_encode(const d2c_wordpiece *tokenizer, int32_t *ids, int *count, int capacity,
                                const char *text, d2c_error *err);

#endif
