/* safetensors_header.c: a strict parser of the one JSON form that safetensors files have. */
#include "base/safetensors_header.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const struct {
    const char *name;
    int bits;
    d2c_st_dtype dtype;
} dtypes[] = {
    {"BOOL", 8, D2C_ST_BOOL},         {"U8", 8, D2C_ST_U8},         {"I8", 8, D2C_ST_I8},
    {"I16", 16, D2C_ST_I16},          {"U16", 16, D2C_ST_U16},      {"F16", 16, D2C_ST_F16},
    {"BF16", 16, D2C_ST_BF16},        {"I32", 32, D2C_ST_I32},      {"U32", 32, D2C_ST_U32},
    {"F32", 32, D2C_ST_F32},          {"I64", 64, D2C_ST_I64},      {"U64", 64, D2C_ST_U64},
    {"F64", 64, D2C_ST_F64},          {"C64", 64, D2C_ST_OTHER},    {"F8_E5M2", 8, D2C_ST_OTHER},
    {"F8_E4M3", 8, D2C_ST_OTHER},     {"F8_E8M0", 8, D2C_ST_OTHER}, {"F8_E4M3FNUZ", 8, D2C_ST_OTHER},
    {"F8_E5M2FNUZ", 8, D2C_ST_OTHER}, {"F6_E2M3", 6, D2C_ST_OTHER}, {"F6_E3M2", 6, D2C_ST_OTHER},
    {"F4", 4, D2C_ST_OTHER},
};
#define DTYPES ((int)(sizeof dtypes / sizeof dtypes[0]))

const char *
d2c_st_dtype_name(d2c_st_dtype dtype)
{
    return dtype < D2C_ST_OTHER ? dtypes[dtype].name : NULL;
}

int
d2c_st_dtype_bits(d2c_st_dtype dtype)
{
    return dtype < D2C_ST_OTHER ? dtypes[dtype].bits : 0;
}

/* Where the parser stands.  Decoded strings are never longer than their source, so `out` never overruns the
 * text. */
typedef struct cursor {
    const char *start, *at, *end;
    char *out;
    d2c_error *err;
} cursor;

static d2c_status
fail_at(cursor *c, const char *problem)
{
    d2c_fail(c->err, D2C_BAD_MODEL, "invalid header");
    d2c_detail(c->err, "%s at byte %zu of the header.", problem, (size_t)(c->at - c->start));
    return D2C_BAD_MODEL;
}

static void
skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
        c->at++;
}

/* Skips white space and, where it comes next, the character. */
static int
accept(cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted)
        return 0;
    c->at++;
    return 1;
}

static d2c_status
expect(cursor *c, char wanted)
{
    char problem[32] = "Expected \"?\"";

    if (accept(c, wanted))
        return D2C_OK;
    problem[10] = wanted;
    return fail_at(c, problem);
}

/* Reads the four hex digits of a \u escape. */
static d2c_status
parse_hex4(cursor *c, uint32_t *value)
{
    int i;

    *value = 0;
    for (i = 0; i < 4; i++) {
        char digit = c->at < c->end ? *c->at : '\0';

        if (digit >= '0' && digit <= '9')
            *value = *value * 16 + (uint32_t)(digit - '0');
        else if ((digit | 32) >= 'a' && (digit | 32) <= 'f')
            *value = *value * 16 + (uint32_t)((digit | 32) - 'a' + 10);
        else
            return fail_at(c, "Invalid \\u escape");
        c->at++;
    }
    return D2C_OK;
}

/* Decodes what follows "\u", surrogate pairs joined, and appends it as UTF-8. */
static d2c_status
parse_unicode_escape(cursor *c)
{
    uint32_t code, low;

    D2C_TRY(parse_hex4(c, &code));
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u')
            return fail_at(c, "Lone surrogate");
        c->at += 2;
        D2C_TRY(parse_hex4(c, &low));
        if (low < 0xDC00 || low > 0xDFFF)
            return fail_at(c, "Lone surrogate");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code == 0)
        return fail_at(c, "Zero character in a string");
    if (!utf8proc_codepoint_valid((utf8proc_int32_t)code))
        return fail_at(c, "Lone surrogate");
    c->out += utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)c->out);
    return D2C_OK;
}

static d2c_status
parse_escape(cursor *c)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;

    if (c->at == c->end)
        return fail_at(c, "Unterminated string");
    if (*c->at == 'u') {
        c->at++;
        return parse_unicode_escape(c);
    }
    found = *c->at != '\0' ? strchr(from, *c->at) : NULL;
    if (found == NULL)
        return fail_at(c, "Invalid escape");
    *c->out++ = to[found - from];
    c->at++;
    return D2C_OK;
}

