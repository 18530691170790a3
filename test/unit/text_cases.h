/* text_cases.h: token ids of golden texts, as make_t5.py and make_clip_text.py write them. */
#ifndef D2C_TEST_TEXT_CASES_H
#define D2C_TEST_TEXT_CASES_H

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "base/file.h"
#include "check.h"

#define MAX_IDS 65536

static int32_t ids[MAX_IDS];

/* What encodes: ids [capacity] of the text. */
typedef d2c_status (*encoder)(const void *tokenizer, int *count, int capacity, const char *text,
                              d2c_error *err);

/* The case's text: bytes in hex, so many times. */
static inline char *
text_of(const cJSON *test)
{
    const char *hex = cJSON_GetStringValue(cJSON_GetObjectItem(test, "hex"));
    size_t bytes = strlen(hex) / 2, times = (size_t)cJSON_GetObjectItem(test, "times")->valueint, i;
    char *text = malloc(bytes * times + 1);
    unsigned byte;

    for (i = 0; i < bytes * times; i++) {
        sscanf(hex + 2 * (i % bytes), "%2x", &byte);
        text[i] = (char)byte;
    }
    text[bytes * times] = '\0';
    return text;
}

/* As the golden sums the ids up. */
static inline int
sum_of(int count)
{
    int64_t sum = 0;
    int i;

    for (i = 0; i < count; i++)
        sum = (sum + (int64_t)ids[i] * (i + 1)) % 1000003;
    return (int)sum;
}

static inline void
check_case(encoder encode, const void *tokenizer, const cJSON *test)
{
    const cJSON *capacity = cJSON_GetObjectItem(test, "capacity"), *expected, *id;
    char *text = text_of(test);
    int count, i = 0, same = 1;
    d2c_error err;

    CHECK_OK(encode(tokenizer, &count, capacity != NULL ? capacity->valueint : MAX_IDS, text, &err), &err);
    expected = cJSON_GetObjectItem(test, "ids");
    cJSON_ArrayForEach(id, expected)
    {
        same = same && i < count && ids[i] == id->valueint;
        i++;
    }
    if (capacity != NULL)
        same = same && count == i;
    else
        same = same && count == cJSON_GetObjectItem(test, "count")->valueint &&
               sum_of(count) == cJSON_GetObjectItem(test, "sum")->valueint;
    if (!same)
        fprintf(stderr, "the ids of \"%.60s\" differ\n", text);
    CHECK(same);
    free(text);
}

/* A file of cases, parsed; the caller's to delete. */
static inline cJSON *
read_cases(const char *file)
{
    uint8_t *bytes = NULL;
    size_t length;
    cJSON *cases;
    d2c_error err;

    CHECK_OK(d2c_file_read(&bytes, &length, file, 1 << 20, &err), &err);
    cases = cJSON_ParseWithLength((const char *)bytes, length);
    CHECK(cases != NULL);
    free(bytes);
    return cases;
}

#endif
