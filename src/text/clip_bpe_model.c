/*
 * clip_bpe_model.c: reads CLIP's vocab.json, ids by token, and merges.txt, a pair of tokens a line, the first first.
 *
 * In both a byte stands as a printable character of its own (GPT-2's table).
 */
#include "text/clip_bpe_model.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/utf8.h"

#define MAX_VOCABULARY_BYTES ((size_t)8 << 20)
#define MAX_MERGES_BYTES ((size_t)8 << 20)
#define MAX_ID (1 << 24)
#define MAX_TOKEN_BYTES 1024

typedef struct entry {
    const char *token;
    int32_t id;
} entry;

typedef struct vocabulary {
    cJSON *json; /* the entries point into it */
    entry *entry;
    size_t count;
} vocabulary;

static int
compare_entries(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->token, ((const entry *)b)->token);
}

/* The token's id, or -1. */
static int32_t
lookup(const vocabulary *v, const char *token)
{
    const entry key = {token, 0};
    const entry *found = bsearch(&key, v->entry, v->count, sizeof key, compare_entries);

    return found != NULL ? found->id : -1;
}

/* ---- vocab.json ---------------------------------------------------------------------------------------------------- */

static d2c_status
parse_vocabulary(vocabulary *v, const char *path, d2c_error *err)
{
    uint8_t *bytes;
    size_t length;

    D2C_TRY(d2c_file_read(&bytes, &length, path, MAX_VOCABULARY_BYTES, err));
    if (d2c_is_utf8(bytes, length)) /* messages quote tokens */
        v->json = cJSON_ParseWithLength((const char *)bytes, length);
    free(bytes);
    return cJSON_IsObject(v->json) ? D2C_OK
                                   : d2c_fail(err, D2C_BAD_MODEL, "\"%s\" is not a JSON object", path);
}

static d2c_status
add_entry(vocabulary *v, const cJSON *item, const char *path, d2c_error *err)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < MAX_ID) ||
        item->valuedouble != (double)item->valueint)
        return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" has no valid id for \"%s\"", path, item->string);
    v->entry[v->count++] = (entry){item->string, item->valueint};
    return D2C_OK;
}

static d2c_status
read_vocabulary(vocabulary *v, const char *path, d2c_error *err)
{
    const cJSON *item;
    size_t i;

    D2C_TRY(parse_vocabulary(v, path, err));
    v->entry = malloc(((size_t)cJSON_GetArraySize(v->json) + 1) * sizeof *v->entry);
    if (v->entry == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    cJSON_ArrayForEach(item, v->json)
    {
        D2C_TRY(add_entry(v, item, path, err));
    }
    qsort(v->entry, v->count, sizeof *v->entry, compare_entries);
    for (i = 1; i < v->count; i++)
        if (compare_entries(&v->entry[i - 1], &v->entry[i]) == 0)
            return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" has twice the token \"%s\"", path, v->entry[i].token);
    return D2C_OK;
}

static d2c_status
special_id(int32_t *id, const vocabulary *v, const char *token, const char *path, d2c_error *err)
{
    *id = lookup(v, token);
    if (*id >= 0)
        return D2C_OK;
    return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" lacks the token %s", path, token);
}

/* The character that stands for a byte: itself where it can be seen, one behind the bytes otherwise. */
static int32_t
character_of(int byte)
{
    int hidden = 256, i;

    for (i = 0; i <= byte; i++) {
        int seen = (i >= '!' && i <= '~') || (i >= 0xa1 && i <= 0xff && i != 0xad);

        if (i == byte && seen)
            return byte;
        hidden += !seen;
    }
    return hidden - 1;
}

static void
find_bytes(d2c_clip_bpe *t, const vocabulary *v)
{
    char token[16];
    int byte, at_end;

    for (byte = 0; byte < 256; byte++)
        for (at_end = 0; at_end < 2; at_end++) {
            int used = (int)utf8proc_encode_char(character_of(byte), (utf8proc_uint8_t *)token);
            int32_t id;

            snprintf(token + used, sizeof token - (size_t)used, "%s", at_end ? "</w>" : "");
            id = lookup(v, token);
            t->byte_id[at_end][byte] = id >= 0 ? id : t->end;
        }
}

