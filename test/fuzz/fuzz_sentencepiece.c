/*
 * fuzz_sentencepiece.c: a text and a spiece.model, of any bytes, through the tokenizer.  The input is a byte of options,
 * the text, a zero byte, the file.
 *
 *    make fuzz && build/fuzz/fuzz_sentencepiece CORPUS test/golden/sentencepiece/seeds
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz_file.h"
#include "text/sentencepiece.h"

#define MAX_TOKENS 64
#define EXTRA_IDS 10

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* The ids are in range and the last is </s>; a smaller capacity only cuts. */
static void
check_encoding(const d2c_sentencepiece *tokenizer, const char *text, int capacity)
{
    int32_t ids[MAX_TOKENS], shorter[MAX_TOKENS];
    int count, fewer, i;
    d2c_error err;

    if (d2c_sentencepiece_encode(tokenizer, ids, &count, MAX_TOKENS, text, &err) != D2C_OK) {
        require(err.status == D2C_BAD_MODEL);
        return;
    }
    require(count >= 1 && count <= MAX_TOKENS);
    for (i = 0; i < count; i++)
        require(ids[i] >= 0 && ids[i] < d2c_sentencepiece_size(tokenizer));
    require(d2c_sentencepiece_encode(tokenizer, shorter, &fewer, capacity, text, &err) == D2C_OK);
    require(fewer == (count < capacity ? count : capacity));
    require(memcmp(ids, shorter, (size_t)(fewer - 1) * sizeof ids[0]) == 0 &&
            shorter[fewer - 1] == ids[count - 1]);
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
    check_encoding(tokenizer, (const char *)bytes + 1, 1 + bytes[0] % MAX_TOKENS);
    d2c_sentencepiece_close(tokenizer);
    return 0;
}
