/* test_sentencepiece.c: token ids against the sentencepiece package (golden/make_t5.py), and damaged files. */
#define _GNU_SOURCE
#include <unistd.h>

#include "text/sentencepiece.h"
#include "text_cases.h"

#define SPIECE GOLDEN "/models/tiny-t5/spiece.model"
#define BYTES GOLDEN "/sentencepiece/bytes.model"
#define EXTRA_IDS 100

static char path[64];

static d2c_status
encode(const void *tokenizer, int *count, int capacity, const char *text, d2c_error *err)
{
    return d2c_sentencepiece_encode(tokenizer, ids, count, capacity, text, err);
}

static void
check_part(const cJSON *cases, const char *name, const char *model, int extra_ids, int least)
{
    const cJSON *part = cJSON_GetObjectItem(cases, name), *test;
    d2c_sentencepiece *tokenizer = NULL;
    d2c_error err;

    CHECK_OK(d2c_sentencepiece_open(&tokenizer, model, extra_ids, &err), &err);
    CHECK(cJSON_GetArraySize(part) >= least);
    cJSON_ArrayForEach(test, part)
    {
        check_case(encode, tokenizer, test);
    }
    d2c_sentencepiece_close(tokenizer);
}

static void
test_golden(void)
{
    cJSON *cases = read_cases(GOLDEN "/sentencepiece/cases.json");

    check_part(cases, "t5", SPIECE, 0, 250);
    check_part(cases, "t5", SPIECE, EXTRA_IDS, 250);
    check_part(cases, "bytes", BYTES, 0, 250);
    check_part(cases, "special", SPIECE, EXTRA_IDS, 4);
    check_part(cases, "cut", SPIECE, EXTRA_IDS, 12);
    cJSON_Delete(cases);
}

static void
test_bad_texts(void)
{
    size_t length = (1 << 20) + 1;
    char *text = malloc(length + 1);
    d2c_sentencepiece *tokenizer = NULL;
    d2c_error err;
    int count;

    CHECK_OK(d2c_sentencepiece_open(&tokenizer, SPIECE, EXTRA_IDS, &err), &err);
    CHECK(d2c_sentencepiece_size(tokenizer) == 400);
    memset(text, 'a', length);
    text[length] = '\0';
    CHECK(d2c_sentencepiece_encode(tokenizer, ids, &count, 16, text, &err) == D2C_TOO_LARGE && count == 0);
    CHECK(d2c_sentencepiece_encode(tokenizer, ids, &count, 0, "a", &err) == D2C_INVALID_ARGUMENT);
    d2c_sentencepiece_close(tokenizer);
    free(text);
}

/* The file must not open, and the message says why. */
static void
check_refused(const void *bytes, size_t length, d2c_status wanted, const char *message)
{
    d2c_sentencepiece *tokenizer;
    d2c_error err;

    CHECK_OK(d2c_file_write(path, bytes, length, &err), &err);
    CHECK(d2c_sentencepiece_open(&tokenizer, path, 0, &err) == wanted && tokenizer == NULL);
    if (strstr(err.message, message) == NULL || strstr(err.message, path) == NULL) {
        fprintf(stderr, "\"%s\", not \"%s\"\n", err.message, message);
        CHECK(!"the message says why");
    }
}

/* Pieces as they stand in a file: tag 1, length; tag 1 text, tag 2 score, tag 3 type. */
#define PIECE(length, text) "\x0a" length "\x0a" text
#define UNKNOWN PIECE("\x05", "\x01u\x18\x02")
#define END PIECE("\x08", "\x04</s>\x18\x03")
#define REFUSED(text, status, message) check_refused(text, sizeof(text) - 1, status, message)

