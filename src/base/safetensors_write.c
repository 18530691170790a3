/* safetensors_write.c: the writer: the header as the format's own library writes it, then the data. */
#include "base/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/safetensors_header.h"

#define MAX_HEADER 100000000u /* readers refuse more */

/* A growing text; `failed` once memory ran out, which is asked once at the end. */
typedef struct text {
    char *bytes;
    size_t length, capacity;
    int failed;
} text;

static void
append(text *t, const char *bytes, size_t length)
{
    size_t wanted = (t->length + length) * 2 + 256;
    char *grown;

    if (!t->failed && t->length + length > t->capacity) {
        grown = realloc(t->bytes, wanted);
        if (grown == NULL)
            t->failed = 1;
        else {
            t->bytes = grown;
            t->capacity = wanted;
        }
    }
    if (t->failed)
        return;
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
}

static void
append_text(text *t, const char *string)
{
    append(t, string, strlen(string));
}

static void
append_number(text *t, unsigned long long number)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%llu", number);
    append_text(t, digits);
}

/* A JSON string. */
static void
append_string(text *t, const char *string)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    char escape[8];

    append_text(t, "\"");
    for (; *string != '\0'; string++) {
        const char *found = strchr(from, *string);

        if (found != NULL) {
            escape[0] = '\\';
            escape[1] = to[found - from];
            append(t, escape, 2);
        } else if ((unsigned char)*string < 0x20) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned char)*string);
            append_text(t, escape);
        } else
            append(t, string, 1);
    }
    append_text(t, "\"");
}

/* The format's writer puts wide elements first, so that every tensor is aligned; within a width its dtypes
 * have an order of their own. */
static int
dtype_rank(d2c_st_dtype dtype)
{
    static const d2c_st_dtype order[] = {D2C_ST_U64, D2C_ST_I64,  D2C_ST_F64, D2C_ST_F32, D2C_ST_U32,
                                         D2C_ST_I32, D2C_ST_BF16, D2C_ST_F16, D2C_ST_U16, D2C_ST_I16,
                                         D2C_ST_I8,  D2C_ST_U8,   D2C_ST_BOOL};
    int rank = 0;

    while (order[rank] != dtype)
        rank++;
    return rank;
}

static int
compare_items(const void *a, const void *b)
{
    const d2c_st_item *x = *(const d2c_st_item *const *)a, *y = *(const d2c_st_item *const *)b;
    int difference = dtype_rank(x->dtype) - dtype_rank(y->dtype);

    return difference != 0 ? difference : strcmp(x->name, y->name);
}

static int
compare_item_names(const void *a, const void *b)
{
    return strcmp((*(const d2c_st_item *const *)a)->name, (*(const d2c_st_item *const *)b)->name);
}

static int
is_utf8(const char *string)
{
    size_t length = strlen(string), at = 0;

    while (at < length) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)string + at, (utf8proc_ssize_t)(length - at), &code);

        if (n <= 0)
            return 0;
        at += (size_t)n;
    }
    return 1;
}

static d2c_status
fail_item(d2c_error *err, const d2c_st_item *item, const char *problem)
{
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "tensor \"%s\" %s", item->name, problem);
}

/* The item's size in bytes; an item that the format cannot hold is the caller's error. */
static d2c_status
item_bytes(size_t *bytes, const d2c_st_item *item, d2c_error *err)
{
    int i;

    if (!is_utf8(item->name))
        return fail_item(err, item, "has a name that is not UTF-8");
    if (strcmp(item->name, "__metadata__") == 0)
        return fail_item(err, item, "has a reserved name");
    if (d2c_st_dtype_bits(item->dtype) == 0)
        return fail_item(err, item, "has a dtype that is not written");
    if (item->ndim < 0 || item->ndim > D2C_SAFETENSORS_MAX_DIMS)
        return fail_item(err, item, "has too many dimensions");
    *bytes = (size_t)d2c_st_dtype_bits(item->dtype) / 8;
    for (i = 0; i < item->ndim; i++)
        if (item->dim[i] < 0 || d2c_size_mul(bytes, *bytes, (size_t)item->dim[i]) != 0)
            return fail_item(err, item, "has invalid dimensions");
    return D2C_OK;
}

