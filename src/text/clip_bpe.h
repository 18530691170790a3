/*
 * clip_bpe.h: CLIP's tokenizer: pairs of bytes merged by rank (vocab.json and merges.txt).
 *
 * As transformers' CLIPTokenizer: canonical composition, white space to blanks, lower case, a split into letters, single
 * digits and the rest, then the merges, "</w>" at a word's end.  Like it, it leaves out ftfy, which OpenAI's own code runs
 * first (curly quotation marks, ligatures and full-width letters become plain ones).  The Unicode tables there are older
 * than utf8proc's: marks that Unicode 10 and later added may come out in another order.
 */
#ifndef D2C_TEXT_CLIP_BPE_H
#define D2C_TEXT_CLIP_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_clip_bpe d2c_clip_bpe;

/* Reads vocab.json and merges.txt. */
d2c_status d2c_clip_bpe_open(d2c_clip_bpe **tokenizer, const char *vocabulary_path, const char *merges_path,
                             d2c_error *err);
void d2c_clip_bpe_close(d2c_clip_bpe *tokenizer);

/* Every id is smaller. */
int d2c_clip_bpe_size(const d2c_clip_bpe *tokenizer);

/* ids [capacity]: <|startoftext|> pieces <|endoftext|>, cut to the capacity as transformers' truncation does.  *count:
 * how many were set.  Invalid UTF-8 is D2C_BAD_DATA. */
d2c_status d2c_clip_bpe_encode(const d2c_clip_bpe *tokenizer, int32_t *ids, int *count, int capacity,
                               const char *text, d2c_error *err);

#endif
