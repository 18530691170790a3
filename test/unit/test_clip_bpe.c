/* test_clip_bpe.c: token ids against transformers' CLIPTokenizer (golden/make_clip_text.py), and damaged files. */
#include <unistd.h>

#include "model_folder.h"
#include "text/clip_bpe.h"
#include "text_cases.h"

#define SOURCE GOLDEN "/models/tiny-clip"

static d2c_status
encode(const void *tokenizer, int *count, int capacity, const char *text, d2c_error *err)
{
    return d2c_clip_bpe_encode(tokenizer, ids, count, capacity, text, err);
}

static d2c_clip_bpe *
open_golden(void)
{
    d2c_clip_bpe *tokenizer = NULL;
    d2c_error err;

    CHECK_OK(d2c_clip_bpe_open(&tokenizer, SOURCE "/vocab.json", SOURCE "/merges.txt", &err), &err);
    return tokenizer;
}

static void
test_golden(void)
{
    cJSON *cases = read_cases(GOLDEN "/clip/cases.json");
    d2c_clip_bpe *tokenizer = open_golden();
    const cJSON *test;

    CHECK(cJSON_GetArraySize(cases) >= 290);
    cJSON_ArrayForEach(test, cases)
    {
        check_case(encode, tokenizer, test);
    }
    d2c_clip_bpe_close(tokenizer);
    cJSON_Delete(cases);
}

static void
test_bad_texts(void)
{
    static const char *const invalid[] = {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "ok \x80"};
    size_t length = (1 << 20) + 1, i;
    d2c_clip_bpe *tokenizer = open_golden();
    char *text = malloc(length + 1);
    d2c_error err;
    int count;

    for (i = 0; i < sizeof invalid / sizeof invalid[0]; i++)
        CHECK(encode(tokenizer, &count, 8, invalid[i], &err) == D2C_BAD_DATA);
    memset(text, 'a', length);
    text[length] = '\0';
    CHECK(encode(tokenizer, &count, 16, text, &err) == D2C_TOO_LARGE && count == 0);
    CHECK(encode(tokenizer, &count, 1, "a", &err) == D2C_INVALID_ARGUMENT);
    for (i = 0, *text = '\0'; i < 257; i++)
        strcat(text, i < 128 ? "\xcc\x95" : "\xcc\x96");
    CHECK(encode(tokenizer, &count, 8, text, &err) == D2C_BAD_DATA &&
          strstr(err.message, "256 combining marks") != NULL);
    CHECK_OK(encode(tokenizer, &count, 8, text + 2, &err), &err);
    free(text);
    d2c_clip_bpe_close(tokenizer);
}

/* Tokens that every vocabulary needs. */
#define SPECIAL "\"<|startoftext|>\":9,\"<|endoftext|>\":10"

/* The files must not open, and the message says why. */
static void
check_refused(const char *vocabulary, const char *merges, const char *message)
{
    d2c_clip_bpe *tokenizer;
    d2c_error err = {0};

    put("vocab.json", vocabulary);
    put("merges.txt", merges);
    CHECK(d2c_clip_bpe_open(&tokenizer, at("vocab.json"), at("merges.txt"), &err) == D2C_BAD_MODEL &&
          tokenizer == NULL);
    check_message(&err, message);
}

static void
test_bad_files(void)
{
    d2c_clip_bpe *tokenizer;
    d2c_error err;

    check_refused("", "", "vocab.json\" is not a JSON object");
    check_refused("[1]", "", "vocab.json\" is not a JSON object");
    check_refused("{" SPECIAL ",\"\xff\":-1}", "", "vocab.json\" is not a JSON object");
    check_refused("{}", "", "lacks the token <|startoftext|>");
    check_refused("{\"<|startoftext|>\":1}", "", "lacks the token <|endoftext|>");
    check_refused("{" SPECIAL ",\"a\":-1}", "", "has no valid id for \"a\"");
    check_refused("{" SPECIAL ",\"a\":1.5}", "", "has no valid id for \"a\"");
    check_refused("{" SPECIAL ",\"a\":1e12}", "", "has no valid id for \"a\"");
    check_refused("{" SPECIAL ",\"a\":\"1\"}", "", "has no valid id for \"a\"");
    check_refused("{" SPECIAL ",\"a\":1,\"a\":2}", "", "has twice the token \"a\"");
    check_refused("{" SPECIAL ",\"a\":1}", "#version\na", "line 2 of");
    check_refused("{" SPECIAL ",\"a\":1}", "a b c", "is not a pair of tokens");
    check_refused("{" SPECIAL ",\"a\":1}", "#version\n\na b", "line 3 of");
    check_refused("{" SPECIAL ",\"a\":1,\"b\":2}", "a b", "has a token that the vocabulary lacks");
    CHECK(unlink(at("merges.txt")) == 0);
    CHECK(d2c_clip_bpe_open(&tokenizer, at("vocab.json"), at("merges.txt"), &err) == D2C_NOT_FOUND);
    CHECK(unlink(at("vocab.json")) == 0);
    CHECK(d2c_clip_bpe_open(&tokenizer, at("vocab.json"), at("merges.txt"), &err) == D2C_NOT_FOUND);
}

/* Line ends of Windows, no newline at the end, a pair twice (the last line counts), bytes that the vocabulary lacks. */
static void
test_lenient(void)
{
    d2c_clip_bpe *tokenizer = NULL;
    d2c_error err;
    int count;

    put("vocab.json", "{" SPECIAL ",\"a\":1,\"b\":2,\"c</w>\":3,\"ab\":4,\"bc</w>\":5,\"a</w>\":6}");
    put("merges.txt", "#version: 0.2\r\na b\r\nb c</w>\r\na b");
    CHECK_OK(d2c_clip_bpe_open(&tokenizer, at("vocab.json"), at("merges.txt"), &err), &err);
    CHECK(d2c_clip_bpe_size(tokenizer) == 11);
    CHECK_OK(encode(tokenizer, &count, 16, "abc xa", &err), &err);
    CHECK(count == 6 && ids[0] == 9 && ids[1] == 1 && ids[2] == 5 && ids[3] == 10 && ids[4] == 6 &&
          ids[5] == 10);
    d2c_clip_bpe_close(tokenizer);
}

int
main(void)
{
    if (!make_folder())
        return 1;
    RUN(test_golden);
    RUN(test_bad_texts);
    RUN(test_bad_files);
    RUN(test_lenient);
    remove_folder();
    return check_report();
}
