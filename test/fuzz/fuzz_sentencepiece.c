/*
 * fuzz_sentencepiece.c: a text and a spiece.model, of any bytes, through the tokenizer.  The input is a byte of options,
 * the text, a zero byte, the file.
 *
 *    make fuzz && build/fuzz/fuzz_sentencepiece CORPUS test/golden/sentencepiece/seeds
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz_tokens.h"
#include "text/sentencepiece.h"

#define EXTRA_IDS 10

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static d2c_status
encode(const void *tokenizer, int32_t *ids, int *count, int capacity, const char *text, d2c_error *err)
{
    return d2c_sentencepiece_encode(tokenizer, ids, count, capacity, text, err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static fuzz_file file;
    d2c_sentencepiece *tokenizer;
    const uint8_t *zero;
    d2c_error err;

    if (length < 2)
        return 0;
    zero = memchr(bytes + 1, 0, length - 1);
    if (zero == NULL)
        return 0;
    if (d2c_sentencepiece_open(&tokenizer,
                               fuzz_file_fill(&file, "", zero + 1, (size_t)(bytes + length - zero - 1)),
                               EXTRA_IDS, &err) != D2C_OK) {
        require(err.status == D2C_BAD_MODEL || err.status == D2C_UNSUPPORTED);
        return 0;
    }
    fuzz_check_tokens(encode, tokenizer, d2c_sentencepiece_size(tokenizer), 1, (const char *)bytes + 1,
                      1 + bytes[0] % MAX_TOKENS, D2C_BAD_MODEL);
    d2c_sentencepiece_close(tokenizer);
    return 0;
}