static void
append_item(text *t, const d2c_st_item *item, size_t begin, size_t end)
{
    int i;

    append_string(t, item->name);
    append_text(t, ":{\"dtype\":\"");
    append_text(t, d2c_st_dtype_name(item->dtype));
    append_text(t, "\",\"shape\":[");
    for (i = 0; i < item->ndim; i++) {
        append_text(t, i > 0 ? "," : "");
        append_number(t, (unsigned long long)item->dim[i]);
    }
    append_text(t, "],\"data_offsets\":[");
    append_number(t, begin);
    append_text(t, ",");
    append_number(t, end);
    append_text(t, "]}");
}

static d2c_status
append_metadata(text *t, const d2c_st_pair *metadata, int pairs, d2c_error *err)
{
    int i;

    append_text(t, "\"__metadata__\":{");
    for (i = 0; i < pairs; i++) {
        if (!is_utf8(metadata[i].key) || !is_utf8(metadata[i].value))
            return d2c_fail(err, D2C_INVALID_ARGUMENT, "metadata \"%s\" is not UTF-8", metadata[i].key);
        append_text(t, i > 0 ? "," : "");
        append_string(t, metadata[i].key);
        append_text(t, ":");
        append_string(t, metadata[i].value);
    }
    append_text(t, "}");
    return D2C_OK;
}

/* Builds the header, padded with spaces so that the data start at a multiple of 8. */
static d2c_status
make_header(text *t, const d2c_st_item *const *sorted, int count, const d2c_st_pair *metadata, int pairs,
            d2c_error *err)
{
    size_t begin = 0, end, bytes;
    int i;

    append_text(t, "{");
    if (pairs > 0)
        D2C_TRY(append_metadata(t, metadata, pairs, err));
    for (i = 0; i < count; i++, begin = end) {
        D2C_TRY(item_bytes(&bytes, sorted[i], err));
        if (d2c_size_add(&end, begin, bytes) != 0)
            return d2c_fail(err, D2C_TOO_LARGE, "tensors are too large for one file");
        append_text(t, i > 0 || pairs > 0 ? "," : "");
        append_item(t, sorted[i], begin, end);
    }
    append_text(t, "}");
    while (!t->failed && t->length % 8 != 0)
        append_text(t, " ");
    if (t->failed)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    if (t->length > MAX_HEADER)
        return d2c_fail(err, D2C_TOO_LARGE, "header of %zu bytes is larger than safetensors files may have",
                        t->length);
    return D2C_OK;
}

static d2c_status
write_all(d2c_writer *writer, const text *header, const d2c_st_item *const *sorted, int count, d2c_error *err)
{
    unsigned char length[8];
    size_t bytes;
    int i;

    for (i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header->length >> 8 * i);
    D2C_TRY(d2c_writer_put(writer, length, sizeof length, err));
    D2C_TRY(d2c_writer_put(writer, header->bytes, header->length, err));
    for (i = 0; i < count; i++) {
        D2C_TRY(item_bytes(&bytes, sorted[i], err));
        D2C_TRY(d2c_writer_put(writer, sorted[i]->data, bytes, err));
    }
    return D2C_OK;
}

/* Sorts pointers to the items as the format's writer does, once names are known to be different. */
static d2c_status
sort_items(const d2c_st_item **sorted, const d2c_st_item *items, int count, d2c_error *err)
{
    int i;

    for (i = 0; i < count; i++) {
        if (d2c_st_dtype_bits(items[i].dtype) == 0)
            return fail_item(err, &items[i], "has a dtype that is not written");
        sorted[i] = &items[i];
    }
    qsort(sorted, (size_t)count, sizeof sorted[0], compare_item_names);
    for (i = 1; i < count; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            return fail_item(err, sorted[i], "is given twice");
    qsort(sorted, (size_t)count, sizeof sorted[0], compare_items);
    return D2C_OK;
}

d2c_status
d2c_safetensors_write(const char *path, const d2c_st_item *items, int count, const d2c_st_pair *metadata,
                      int pairs, d2c_error *err)
{
    const d2c_st_item **sorted = malloc(((size_t)count + 1) * sizeof sorted[0]);
    text header = {0};
    d2c_writer *writer = NULL;
    d2c_status status;

    if (sorted == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = sort_items(sorted, items, count, err);
    if (status == D2C_OK)
        status = make_header(&header, sorted, count, metadata, pairs, err);
    if (status == D2C_OK)
        status = d2c_writer_open(&writer, path, err);
    if (status == D2C_OK) {
        status = write_all(writer, &header, sorted, count, err);
        if (status == D2C_OK)
            status = d2c_writer_commit(writer, err);
        else
            d2c_writer_abandon(writer);
    }
    free(header.bytes);
    free(sorted);
    return status;
}