/* Reads a string; *text points to its decoded, zero-terminated form. */
static d2c_status
parse_string(cursor *c, const char **text)
{
    *text = c->out;
    if (!accept(c, '"'))
        return fail_at(c, "Expected a string");
    while (c->at < c->end && *c->at != '"') {
        utf8proc_int32_t code;
        utf8proc_ssize_t n;

        if (*c->at == '\\') {
            c->at++;
            D2C_TRY(parse_escape(c));
            continue;
        }
        if ((unsigned char)*c->at < 0x20)
            return fail_at(c, "Control character in a string");
        n = utf8proc_iterate((const utf8proc_uint8_t *)c->at, c->end - c->at, &code);
        if (n <= 0)
            return fail_at(c, "Invalid UTF-8");
        memcpy(c->out, c->at, (size_t)n);
        c->out += n;
        c->at += n;
    }
    if (c->at == c->end)
        return fail_at(c, "Unterminated string");
    c->at++;
    *c->out++ = '\0';
    return D2C_OK;
}

/* Reads an unsigned integer: no sign, fraction, exponent or leading zero. */
static d2c_status
parse_unsigned(cursor *c, uint64_t *value)
{
    const char *first;

    skip_space(c);
    first = c->at;
    *value = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(*value, 10u, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*c->at - '0'), value))
            return fail_at(c, "Integer out of range");
    if (c->at == first || (*first == '0' && c->at - first > 1))
        return fail_at(c, "Expected an unsigned integer");
    return D2C_OK;
}

/* "[1, 2, ...]" of at most `limit` numbers. */
static d2c_status
parse_unsigned_list(cursor *c, uint64_t *list, int *count, int limit, const char *too_many)
{
    *count = 0;
    D2C_TRY(expect(c, '['));
    if (accept(c, ']'))
        return D2C_OK;
    do {
        if (*count == limit)
            return fail_at(c, too_many);
        D2C_TRY(parse_unsigned(c, &list[(*count)++]));
    } while (accept(c, ','));
    return expect(c, ']');
}

static d2c_status
parse_dtype(cursor *c, d2c_st_entry *entry)
{
    const char *name;
    int i;

    D2C_TRY(parse_string(c, &name));
    for (i = 0; i < DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            entry->tensor.dtype = dtypes[i].dtype;
            entry->bits = dtypes[i].bits;
            return D2C_OK;
        }
    d2c_fail(c->err, D2C_BAD_MODEL, "invalid header");
    d2c_detail(c->err, "Tensor \"%s\" has the unknown dtype \"%s\".", entry->tensor.name, name);
    return D2C_BAD_MODEL;
}

static d2c_status
parse_shape(cursor *c, d2c_st_entry *entry)
{
    uint64_t dim[D2C_SAFETENSORS_MAX_DIMS];
    int i;

    D2C_TRY(parse_unsigned_list(c, dim, &entry->tensor.ndim, D2C_SAFETENSORS_MAX_DIMS,
                                "A shape of more than 8 dimensions"));
    for (i = 0; i < entry->tensor.ndim; i++) {
        if (dim[i] > INT64_MAX)
            return fail_at(c, "Integer out of range");
        entry->tensor.dim[i] = (int64_t)dim[i];
    }
    return D2C_OK;
}

static d2c_status
parse_offsets(cursor *c, d2c_st_entry *entry)
{
    uint64_t offset[2];
    int count;

    D2C_TRY(parse_unsigned_list(c, offset, &count, 2, "More than two data_offsets"));
    if (count != 2)
        return fail_at(c, "Fewer than two data_offsets");
    entry->begin = offset[0];
    entry->end = offset[1];
    return D2C_OK;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...}, each once and in any order. */
static d2c_status
parse_tensor(cursor *c, d2c_st_entry *entry)
{
    static const struct {
        const char *name;
        d2c_status (*parse)(cursor *c, d2c_st_entry *entry);
    } fields[] = {{"dtype", parse_dtype}, {"shape", parse_shape}, {"data_offsets", parse_offsets}};
    int seen = 0, i;

    D2C_TRY(expect(c, '{'));
    do {
        const char *field;

        D2C_TRY(parse_string(c, &field));
        for (i = 0; i < 3 && strcmp(fields[i].name, field) != 0; i++)
            ;
        c->out = (char *)field; /* the field's name is not kept */
        if (i == 3)
            return fail_at(c, "Unknown field");
        if (seen & 1 << i)
            return fail_at(c, "Duplicate field");
        seen |= 1 << i;
        D2C_TRY(expect(c, ':'));
        D2C_TRY(fields[i].parse(c, entry));
    } while (accept(c, ','));
    D2C_TRY(expect(c, '}'));
    if (seen == 7)
        return D2C_OK;
    d2c_fail(c->err, D2C_BAD_MODEL, "invalid header");
    d2c_detail(c->err, "Tensor \"%s\" lacks dtype, shape or data_offsets.", entry->tensor.name);
    return D2C_BAD_MODEL;
}

