/* safetensors.c: the reader: maps the file, checks that its tensors cover the data exactly, hands out views.
 */
#include "base/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "base/file.h"
#include "base/half.h"
#include "base/safetensors_header.h"

#define MAX_HEADER 100000000u /* the format's own limit */

struct d2c_safetensors {
    d2c_st_header header; /* entries in order of their data */
    const d2c_st_tensor **by_name;
    const void *map; /* what close unmaps; NULL over memory of the caller's */
    size_t map_length;
};

/* The header's length, checked against the file's. */
static d2c_status
header_length(size_t *length, const unsigned char *bytes, size_t total, d2c_error *err)
{
    uint64_t n = 0;
    int i;

    if (total < 8) {
        d2c_fail(err, D2C_BAD_MODEL, "file is too short");
        d2c_detail(err, "It has %zu bytes; a safetensors file has at least 8.", total);
        return D2C_BAD_MODEL;
    }
    for (i = 7; i >= 0; i--)
        n = n << 8 | bytes[i];
    if (n > MAX_HEADER || n > total - 8) {
        d2c_fail(err, D2C_BAD_MODEL, "invalid header length");
        d2c_detail(err, "The header is said to have %llu bytes; the file has %zu and the limit is %u.",
                   (unsigned long long)n, total, MAX_HEADER);
        return D2C_BAD_MODEL;
    }
    *length = (size_t)n;
    return D2C_OK;
}

static d2c_status
fail_tensor(d2c_error *err, const d2c_st_entry *entry, const char *problem)
{
    d2c_fail(err, D2C_BAD_MODEL, "invalid tensor \"%s\"", entry->tensor.name);
    d2c_detail(err, "%s", problem);
    return D2C_BAD_MODEL;
}

/* Sets count, bytes and data from shape and offsets, which must agree. */
static d2c_status
place_tensor(d2c_st_entry *entry, const unsigned char *data, size_t length, d2c_error *err)
{
    d2c_st_tensor *t = &entry->tensor;
    size_t count = 1, bits;
    int i;

    for (i = 0; i < t->ndim; i++)
        if (d2c_size_mul(&count, count, (size_t)t->dim[i]) != 0)
            return fail_tensor(err, entry, "The product of its dimensions is too large.");
    if (d2c_size_mul(&bits, count, (size_t)entry->bits) != 0 || count > INT64_MAX)
        return fail_tensor(err, entry, "The product of its dimensions is too large.");
    if (bits % 8 != 0)
        return fail_tensor(err, entry, "Its elements do not fill whole bytes.");
    if (entry->end < entry->begin || entry->end > length)
        return fail_tensor(err, entry, "Its data_offsets lie outside the file.");
    if (entry->end - entry->begin != bits / 8)
        return fail_tensor(err, entry, "Its data_offsets do not agree with its shape and dtype.");
    t->count = (int64_t)count;
    t->bytes = bits / 8;
    t->data = data + entry->begin;
    return D2C_OK;
}

static int
compare_offsets(const void *a, const void *b)
{
    const d2c_st_entry *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name);
}

/* In order of their offsets the tensors must cover the data without gap, overlap or rest. */
static d2c_status
check_cover(d2c_st_header *header, const unsigned char *data, size_t length, d2c_error *err)
{
    uint64_t covered = 0;
    int i;

    if (header->count > 1)
        qsort(header->entry, (size_t)header->count, sizeof header->entry[0], compare_offsets);
    for (i = 0; i < header->count; i++) {
        d2c_st_entry *entry = &header->entry[i];

        D2C_TRY(place_tensor(entry, data, length, err));
        if (entry->begin < covered)
            return fail_tensor(err, entry, "Its data overlap those of another tensor.");
        if (entry->begin > covered)
            return fail_tensor(err, entry, "There is a gap before its data.");
        covered = entry->end;
    }
    if (covered == length)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "bytes behind the last tensor");
    d2c_detail(err, "The tensors cover %llu of %zu bytes of data.", (unsigned long long)covered, length);
    return D2C_BAD_MODEL;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp((*(const d2c_st_tensor *const *)a)->name, (*(const d2c_st_tensor *const *)b)->name);
}

/* Makes the index by name; a name that occurs twice is an error. */
static d2c_status
index_names(d2c_safetensors *file, d2c_error *err)
{
    int count = file->header.count, i;

    file->by_name = calloc((size_t)count + 1, sizeof file->by_name[0]);
    if (file->by_name == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < count; i++)
        file->by_name[i] = &file->header.entry[i].tensor;
    qsort(file->by_name, (size_t)count, sizeof file->by_name[0], compare_names);
    for (i = 1; i < count; i++)
        if (compare_names(&file->by_name[i - 1], &file->by_name[i]) == 0) {
            d2c_fail(err, D2C_BAD_MODEL, "invalid header");
            d2c_detail(err, "Tensor \"%s\" occurs twice.", file->by_name[i]->name);
            return D2C_BAD_MODEL;
        }
    return D2C_OK;
}

