/*
 * fuzz_clip_bpe.c: a text, a vocab.json and a merges.txt, of any bytes, through CLIP's tokenizer.  The input is a byte of
 * options, the text, a zero byte, the vocabulary, a zero byte, the merges; the tokens that a vocabulary must have are put
 * into it.
 *
 *    make fuzz && build/fuzz/fuzz_clip_bpe CORPUS test/golden/clip_bpe/seeds
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz_tokens.h"
#include "text/clip_bpe.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static d2c_status
encode(const void *tokenizer, int32_t *ids, int *count, int capacity, const char *text, d2c_error *err)
{
    return d2c_clip_bpe_encode(tokenizer, ids, count, capacity, text, err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char first[] = "{\"<|startoftext|>\":100,\"<|endoftext|>\":101,";
    static fuzz_file vocabulary, merges;
    const uint8_t *text_end, *json, *json_end, *end = bytes + length;
    d2c_clip_bpe *tokenizer;
    d2c_error err;

    if (length < 2 || (text_end = memchr(bytes + 1, 0, length - 1)) == NULL || end - text_end < 3)
        return 0;
    json = text_end + 2; /* behind its brace */
    json_end = memchr(json, 0, (size_t)(end - json));
    if (json_end == NULL)
        return 0;
    fuzz_file_fill(&vocabulary, first, json, (size_t)(json_end - json));
    fuzz_file_fill(&merges, "", json_end + 1, (size_t)(end - json_end - 1));
    if (d2c_clip_bpe_open(&tokenizer, vocabulary.path, merges.path, &err) != D2C_OK) {
        require(err.status == D2C_BAD_MODEL);
        return 0;
    }
    fuzz_check_tokens(encode, tokenizer, d2c_clip_bpe_size(tokenizer), 2, (const char *)bytes + 1,
                      2 + bytes[0] % (MAX_TOKENS - 1), D2C_BAD_DATA);
    d2c_clip_bpe_close(tokenizer);
    return 0;
}