/* Makes room for one more element of a growing array. */
static d2c_status
grow(void **array, int count, int *capacity, size_t size, d2c_error *err)
{
    int wanted = *capacity > 0 ? *capacity * 2 : 64;
    void *grown;

    if (count < *capacity)
        return D2C_OK;
    grown = realloc(*array, (size_t)wanted * size);
    if (grown == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    *array = grown;
    *capacity = wanted;
    return D2C_OK;
}

/* The value of "__metadata__": an object of strings. */
static d2c_status
parse_metadata(cursor *c, d2c_st_header *header)
{
    D2C_TRY(expect(c, '{'));
    if (accept(c, '}'))
        return D2C_OK;
    do {
        d2c_st_pair *pair;

        D2C_TRY(
            grow((void **)&header->metadata, header->pairs, &header->pair_capacity, sizeof *pair, c->err));
        pair = &header->metadata[header->pairs++];
        D2C_TRY(parse_string(c, &pair->key));
        D2C_TRY(expect(c, ':'));
        D2C_TRY(parse_string(c, &pair->value));
    } while (accept(c, ','));
    return expect(c, '}');
}

/* One member of the header's object. */
static d2c_status
parse_member(cursor *c, d2c_st_header *header, int *has_metadata)
{
    const char *name;
    d2c_st_entry *entry;

    D2C_TRY(parse_string(c, &name));
    D2C_TRY(expect(c, ':'));
    if (strcmp(name, "__metadata__") == 0) {
        if (*has_metadata)
            return fail_at(c, "Duplicate __metadata__");
        *has_metadata = 1;
        return parse_metadata(c, header);
    }
    D2C_TRY(grow((void **)&header->entry, header->count, &header->capacity, sizeof *entry, c->err));
    entry = &header->entry[header->count++];
    memset(entry, 0, sizeof *entry);
    entry->tensor.name = name;
    return parse_tensor(c, entry);
}

static d2c_status
parse_object(cursor *c, d2c_st_header *header)
{
    int has_metadata = 0;

    if (c->at == c->end || *c->at != '{')
        return fail_at(c, "Expected \"{\"");
    c->at++;
    if (!accept(c, '}')) {
        do
            D2C_TRY(parse_member(c, header, &has_metadata));
        while (accept(c, ','));
        D2C_TRY(expect(c, '}'));
    }
    skip_space(c);
    return c->at == c->end ? D2C_OK : fail_at(c, "Text behind the object");
}

static int
compare_keys(const void *a, const void *b)
{
    return strcmp(((const d2c_st_pair *)a)->key, ((const d2c_st_pair *)b)->key);
}

/* Sorts the metadata by key, which brings duplicates together. */
static d2c_status
check_metadata(d2c_st_header *header, d2c_error *err)
{
    int i;

    if (header->pairs > 1)
        qsort(header->metadata, (size_t)header->pairs, sizeof header->metadata[0], compare_keys);
    for (i = 1; i < header->pairs; i++)
        if (compare_keys(&header->metadata[i - 1], &header->metadata[i]) == 0) {
            d2c_fail(err, D2C_BAD_MODEL, "invalid header");
            d2c_detail(err, "Metadata key \"%s\" occurs twice.", header->metadata[i].key);
            return D2C_BAD_MODEL;
        }
    return D2C_OK;
}

d2c_status
d2c_st_header_parse(d2c_st_header *header, const char *json, size_t length, d2c_error *err)
{
    cursor c = {json, json, json + length, NULL, err};
    d2c_status status;

    memset(header, 0, sizeof *header);
    header->text = malloc(length + 1);
    if (header->text == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    c.out = header->text;
    status = parse_object(&c, header);
    if (status == D2C_OK)
        status = check_metadata(header, err);
    if (status != D2C_OK)
        d2c_st_header_free(header);
    return status;
}

void
d2c_st_header_free(d2c_st_header *header)
{
    free(header->text);
    free(header->entry);
    free(header->metadata);
    memset(header, 0, sizeof *header);
}
