/* test_safetensors.c: every rule of the format, the bytes of the format's own library, and failures of
 * writing. */
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/safetensors.h"
#include "check.h"

/* A file in memory: length, JSON, then `data` bytes 0, 1, 2, ...; freed by the caller. */
static unsigned char *
make_file(size_t *length, const char *json, size_t data)
{
    size_t header = strlen(json), i;
    unsigned char *bytes = malloc(8 + header + data);

    for (i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(header >> 8 * i);
    memcpy(bytes + 8, json, header);
    for (i = 0; i < data; i++)
        bytes[8 + header + i] = (unsigned char)i;
    *length = 8 + header + data;
    return bytes;
}

/* Every prefix of a valid file is refused: nothing is read behind the end (the address sanitizer watches). */
static void
test_truncated(void)
{
    d2c_safetensors *file;
    d2c_error err;
    size_t length, cut;
    unsigned char *bytes = make_file(&length,
                                     "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
                  *part;

    CHECK_OK(d2c_safetensors_parse(&file, "whole", bytes, length, &err), &err);
    CHECK(d2c_safetensors_count(file) == 1);
    d2c_safetensors_close(file);
    for (cut = 0; cut < length; cut++) {
        part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        CHECK(d2c_safetensors_parse(&file, "part", part, cut, &err) == D2C_BAD_MODEL);
        CHECK(file == NULL);
        free(part);
    }
    free(bytes);
}

static void
test_valid(void)
{
    /* Offsets out of order, white space, escapes, rank 0, an empty tensor, a sub-byte dtype, padding. */
    static const char json[] =
        "{ \"b\" : {\"data_offsets\":[4, 8] ,\"shape\":[2, 2],\"dtype\":\"U8\"},\n"
        "\"\\u00e9\\ud83d\\ude00\\n\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
        "\"none\":{\"dtype\":\"F64\",\"shape\":[3,0,7],\"data_offsets\":[4,4]},"
        "\"half\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[8,10]},"
        "\"__metadata__\":{\"k\":\"v\\u0001\",\"\":\"\"}}   ";
    const d2c_st_tensor *t;
    d2c_safetensors *file;
    d2c_error err;
    size_t length;
    unsigned char *bytes = make_file(&length, json, 10);

    CHECK_OK(d2c_safetensors_parse(&file, "valid", bytes, length, &err), &err);
    CHECK(d2c_safetensors_count(file) == 4);
    CHECK(strcmp(d2c_safetensors_at(file, 0)->name, "\xc3\xa9\xf0\x9f\x98\x80\n") == 0);
    CHECK(strcmp(d2c_safetensors_at(file, 3)->name, "half") == 0);
    CHECK(d2c_safetensors_at(file, 0)->count == 1 && d2c_safetensors_at(file, 0)->ndim == 0);
    t = d2c_safetensors_find(file, "b");
    CHECK(t != NULL && t->dtype == D2C_ST_U8 && t->ndim == 2 && t->dim[0] == 2 && t->count == 4);
    CHECK(t != NULL && t->bytes == 4 && memcmp(t->data, "\4\5\6\7", 4) == 0);
    t = d2c_safetensors_find(file, "none");
    CHECK(t != NULL && t->count == 0 && t->bytes == 0 && t->dim[2] == 7);
    t = d2c_safetensors_find(file, "half");
    CHECK(t != NULL && t->dtype == D2C_ST_OTHER && t->count == 4 && t->bytes == 2);
    CHECK(d2c_safetensors_find(file, "B") == NULL && d2c_safetensors_find(file, "") == NULL);
    CHECK(strcmp(d2c_safetensors_metadata(file, "k"), "v\1") == 0);
    CHECK(strcmp(d2c_safetensors_metadata(file, ""), "") == 0);
    CHECK(d2c_safetensors_metadata(file, "x") == NULL);
    d2c_safetensors_close(file);
    free(bytes);
}

static void
test_empty(void)
{
    d2c_safetensors *file;
    d2c_error err;

    CHECK_OK(d2c_safetensors_parse(&file, "empty", "\2\0\0\0\0\0\0\0{}", 10, &err), &err);
    CHECK(d2c_safetensors_count(file) == 0 && d2c_safetensors_find(file, "a") == NULL);
    d2c_safetensors_close(file);
}

#define ONE(dtype, shape, offsets)                                                                           \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define F32(name, begin, end)                                                                                \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" #begin "," #end "]}"

/* A rule broken, and what the error says of it. */
static const struct {
    const char *json;
    size_t data;
    const char *detail;
} broken[] = {
    {" {}", 0, "Expected \"{\" at byte 0"},
    {"[]", 0, "Expected \"{\" at byte 0"},
    {"{", 0, "Expected a string at byte 1"},
    {"{} x", 0, "Text behind the object at byte 3"},
    {"{}{}", 0, "Text behind the object at byte 2"},
    {"{" F32("a", 0, 4) ",}", 4, "Expected a string"},
    {"{" F32("a", 0, 4) " " F32("b", 4, 8) "}", 8, "Expected \"}\""},
    {"{\"a\"}", 0, "Expected \":\""},
    {"{a:1}", 0, "Expected a string"},
    {"{\"a\":1}", 0, "Expected \"{\""},
    {"{\"a", 0, "Unterminated string"},
    {"{\"a\\", 0, "Unterminated string"},
    {"{\"a\\x\":1}", 0, "Invalid escape"},
    {"{\"a\\u12g4\":1}", 0, "Invalid \\u escape"},
    {"{\"a\\ud800\":1}", 0, "Lone surrogate"},
    {"{\"a\\ud800\\u0041\":1}", 0, "Lone surrogate"},
    {"{\"a\\udc00\":1}", 0, "Lone surrogate"},
    {"{\"a\\u0000\":1}", 0, "Zero character"},
    {"{\"a\nb\":1}", 0, "Control character"},
    {"{\"a\xff\":1}", 0, "Invalid UTF-8"},
    {"{\"\xc0\x80\":1}", 0, "Invalid UTF-8"},
    {"{\"\xed\xa0\x80\":1}", 0, "Invalid UTF-8"},
    {"{\"a\":{}}", 0, "Expected a string"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "Tensor \"a\" lacks"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "Duplicate field"},
    {"{\"a\":{\"dtype\":\"F32\",\"extra\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "Unknown field"},
    {ONE("\"F31\"", "[1]", "[0,4]"), 4, "Tensor \"a\" has the unknown dtype \"F31\""},
    {ONE("\"f32\"", "[1]", "[0,4]"), 4, "unknown dtype \"f32\""},
    {ONE("1", "[1]", "[0,4]"), 4, "Expected a string"},
    {ONE("\"F32\"", "[-1]", "[0,4]"), 4, "Expected an unsigned integer"},
    {ONE("\"F32\"", "[1.0]", "[0,4]"), 4, "Expected \"]\""},
    {ONE("\"F32\"", "[1e0]", "[0,4]"), 4, "Expected \"]\""},
    {ONE("\"F32\"", "[01]", "[0,4]"), 4, "Expected an unsigned integer"},
    {ONE("\"F32\"", "[1,]", "[0,4]"), 4, "Expected an unsigned integer"},
    {ONE("\"F32\"", "1", "[0,4]"), 4, "Expected \"[\""},
    {ONE("\"F32\"", "[18446744073709551616]", "[0,4]"), 4, "Integer out of range"},
    {ONE("\"F32\"", "[18446744073709551615]", "[0,4]"), 4, "Integer out of range"},
    {ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "more than 8 dimensions"},
    {ONE("\"F32\"", "[4294967296,4294967296,4294967296]", "[0,4]"), 4, "product of its dimensions"},
    {ONE("\"F64\"", "[4611686018427387904]", "[0,4]"), 4, "product of its dimensions"},
    {ONE("\"F64\"", "[4294967296,4294967296,0]", "[0,0]"), 0, "product of its dimensions"},
    {ONE("\"F4\"", "[3]", "[0,2]"), 2, "do not fill whole bytes"},
    {ONE("\"F32\"", "[1]", "[0]"), 4, "Fewer than two data_offsets"},
    {ONE("\"F32\"", "[1]", "[0,4,4]"), 4, "More than two data_offsets"},
    {ONE("\"F32\"", "[1]", "[4,0]"), 4, "lie outside the file"},
    {ONE("\"F32\"", "[1]", "[0,8]"), 4, "lie outside the file"},
    {ONE("\"F32\"", "[1]", "[18446744073709551612,18446744073709551615]"), 4, "lie outside the file"},
    {ONE("\"F32\"", "[2]", "[0,4]"), 4, "do not agree with its shape"},
    {ONE("\"F32\"", "[1]", "[1,5]"), 5, "There is a gap"},
    {"{" F32("a", 0, 4) "," F32("b", 8, 12) "}", 12, "There is a gap"},
    {"{" F32("a", 0, 4) "," F32("b", 0, 4) "}", 4, "overlap"},
    {"{" F32("a", 0, 4) "," F32("b", 2, 6) "}", 6, "overlap"},
    {"{" F32("a", 0, 4) "}", 5, "cover 4 of 5 bytes"},
    {"{}", 1, "cover 0 of 1 bytes"},
    {"{" F32("a", 0, 4) "," F32("a", 4, 8) "}", 8, "Tensor \"a\" occurs twice"},
    {"{" F32("a", 0, 4) "," F32("\\u0061", 4, 8) "}", 8, "Tensor \"a\" occurs twice"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "Expected a string"},
    {"{\"__metadata__\":null}", 0, "Expected \"{\""},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "Expected a string"},
    {"{\"__metadata__\":{\"a\":\"1\",\"b\":\"\",\"a\":\"1\"}}", 0, "Metadata key \"a\" occurs twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "Duplicate __metadata__"},
};

static void
test_broken(void)
{
    size_t i, length;

    for (i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        unsigned char *bytes = make_file(&length, broken[i].json, broken[i].data);
        d2c_safetensors *file;
        d2c_error err = {0};

        CHECK(d2c_safetensors_parse(&file, "x.safetensors", bytes, length, &err) == D2C_BAD_MODEL);
        CHECK(file == NULL);
        CHECK(strncmp(err.message, "\"x.safetensors\" is not a valid safetensors file: ", 49) == 0);
        if (strstr(err.detail, broken[i].detail) == NULL) {
            fprintf(stderr, "%s: \"%s\", not \"%s\"\n", broken[i].json, err.detail, broken[i].detail);
            CHECK(!"the detail names the broken rule");
        }
        d2c_safetensors_close(file);
        free(bytes);
    }
}

static void
test_header_length(void)
{
    static const unsigned char over[] = {1, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char huge[] = {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'};
    static const unsigned char limit[] = {0x01, 0xe1, 0xf5, 0x05, 0, 0, 0, 0, '{', '}'}; /* 100,000,001 */
    d2c_safetensors *file;
    d2c_error err;

    CHECK(d2c_safetensors_parse(&file, "x", over, sizeof over, &err) == D2C_BAD_MODEL);
    CHECK(d2c_safetensors_parse(&file, "x", huge, sizeof huge, &err) == D2C_BAD_MODEL);
    CHECK(d2c_safetensors_parse(&file, "x", limit, sizeof limit, &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.detail, "100000001") != NULL && strstr(err.detail, "limit is 100000000") != NULL);
    CHECK(d2c_safetensors_open(&file, "/nonexistent/x.safetensors", &err) == D2C_NOT_FOUND);
    CHECK(d2c_safetensors_open(&file, "/", &err) == D2C_BAD_MODEL);
    CHECK(d2c_safetensors_open(&file, "/dev/null", &err) == D2C_BAD_MODEL);
}

/* Random damage to a valid header never reads outside it and never crashes. */
static void
test_damage(void)
{
    static const char json[] = "{\"__metadata__\":{\"k\":\"v\"}," F32("a", 0, 4) "," F32("b", 4, 8) "}";
    unsigned state = 1;
    size_t length, round;

    for (round = 0; round < 20000; round++) {
        unsigned char *bytes = make_file(&length, json, 8);
        d2c_safetensors *file;
        d2c_error err;

        state = state * 1664525u + 1013904223u;
        bytes[8 + (state >> 8) % (sizeof json - 1)] = (unsigned char)(state >> 24);
        if (d2c_safetensors_parse(&file, "x", bytes, length, &err) == D2C_OK)
            CHECK(d2c_safetensors_count(file) == 2);
        d2c_safetensors_close(file);
        free(bytes);
    }
}

static void
test_to_f32(void)
{
    static const uint16_t half[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x0001,
                                    0x03ff, 0x7bff, 0x7c00, 0xfc00, 0x0400};
    static const float expected[] = {0,     -0.0f,    1,         -2,      0x1p-24f, 0x1.ff8p-15f,
                                     65504, INFINITY, -INFINITY, 0x1p-14f};
    static const uint16_t brain[] = {0x3f80, 0xc000, 0x7f80, 0x0001};
    static const double wide[] = {1.5, -2, 1e300};
    d2c_st_tensor t = {.name = "t", .dtype = D2C_ST_F16, .count = 10, .data = half, .bytes = sizeof half};
    float out[10];
    d2c_error err;

    CHECK_OK(d2c_st_tensor_to_f32(out, &t, 10, &err), &err);
    CHECK(memcmp(out, expected, sizeof out) == 0);
    t = (d2c_st_tensor){.name = "t", .dtype = D2C_ST_BF16, .count = 4, .data = brain, .bytes = sizeof brain};
    CHECK_OK(d2c_st_tensor_to_f32(out, &t, 4, &err), &err);
    CHECK(out[0] == 1 && out[1] == -2 && isinf(out[2]) && out[3] == 0x1p-133f);
    t = (d2c_st_tensor){.name = "t", .dtype = D2C_ST_F64, .count = 3, .data = wide, .bytes = sizeof wide};
    CHECK_OK(d2c_st_tensor_to_f32(out, &t, 3, &err), &err);
    CHECK(out[0] == 1.5f && out[1] == -2 && isinf(out[2]));
    CHECK(d2c_st_tensor_to_f32(out, &t, 4, &err) == D2C_BAD_MODEL && strstr(err.detail, "has 3") != NULL);
    t.dtype = D2C_ST_I64;
    CHECK(d2c_st_tensor_to_f32(out, &t, 3, &err) == D2C_BAD_MODEL && strstr(err.message, "dtype") != NULL);
}

/* The tensors of golden/make_safetensors.py, in another order. */
static unsigned char pattern[16][32];

static d2c_st_item
item(const char *name, d2c_st_dtype dtype, int first, int ndim, int64_t d0, int64_t d1, int64_t d2)
{
    d2c_st_item it = {name, dtype, ndim, {d0, d1, d2}, pattern[first]};
    int i;

    for (i = 0; i < 32; i++)
        pattern[first][i] = (unsigned char)(dtype == D2C_ST_BOOL ? i % 2 : first + i);
    return it;
}

static int
every_dtype(d2c_st_item *items)
{
    int n = 0;

    items[n++] = item("flags", D2C_ST_BOOL, 0, 1, 5, 0, 0);
    items[n++] = item("empty", D2C_ST_F32, 15, 2, 0, 3, 0);
    items[n++] = item("zeta.f32", D2C_ST_F32, 1, 2, 2, 3, 0);
    items[n++] = item("alpha.f32", D2C_ST_F32, 2, 1, 5, 0, 0);
    items[n++] = item("scalar.f64", D2C_ST_F64, 3, 0, 0, 0, 0);
    items[n++] = item("i64", D2C_ST_I64, 4, 1, 2, 0, 0);
    items[n++] = item("u64", D2C_ST_U64, 5, 3, 1, 1, 2);
    items[n++] = item("u32", D2C_ST_U32, 6, 1, 3, 0, 0);
    items[n++] = item("i32", D2C_ST_I32, 7, 1, 3, 0, 0);
    items[n++] = item("bf16", D2C_ST_BF16, 8, 1, 4, 0, 0);
    items[n++] = item("f16", D2C_ST_F16, 9, 1, 3, 0, 0);
    items[n++] = item("u16", D2C_ST_U16, 10, 1, 2, 0, 0);
    items[n++] = item("i16", D2C_ST_I16, 11, 1, 2, 0, 0);
    items[n++] = item("i8", D2C_ST_I8, 12, 1, 3, 0, 0);
    items[n++] = item("u8", D2C_ST_U8, 13, 1, 3, 0, 0);
    items[n++] = item("odd \"name\"\n\t\xc3\xa9", D2C_ST_F32, 14, 1, 1, 0, 0);
    return n;
}

static char folder[64], path[128];

static void
test_same_bytes(void)
{
    static const d2c_st_pair metadata[] = {{"format", "pt"}};
    uint8_t *ours = NULL, *theirs = NULL;
    size_t our_length = 0, their_length = 0;
    d2c_st_item items[16];
    d2c_error err;
    int count = every_dtype(items);

    CHECK_OK(d2c_safetensors_write(path, items, count, metadata, 1, &err), &err);
    CHECK_OK(d2c_file_read(&ours, &our_length, path, 1 << 20, &err), &err);
    CHECK_OK(
        d2c_file_read(&theirs, &their_length, GOLDEN "/safetensors/every_dtype.safetensors", 1 << 20, &err),
        &err);
    CHECK(our_length == their_length);
    CHECK(ours != NULL && theirs != NULL && memcmp(ours, theirs, our_length) == 0);
    free(ours);
    free(theirs);
}

static void
test_round_trip(void)
{
    static const d2c_st_pair metadata[] = {{"b", "line\n\"quoted\" \\ \1"}, {"a", ""}};
    d2c_safetensors *file = NULL;
    d2c_st_item items[16];
    d2c_error err;
    int count = every_dtype(items), i;

    CHECK_OK(d2c_safetensors_write(path, items, count, metadata, 2, &err), &err);
    CHECK_OK(d2c_safetensors_open(&file, path, &err), &err);
    CHECK(file != NULL && d2c_safetensors_count(file) == count);
    for (i = 0; file != NULL && i < count; i++) {
        const d2c_st_tensor *t = d2c_safetensors_find(file, items[i].name);

        CHECK(t != NULL && t->dtype == items[i].dtype && t->ndim == items[i].ndim);
        CHECK(t != NULL && memcmp(t->dim, items[i].dim, (size_t)t->ndim * sizeof t->dim[0]) == 0);
        CHECK(t != NULL && memcmp(t->data, items[i].data, t->bytes) == 0);
    }
    CHECK(file != NULL && strcmp(d2c_safetensors_metadata(file, "b"), metadata[0].value) == 0);
    d2c_safetensors_close(file);
}

static void
test_bad_items(void)
{
    float data[2] = {0, 0};
    d2c_st_item twice[] = {
        {"a", D2C_ST_F32, 1, {1}, data}, {"b", D2C_ST_U8, 0, {0}, data}, {"a", D2C_ST_U8, 0, {0}, data}};
    d2c_st_item bad[] = {
        {"\xff", D2C_ST_F32, 1, {1}, data}, {"__metadata__", D2C_ST_F32, 1, {1}, data},
        {"a", D2C_ST_OTHER, 1, {1}, data},  {"a", D2C_ST_F32, 9, {1}, data},
        {"a", D2C_ST_F32, 1, {-1}, data},   {"a", D2C_ST_F32, 2, {INT64_MAX, INT64_MAX}, data}};
    d2c_st_pair pair = {"k", "\xff"};
    d2c_error err;
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(d2c_safetensors_write(path, &bad[i], 1, NULL, 0, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_safetensors_write(path, twice, 3, NULL, 0, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strcmp(err.message, "tensor \"a\" is given twice") == 0);
    CHECK(d2c_safetensors_write(path, twice, 1, &pair, 1, &err) == D2C_INVALID_ARGUMENT);
}

/* The file holds one F32 tensor "a" of the value. */
static int
holds(float value)
{
    d2c_safetensors *file = NULL;
    const d2c_st_tensor *t;
    float found = -1;
    d2c_error err;

    if (d2c_safetensors_open(&file, path, &err) != D2C_OK)
        return 0;
    t = d2c_safetensors_find(file, "a");
    if (t == NULL || d2c_st_tensor_to_f32(&found, t, 1, &err) != D2C_OK)
        found = -1;
    d2c_safetensors_close(file);
    return found == value;
}

static int
exists(const char *name)
{
    return access(name, F_OK) == 0;
}

/* A file that does not fit leaves the old one, and nothing beside it. */
static void
test_disk_full(void)
{
    static float large[1 << 16];
    float old = 7;
    d2c_st_item small = {"a", D2C_ST_F32, 1, {1}, &old}, big = {"a", D2C_ST_F32, 1, {1 << 16}, large};
    struct rlimit before, limit;
    char aside[160];
    d2c_error err;

    CHECK_OK(d2c_safetensors_write(path, &small, 1, NULL, 0, &err), &err);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1 << 16;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(d2c_safetensors_write(path, &big, 1, NULL, 0, &err) == D2C_IO);
    CHECK(strstr(err.message, "could not write file") != NULL);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    signal(SIGXFSZ, SIG_DFL);
    CHECK(holds(7));
    snprintf(aside, sizeof aside, "%s.tmp", path);
    CHECK(!exists(aside));
}

/* A folder in the file's place, no folder, and a writer that has not finished. */
static void
test_unwritable(void)
{
    float old = 7;
    d2c_st_item small = {"a", D2C_ST_F32, 1, {1}, &old};
    d2c_writer *writer;
    char taken[160];
    d2c_error err;

    snprintf(taken, sizeof taken, "%s/taken", folder);
    CHECK(mkdir(taken, 0700) == 0);
    CHECK(d2c_safetensors_write(taken, &small, 1, NULL, 0, &err) == D2C_IO);
    CHECK(rmdir(taken) == 0);
    snprintf(taken, sizeof taken, "%s/none/a", folder);
    CHECK(d2c_safetensors_write(taken, &small, 1, NULL, 0, &err) == D2C_NOT_FOUND);

    CHECK_OK(d2c_safetensors_write(path, &small, 1, NULL, 0, &err), &err);
    CHECK_OK(d2c_writer_open(&writer, path, &err), &err);
    old = 8;
    CHECK(d2c_safetensors_write(path, &small, 1, NULL, 0, &err) == D2C_IO);
    CHECK(strstr(err.hint, "Another process") != NULL);
    d2c_writer_abandon(writer);
    CHECK(holds(7));
    CHECK_OK(d2c_safetensors_write(path, &small, 1, NULL, 0, &err), &err);
    CHECK(holds(8));
}

/* What a killed process left behind, longer than the new file, does not matter. */
static void
test_left_behind(void)
{
    static const char rubbish[4096];
    float value = 9;
    d2c_st_item small = {"a", D2C_ST_F32, 1, {1}, &value};
    char aside[160];
    FILE *file;
    d2c_error err;

    snprintf(aside, sizeof aside, "%s.tmp", path);
    file = fopen(aside, "wb");
    CHECK(file != NULL && fwrite(rubbish, 1, sizeof rubbish, file) == sizeof rubbish && fclose(file) == 0);
    CHECK_OK(d2c_safetensors_write(path, &small, 1, NULL, 0, &err), &err);
    CHECK(holds(9));
    CHECK(!exists(aside));
}

int
main(void)
{
    snprintf(folder, sizeof folder, "/tmp/d2c-safetensors-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    RUN(test_truncated);
    RUN(test_valid);
    RUN(test_empty);
    RUN(test_broken);
    RUN(test_header_length);
    RUN(test_damage);
    RUN(test_to_f32);
    RUN(test_same_bytes);
    RUN(test_round_trip);
    RUN(test_bad_items);
    RUN(test_disk_full);
    RUN(test_unwritable);
    RUN(test_left_behind);
    unlink(path);
    rmdir(folder);
    return check_report();
}