static void
test_bad_files(void)
{
    d2c_sentencepiece *tokenizer;
    d2c_error err;

    CHECK(d2c_sentencepiece_open(&tokenizer, "/nonexistent/spiece.model", 0, &err) == D2C_NOT_FOUND);
    REFUSED("", D2C_BAD_MODEL, "has no pieces");
    REFUSED("\x0a", D2C_BAD_MODEL, "not a valid protobuf");
    REFUSED("\x0a\x05xx", D2C_BAD_MODEL, "not a valid protobuf");
    REFUSED("\x0b", D2C_BAD_MODEL, "not a valid protobuf");
    REFUSED("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", D2C_BAD_MODEL, "not a valid protobuf");
    REFUSED("\x0a\x02\x0a\x05", D2C_BAD_MODEL, "a piece is not a valid protobuf");
    REFUSED(UNKNOWN PIECE("\x03", "\x01"
                                  "a"),
            D2C_BAD_MODEL, "no control \"</s>\" piece");
    REFUSED(END, D2C_BAD_MODEL, "no unknown piece");
    REFUSED(UNKNOWN UNKNOWN END, D2C_BAD_MODEL, "second unknown");
    REFUSED(UNKNOWN END PIECE("\x03", "\x01"
                                      "a") PIECE("\x03", "\x01"
                                                         "a"),
            D2C_BAD_MODEL, "are the same");
    REFUSED(UNKNOWN END "\x0a\x00", D2C_BAD_MODEL, "piece 2 has 0 bytes");
    REFUSED(UNKNOWN END PIECE("\x08", "\x01"
                                      "a\x15\x00\x00\x80\x7f"),
            D2C_BAD_MODEL, "score of piece 2 is not finite");
    REFUSED(UNKNOWN END PIECE("\x05", "\x01"
                                      "a\x18\x04"),
            D2C_UNSUPPORTED, "piece 2 is of type 4");
    REFUSED(UNKNOWN END PIECE("\x05", "\x01"
                                      "a\x18\x06"),
            D2C_BAD_MODEL, "piece 2 names no byte");
    REFUSED(UNKNOWN END "\x12\x02\x18\x02", D2C_UNSUPPORTED, "not a unigram model");
    REFUSED(UNKNOWN END "\x12\x03\xc0\x01\x01", D2C_UNSUPPORTED, "treat_whitespace_as_suffix");
    REFUSED(UNKNOWN END "\x12\x03\x98\x02\x01", D2C_BAD_MODEL, "no piece for byte 0x00");
    REFUSED(UNKNOWN END "\x1a\x05\x12\x03\x04\x00\x00", D2C_BAD_MODEL, "no valid size");
    REFUSED(UNKNOWN END "\x1a\x0b\x12\x09\x08\x00\x00\x00\x00\x00\x00\x00\x00", D2C_BAD_MODEL,
            "no valid size");
}

/* A table of one unit that leads nowhere; and every four bytes of a real one set to what leads out of it. */
static void
test_damaged_table(void)
{
    static const char tiny[] = UNKNOWN END "\x1a\x0b\x12\x09\x04\x00\x00\x00\xff\xff\xff\xff\x00";
    d2c_sentencepiece *tokenizer = NULL;
    uint8_t *bytes = NULL, *table;
    size_t length, i;
    d2c_error err;
    int count;

    CHECK_OK(d2c_file_write(path, tiny, sizeof tiny - 1, &err), &err);
    CHECK_OK(d2c_sentencepiece_open(&tokenizer, path, 0, &err), &err);
    CHECK_OK(d2c_sentencepiece_encode(tokenizer, ids, &count, 16, "abc", &err), &err);
    CHECK(count == 2 && ids[0] == 0 && ids[1] == 1);
    d2c_sentencepiece_close(tokenizer);

    CHECK_OK(d2c_file_read(&bytes, &length, SPIECE, 1 << 20, &err), &err);
    table = memmem(bytes, length, "nmt_nfkc", 8);
    CHECK(table != NULL);
    table += 8 + 4; /* behind the table's tag and length */
    memset(table + 1024, 0xff, 64 * 1024);
    CHECK_OK(d2c_file_write(path, bytes, length, &err), &err);
    CHECK_OK(d2c_sentencepiece_open(&tokenizer, path, 0, &err), &err);
    for (i = 0; i < 256; i++) {
        char text[] = {(char)(i + 1), (char)0xbc, (char)0x81, 'a', '\0'};

        if (d2c_sentencepiece_encode(tokenizer, ids, &count, 16, text, &err) != D2C_OK)
            CHECK(err.status == D2C_BAD_MODEL && strstr(err.message, "table is damaged") != NULL);
    }
    d2c_sentencepiece_close(tokenizer);
    free(bytes);
}

int
main(void)
{
    int fd;

    snprintf(path, sizeof path, "/tmp/d2c-sentencepiece-XXXXXX");
    fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    RUN(test_golden);
    RUN(test_bad_texts);
    RUN(test_bad_files);
    RUN(test_damaged_table);
    unlink(path);
    return check_report();
}