static d2c_status
take_vocabulary(d2c_clip_bpe *t, const vocabulary *v, const char *path, d2c_error *err)
{
    size_t i;

    for (i = 0; i < v->count; i++)
        if (v->entry[i].id >= t->size)
            t->size = v->entry[i].id + 1;
    D2C_TRY(special_id(&t->start, v, "<|startoftext|>", path, err));
    D2C_TRY(special_id(&t->end, v, "<|endoftext|>", path, err));
    find_bytes(t, v);
    return D2C_OK;
}

/* ---- merges.txt ---------------------------------------------------------------------------------------------------- */

int
d2c_merge_compare(const d2c_merge *a, const d2c_merge *b)
{
    if (a->left != b->left)
        return a->left < b->left ? -1 : 1;
    return (a->right > b->right) - (a->right < b->right);
}

/* Of a pair that stands twice the last line counts. */
static int
compare_merges(const void *a, const void *b)
{
    int order = d2c_merge_compare(a, b);

    return order != 0 ? order : ((const d2c_merge *)b)->rank - ((const d2c_merge *)a)->rank;
}

/* One line, "left right"; *line is cut at its end. */
static d2c_status
add_merge(d2c_clip_bpe *t, const vocabulary *v, char *line, int number, const char *path, d2c_error *err)
{
    char *space = strchr(line, ' '), joined[MAX_TOKEN_BYTES];
    d2c_merge m = {.rank = (int32_t)t->merges};

    if (space == NULL || strchr(space + 1, ' ') != NULL || strlen(line) >= sizeof joined)
        return d2c_fail(err, D2C_BAD_MODEL, "line %d of \"%s\" is not a pair of tokens", number, path);
    *space = '\0';
    snprintf(joined, sizeof joined, "%s%s", line, space + 1);
    m.left = lookup(v, line);
    m.right = lookup(v, space + 1);
    m.id = lookup(v, joined);
    if (m.left < 0 || m.right < 0 || m.id < 0)
        return d2c_fail(err, D2C_BAD_MODEL, "line %d of \"%s\" has a token that the vocabulary lacks", number,
                        path);
    t->merge[t->merges++] = m;
    return D2C_OK;
}

/* The text's lines, but for empty ones and that of the version. */
static d2c_status
split_lines(d2c_clip_bpe *t, const vocabulary *v, char *text, const char *path, d2c_error *err)
{
    char *line = text;
    int number = 1;

    for (; line != NULL; number++) {
        char *next = strchr(line, '\n');

        if (next != NULL)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (*line != '\0' && strncmp(line, "#version", 8) != 0)
            D2C_TRY(add_merge(t, v, line, number, path, err));
        line = next;
    }
    return D2C_OK;
}

static void
sort_merges(d2c_clip_bpe *t)
{
    size_t i, kept = 0;

    if (t->merges > 1)
        qsort(t->merge, t->merges, sizeof *t->merge, compare_merges);
    for (i = 0; i < t->merges; i++)
        if (kept == 0 || d2c_merge_compare(&t->merge[kept - 1], &t->merge[i]) != 0)
            t->merge[kept++] = t->merge[i];
    t->merges = kept;
}

static d2c_status
read_merges(d2c_clip_bpe *t, const vocabulary *v, const char *path, d2c_error *err)
{
    size_t length, lines = 1, i;
    d2c_status status;
    uint8_t *bytes;

    D2C_TRY(d2c_file_read(&bytes, &length, path, MAX_MERGES_BYTES, err));
    for (i = 0; i < length; i++)
        lines += bytes[i] == '\n';
    t->merge = malloc(lines * sizeof *t->merge);
    status = t->merge != NULL ? split_lines(t, v, (char *)bytes, path, err)
                              : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    free(bytes);
    sort_merges(t);
    return status;
}

d2c_status
d2c_clip_bpe_read(d2c_clip_bpe *tokenizer, const char *vocabulary_path, const char *merges_path,
                  d2c_error *err)
{
    vocabulary v = {0};
    d2c_status status = read_vocabulary(&v, vocabulary_path, err);

    if (status == D2C_OK)
        status = take_vocabulary(tokenizer, &v, vocabulary_path, err);
    if (status == D2C_OK)
        status = read_merges(tokenizer, &v, merges_path, err);
    cJSON_Delete(v.json);
    free(v.entry);
    return status;
}
