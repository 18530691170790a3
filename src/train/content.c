/* content.c: the hashes of content.h. */
#define _GNU_SOURCE
#include "train/content.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/order.h"

#define NAME_BYTES 64 /* of the saved file's name for the whole: a sha256 in hex */
#define FILE_LIMIT ((size_t)1 << 36)

static const char *const part_name[D2C_CONTENT_PARTS] = {"image", "text embedding", "text mask",
                                                         "visual embedding"};

typedef struct content_row {
    int64_t number; /* d2c_order_number of the id */
    uint64_t hash;  /* of label and parts */
} content_row;

struct d2c_content {
    content_row *row; /* in order of the ids; sealed: of the numbers; NULL: none are checked */
    int64_t rows, capacity;
    EVP_MD_CTX *digest[D2C_CONTENT_PARTS];
    int used[D2C_CONTENT_PARTS]; /* some row has a value */
};

d2c_status
d2c_content_create(d2c_content **content, d2c_error *err)
{
    d2c_content *made = calloc(1, sizeof *made);
    int part, ready = made != NULL;

    for (part = 0; part < D2C_CONTENT_PARTS && ready; part++) {
        made->digest[part] = EVP_MD_CTX_new();
        ready = made->digest[part] != NULL && EVP_DigestInit_ex(made->digest[part], EVP_sha256(), NULL) == 1;
    }
    *content = ready ? made : NULL;
    if (ready)
        return D2C_OK;
    d2c_content_free(made);
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

void
d2c_content_free(d2c_content *content)
{
    int part;

    if (content == NULL)
        return;
    for (part = 0; part < D2C_CONTENT_PARTS; part++)
        EVP_MD_CTX_free(content->digest[part]);
    free(content->row);
    free(content);
}

char *
d2c_content_sql(const char *expression)
{
    char *sql = NULL;

    if (expression == NULL)
        return strdup("NULL::pg_catalog.bytea");
    if (asprintf(&sql, "pg_catalog.substr(pg_catalog.sha256((%s)::pg_catalog.bytea), 1, %d)", expression,
                 D2C_CONTENT_HASH_BYTES) < 0)
        return NULL;
    return sql;
}

/* ---- hashes ---------------------------------------------------------------------------------------------------- */

/* Takes one part's hash into the row's; a missing value counts as well. */
static uint64_t
mix(uint64_t hash, const uint8_t bytes[D2C_CONTENT_HASH_BYTES])
{
    uint64_t value = 0x9e3779b97f4a7c15u;

    if (bytes != NULL)
        memcpy(&value, bytes, sizeof value);
    hash = (hash ^ value) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 32;
}

static d2c_status
grow(d2c_content *content, d2c_error *err)
{
    int64_t capacity = content->capacity > 0 ? 2 * content->capacity : 1024;
    content_row *row = realloc(content->row, (size_t)capacity * sizeof *row);

    if (row == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the hashes of %" PRId64 " rows", capacity);
    content->row = row;
    content->capacity = capacity;
    return D2C_OK;
}

d2c_status
d2c_content_add(d2c_content *content, const char *id, int64_t label, const d2c_field part[D2C_CONTENT_PARTS],
                d2c_error *err)
{
    static const uint8_t none[D2C_CONTENT_HASH_BYTES];
    uint64_t hash = (uint64_t)label;
    int p;

    if (content->rows == content->capacity)
        D2C_TRY(grow(content, err));
    for (p = 0; p < D2C_CONTENT_PARTS; p++) {
        const uint8_t *bytes = part[p].length == D2C_CONTENT_HASH_BYTES ? part[p].data : NULL;

        hash = mix(hash, bytes);
        EVP_DigestUpdate(content->digest[p], bytes != NULL ? bytes : none, D2C_CONTENT_HASH_BYTES);
        content->used[p] |= bytes != NULL;
    }
    content->row[content->rows++] = (content_row){d2c_order_number(id), hash};
    return D2C_OK;
}

d2c_status
d2c_content_finish(d2c_content *content, char **json, d2c_error *err)
{
    cJSON *object = cJSON_CreateObject();
    uint8_t digest[EVP_MAX_MD_SIZE];
    char hex[65];
    int part, i;

    for (part = 0; part < D2C_CONTENT_PARTS; part++) {
        if (!content->used[part])
            continue;
        EVP_DigestFinal_ex(content->digest[part], digest, NULL);
        for (i = 0; i < 32; i++)
            snprintf(hex + 2 * i, 3, "%02x", digest[i]);
        cJSON_AddStringToObject(object, part_name[part], hex);
    }
    *json = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    return *json != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

void
d2c_content_differences(char *names, size_t size, const char *json, const char *other, const char *first)
{
    cJSON *a = cJSON_Parse(json), *b = cJSON_Parse(other);
    size_t used = 0;
    int part;

    names[0] = '\0';
    for (part = 0; part < D2C_CONTENT_PARTS && used < size; part++) {
        const cJSON *x = cJSON_GetObjectItemCaseSensitive(a, part_name[part]);
        const cJSON *y = cJSON_GetObjectItemCaseSensitive(b, part_name[part]);

        if (x == NULL && y == NULL)
            continue;
        if (x == NULL || y == NULL || !cJSON_Compare(x, y, 1))
            used += (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "",
                                     part == 0 ? first : part_name[part]);
    }
    cJSON_Delete(a);
    cJSON_Delete(b);
}

/* ---- the file -------------------------------------------------------------------------------------------------- */

d2c_status
d2c_content_save(const d2c_content *content, const char *path, const char *name, d2c_error *err)
{
    d2c_writer *writer;
    d2c_status status;
    int64_t i;

    D2C_TRY(d2c_writer_open(&writer, path, err));
    status = d2c_writer_put(writer, name, NAME_BYTES, err);
    for (i = 0; i < content->rows && status == D2C_OK; i++)
        status = d2c_writer_put(writer, &content->row[i].hash, sizeof content->row[i].hash, err);
    if (status == D2C_OK)
        return d2c_writer_commit(writer, err);
    d2c_writer_abandon(writer);
    return status;
}

int64_t
d2c_content_first_change(const d2c_content *content, const char *path, const char *name)
{
    uint8_t *bytes = NULL;
    size_t length = 0, at = NAME_BYTES;
    int64_t i = -1;
    uint64_t hash;

    if (d2c_file_read(&bytes, &length, path, FILE_LIMIT, NULL) == D2C_OK && length >= NAME_BYTES &&
        memcmp(bytes, name, NAME_BYTES) == 0)
        for (i = 0; i < content->rows && length - at >= sizeof hash; i++, at += sizeof hash) {
            memcpy(&hash, bytes + at, sizeof hash);
            if (hash != content->row[i].hash)
                break;
        }
    free(bytes);
    return i < content->rows ? i : -1;
}

/* ---- looking up ------------------------------------------------------------------------------------------------ */

static int
compare_rows(const void *a, const void *b)
{
    const content_row *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

void
d2c_content_seal(d2c_content *content, int check)
{
    if (check)
        qsort(content->row, (size_t)content->rows, sizeof *content->row, compare_rows);
    else {
        free(content->row);
        content->row = NULL;
    }
}

static uint64_t
hash_fields(const d2c_field *fields, int64_t label)
{
    uint64_t hash = (uint64_t)label;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    int p;

    for (p = 0; p < D2C_CONTENT_PARTS; p++) {
        const d2c_field *field = &fields[2 + p];

        if (field->length >= 0)
            SHA256(field->data, (size_t)field->length, digest);
        hash = mix(hash, field->length >= 0 ? digest : NULL);
    }
    return hash;
}

/* The first row of that number; different ids may have one, though it takes 2^32 of them for a likely case. */
static int64_t
find(const d2c_content *content, int64_t number)
{
    int64_t low = 0, high = content->rows;

    while (low < high) {
        int64_t middle = low + (high - low) / 2;

        if (content->row[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

d2c_status
d2c_content_check(const d2c_content *content, const d2c_field *fields, d2c_error *err)
{
    char id[D2C_ID_LIMIT + 1];
    int64_t label, number, i;
    uint64_t hash;
    int known = 0;

    if (content == NULL || content->row == NULL || fields[0].length < 0 || fields[0].length > D2C_ID_LIMIT)
        return D2C_OK;
    memcpy(id, fields[0].data, (size_t)fields[0].length);
    id[fields[0].length] = '\0';
    D2C_TRY(d2c_field_i64(&label, &fields[1], err));
    number = d2c_order_number(id);
    hash = hash_fields(fields, label);
    for (i = find(content, number); i < content->rows && content->row[i].number == number; i++, known = 1)
        if (content->row[i].hash == hash)
            return D2C_OK;
    if (known)
        d2c_fail(err, D2C_BAD_DATA, "row %.70s has changed since the training began", id);
    else
        d2c_fail(err, D2C_BAD_DATA, "row %.70s was not there when the training began", id);
    d2c_hint(err, "Go on with --resume latest once it is what it was, or with --accept-changed-rows.");
    return D2C_BAD_DATA;
}