static d2c_status
parse_file(d2c_safetensors *file, const unsigned char *bytes, size_t length, d2c_error *err)
{
    size_t header;

    D2C_TRY(header_length(&header, bytes, length, err));
    D2C_TRY(d2c_st_header_parse(&file->header, (const char *)bytes + 8, header, err));
    D2C_TRY(check_cover(&file->header, bytes + 8 + header, length - 8 - header, err));
    return index_names(file, err);
}

d2c_status
d2c_safetensors_parse(d2c_safetensors **file, const char *name, const void *bytes, size_t length,
                      d2c_error *err)
{
    d2c_safetensors *f = calloc(1, sizeof *f);
    d2c_status status;

    *file = NULL;
    if (f == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = parse_file(f, bytes, length, err);
    if (status != D2C_OK) {
        if (status == D2C_BAD_MODEL)
            d2c_error_prefix(err, "\"%s\" is not a valid safetensors file", name);
        d2c_safetensors_close(f);
        return status;
    }
    *file = f;
    return D2C_OK;
}

d2c_status
d2c_safetensors_open(d2c_safetensors **file, const char *path, d2c_error *err)
{
    d2c_status status;
    const void *map;
    size_t length;

    *file = NULL;
    D2C_TRY(d2c_file_map(&map, &length, path, err));
    status = d2c_safetensors_parse(file, path, map, length, err);
    if (status == D2C_OK) {
        (*file)->map = map;
        (*file)->map_length = length;
    } else
        d2c_file_unmap(map, length);
    return status;
}

void
d2c_safetensors_close(d2c_safetensors *file)
{
    if (file == NULL)
        return;
    d2c_st_header_free(&file->header);
    free(file->by_name);
    d2c_file_unmap(file->map, file->map_length);
    free(file);
}

int
d2c_safetensors_count(const d2c_safetensors *file)
{
    return file->header.count;
}

const d2c_st_tensor *
d2c_safetensors_at(const d2c_safetensors *file, int index)
{
    return &file->header.entry[index].tensor;
}

const d2c_st_tensor *
d2c_safetensors_find(const d2c_safetensors *file, const char *name)
{
    d2c_st_tensor wanted = {.name = name};
    const d2c_st_tensor *key = &wanted, **found;

    found = bsearch(&key, file->by_name, (size_t)file->header.count, sizeof file->by_name[0], compare_names);
    return found != NULL ? *found : NULL;
}

const char *
d2c_safetensors_metadata(const d2c_safetensors *file, const char *key)
{
    int i;

    for (i = 0; i < file->header.pairs; i++)
        if (strcmp(file->header.metadata[i].key, key) == 0)
            return file->header.metadata[i].value;
    return NULL;
}

/* Element i of a float tensor; data may be unaligned. */
static float
element_to_f32(const d2c_st_tensor *tensor, int64_t i)
{
    const char *data = tensor->data;
    uint16_t half;
    double wide;

    if (tensor->dtype == D2C_ST_F64) {
        memcpy(&wide, data + 8 * i, sizeof wide);
        return (float)wide;
    }
    memcpy(&half, data + 2 * i, sizeof half);
    return tensor->dtype == D2C_ST_F16 ? d2c_half_to_float(half) : d2c_bf16_to_float(half);
}

d2c_status
d2c_st_tensor_to_f32(float *out, const d2c_st_tensor *tensor, int64_t count, d2c_error *err)
{
    int64_t i;

    if (tensor->count != count) {
        d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has the wrong size", tensor->name);
        d2c_detail(err, "It has %lld elements; %lld are needed.", (long long)tensor->count, (long long)count);
        return D2C_BAD_MODEL;
    }
    switch (tensor->dtype) {
    case D2C_ST_F32:
        if (count > 0)
            memcpy(out, tensor->data, tensor->bytes);
        return D2C_OK;
    case D2C_ST_F16:
    case D2C_ST_BF16:
    case D2C_ST_F64:
        for (i = 0; i < count; i++)
            out[i] = element_to_f32(tensor, i);
        return D2C_OK;
    default:
        d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has the wrong dtype", tensor->name);
        d2c_detail(err, "F32, BF16, F16 or F64 is needed.");
        return D2C_BAD_MODEL;
    }
}
