/*
 * fuzz_wordpiece.c: a vocabulary and a text, of any bytes, through the tokenizer.  The input is a byte of options, the
 * vocabulary, a zero byte, the text; the tokens that a vocabulary must have are put before it.
 *
 *    make fuzz && build/fuzz/fuzz_wordpiece CORPUS test/golden/wordpiece/seeds
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz_tokens.h"
#include "text/wordpiece.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static d2c_status
encode(const void *tokenizer, int32_t *ids, int *count, int capacity, const char *text, d2c_error *err)
{
    return d2c_wordpiece_encode(tokenizer, ids, count, capacity, text, err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static fuzz_file file;
    d2c_wordpiece *tokenizer;
    const uint8_t *zero;
    d2c_error err;
    char *text;

    if (length < 2)
        return 0;
    zero = memchr(bytes + 1, 0, length - 1);
    if (zero == NULL)
        return 0;
    if (d2c_wordpiece_open(
            &tokenizer, fuzz_file_fill(&file, "[UNK]\n[CLS]\n[SEP]\n", bytes + 1, (size_t)(zero - bytes - 1)),
            bytes[0] & 1, &err) != D2C_OK) {
        require(err.status == D2C_BAD_MODEL);
        return 0;
    }
    text = strndup((const char *)zero + 1, (size_t)(bytes + length - zero - 1));
    require(text != NULL);
    fuzz_check_tokens(encode, tokenizer, d2c_wordpiece_size(tokenizer), 2, text,
                      2 + (bytes[0] >> 1) % (MAX_TOKENS - 1), D2C_BAD_DATA);
    free(text);
    d2c_wordpiece_close(tokenizer);
    return 0;
}
