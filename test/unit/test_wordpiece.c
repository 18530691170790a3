/* test_wordpiece.c: token ids against transformers' BertTokenizer (golden/make_bert.py), and input that is no text. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "text/wordpiece.h"

#define VOCABULARY GOLDEN "/models/tiny-bert/vocab.txt"

/* Compares one list of the golden; `name` is "lower16": the mode and the capacity. */
static void
check_ids(const d2c_wordpiece *tokenizer, const cJSON *test, const char *name)
{
    const cJSON *expected = cJSON_GetObjectItem(test, name), *id;
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(test, "text"));
    int capacity = atoi(name + 5), count, i = 0;
    int32_t ids[512];
    d2c_error err;

    CHECK(cJSON_IsArray(expected));
    CHECK_OK(d2c_wordpiece_encode(tokenizer, ids, &count, capacity, text, &err), &err);
    CHECK(count == cJSON_GetArraySize(expected));
    cJSON_ArrayForEach(id, expected)
    {
        if (i < count && ids[i] != id->valueint) {
            fprintf(stderr, "%s, id %d of \"%.60s\": %d, expected %d\n", name, i, text, ids[i], id->valueint);
            CHECK(!"the ids agree");
            break;
        }
        i++;
    }
}

static void
test_golden(void)
{
    static const char *const names[] = {"lower2", "lower3", "lower16", "lower512",
                                        "cased2", "cased3", "cased16", "cased512"};
    d2c_wordpiece *tokenizer[2] = {NULL, NULL};
    uint8_t *bytes = NULL;
    const cJSON *test;
    cJSON *cases;
    size_t length, i;
    d2c_error err;

    CHECK_OK(d2c_wordpiece_open(&tokenizer[0], VOCABULARY, 1, &err), &err);
    CHECK_OK(d2c_wordpiece_open(&tokenizer[1], VOCABULARY, 0, &err), &err);
    CHECK_OK(d2c_file_read(&bytes, &length, GOLDEN "/wordpiece/cases.json", 1 << 20, &err), &err);
    cases = cJSON_Parse((const char *)bytes);
    CHECK(cJSON_GetArraySize(cases) >= 20);
    cJSON_ArrayForEach(test, cases)
    {
        for (i = 0; i < 8; i++)
            check_ids(tokenizer[i / 4], test, names[i]);
    }
    cJSON_Delete(cases);
    free(bytes);
    d2c_wordpiece_close(tokenizer[0]);
    d2c_wordpiece_close(tokenizer[1]);
}

static void
test_invalid_text(void)
{
    static const char *const invalid[] = {"\xff",   "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                          "ok \x80"};
    d2c_wordpiece *tokenizer = NULL;
    int32_t ids[8];
    d2c_error err;
    int count;
    size_t i;

    CHECK_OK(d2c_wordpiece_open(&tokenizer, VOCABULARY, 1, &err), &err);
    for (i = 0; i < sizeof invalid / sizeof invalid[0]; i++)
        CHECK(d2c_wordpiece_encode(tokenizer, ids, &count, 8, invalid[i], &err) == D2C_BAD_DATA);
    CHECK(strcmp(err.message, "text is not valid UTF-8") == 0 && strstr(err.detail, "Byte 3 (0x80)") != NULL);
    CHECK(d2c_wordpiece_encode(tokenizer, ids, &count, 1, "a", &err) == D2C_INVALID_ARGUMENT);
    d2c_wordpiece_close(tokenizer);
}

/* How 256 and 257 marks in a row do, whose order is to be changed; what is removed does not part them.  A cased vocabulary
 * leaves them as they are. */
static void
test_marks(void)
{
    d2c_wordpiece *tokenizer = NULL;
    char text[600] = "a";
    int32_t ids[8];
    d2c_error err;
    int count, i;

    CHECK_OK(d2c_wordpiece_open(&tokenizer, VOCABULARY, 1, &err), &err);
    for (i = 0; i < 256; i++)
        strcat(text, i < 128 ? "\xcc\x95" : "\xcc\x96");
    CHECK_OK(d2c_wordpiece_encode(tokenizer, ids, &count, 8, text, &err), &err);
    CHECK(count == 3);
    strcat(text, "\x01\xcc\x96");
    CHECK(d2c_wordpiece_encode(tokenizer, ids, &count, 8, text, &err) == D2C_BAD_DATA);
    CHECK(strcmp(err.message, "text has more than 256 combining marks in a row") == 0 &&
          strstr(err.detail, "U+0316") != NULL);
    d2c_wordpiece_close(tokenizer);
    CHECK_OK(d2c_wordpiece_open(&tokenizer, VOCABULARY, 0, &err), &err);
    CHECK_OK(d2c_wordpiece_encode(tokenizer, ids, &count, 8, text, &err), &err);
    d2c_wordpiece_close(tokenizer);
}

static char path[64];

static d2c_status
open_vocabulary(d2c_wordpiece **tokenizer, const char *lines, d2c_error *err)
{
    d2c_status status = d2c_file_write(path, lines, strlen(lines), err);

    return status != D2C_OK ? status : d2c_wordpiece_open(tokenizer, path, 1, err);
}

static void
test_vocabulary(void)
{
    d2c_wordpiece *tokenizer = NULL;
    int32_t ids[8];
    d2c_error err;
    int count;

    CHECK(d2c_wordpiece_open(&tokenizer, "/nonexistent/vocab.txt", 1, &err) == D2C_NOT_FOUND);
    CHECK(open_vocabulary(&tokenizer, "[UNK]\n[CLS]\n", &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "lacks the token [SEP]") != NULL && tokenizer == NULL);
    CHECK(open_vocabulary(&tokenizer, "", &err) == D2C_BAD_MODEL);

    /* Line ends of Windows, no newline at the end, a token twice (the last line counts), no [MASK]. */
    CHECK_OK(open_vocabulary(&tokenizer, "[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\n[\r\na", &err), &err);
    CHECK(d2c_wordpiece_size(tokenizer) == 6);
    CHECK_OK(d2c_wordpiece_encode(tokenizer, ids, &count, 8, "a [MASK]", &err), &err);
    CHECK(count == 6 && ids[0] == 1 && ids[1] == 5 && ids[2] == 4 && ids[3] == 0 && ids[4] == 0 &&
          ids[5] == 2);
    d2c_wordpiece_close(tokenizer);
    unlink(path);
}

int
main(void)
{
    int fd;

    snprintf(path, sizeof path, "/tmp/d2c-wordpiece-XXXXXX");
    fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    RUN(test_golden);
    RUN(test_invalid_text);
    RUN(test_marks);
    RUN(test_vocabulary);
    unlink(path);
    return check_report();
}
