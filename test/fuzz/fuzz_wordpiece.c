/*
 * fuzz_wordpiece.c: a vocabulary and a text, of any bytes, through the tokenizer.  The input is a byte of options, the
 * vocabulary, a zero byte, the text; the tokens that a vocabulary must have are put before it.
 *
 *    make fuzz && build/fuzz/fuzz_wordpiece CORPUS test/golden/wordpiece/seeds
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz_file.h"
#include "text/wordpiece.h"

#define MAX_TOKENS 64

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* The ids are in range, the first is [CLS] and the last [SEP]; a smaller capacity only cuts. */
static void
check_encoding(const d2c_wordpiece *tokenizer, const char *text, int capacity)
{
    int32_t ids[MAX_TOKENS], shorter[MAX_TOKENS];
    int count, fewer, i;
    d2c_error err;

    if (d2c_wordpiece_encode(tokenizer, ids, &count, MAX_TOKENS, text, &err) != D2C_OK) {
        require(err.status == D2C_BAD_DATA);
        return;
    }
    require(count >= 2 && count <= MAX_TOKENS);
    for (i = 0; i < count; i++)
        require(ids[i] >= 0 && ids[i] < d2c_wordpiece_size(tokenizer));
    require(d2c_wordpiece_encode(tokenizer, shorter, &fewer, capacity, text, &err) == D2C_OK);
    require(fewer == (count < capacity ? count : capacity));
    require(memcmp(ids, shorter, (size_t)(fewer - 1) * sizeof ids[0]) == 0 &&
            shorter[fewer - 1] == ids[count - 1]);
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
    check_encoding(tokenizer, text, 2 + (bytes[0] >> 1) % (MAX_TOKENS - 1));
    free(text);
    d2c_wordpiece_close(tokenizer);
    return 0;
}
