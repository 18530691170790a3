/* fuzz_tokens.h: what must hold of any tokenizer's ids. */
#ifndef D2C_FUZZ_TOKENS_H
#define D2C_FUZZ_TOKENS_H

#include <string.h>

#include "base/status.h"
#include "fuzz_file.h"

#define MAX_TOKENS 77

typedef d2c_status fuzz_encode(const void *tokenizer, int32_t *ids, int *count, int capacity,
                               const char *text, d2c_error *err);

/* At least `least` ids of `size`; a smaller capacity only cuts, and the last one stays.  A text may be refused. */
static inline void
fuzz_check_tokens(fuzz_encode *encode, const void *tokenizer, int size, int least, const char *text,
                  int capacity, d2c_status refusal)
{
    int32_t ids[MAX_TOKENS], shorter[MAX_TOKENS];
    int count, fewer, i;
    d2c_error err;

    if (encode(tokenizer, ids, &count, MAX_TOKENS, text, &err) != D2C_OK) {
        require(err.status == refusal);
        return;
    }
    require(count >= least && count <= MAX_TOKENS);
    for (i = 0; i < count; i++)
        require(ids[i] >= 0 && ids[i] < size);
    require(encode(tokenizer, shorter, &fewer, capacity, text, &err) == D2C_OK);
    require(fewer == (count < capacity ? count : capacity));
    require(memcmp(ids, shorter, (size_t)(fewer - 1) * sizeof ids[0]) == 0 &&
            shorter[fewer - 1] == ids[count - 1]);
}

#endif
