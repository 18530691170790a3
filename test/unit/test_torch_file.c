/* test_torch_file.c: files of torch.save against the values that torch had (golden/make_torch.py), and damaged ones. */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>

#include "base/file.h"
#include "base/zip.h"
#include "check.h"
#include "nn/pickle.h"
#include "nn/torch_file.h"
#include "nn/weights.h"

#define FOLDER GOLDEN "/torch/"

static const char *const good[] = {"flat",   "legacy",        "dtypes",     "dtypes_legacy",     "shared",
                                   "nested", "shared_legacy", "checkpoint", "checkpoint_legacy", "many"};
#define GOOD ((int)(sizeof good / sizeof good[0]))

static uint8_t *
read_golden(size_t *length, const char *name)
{
    uint8_t *bytes = NULL;
    char path[512];
    d2c_error err;

    snprintf(path, sizeof path, FOLDER "%s.pt", name);
    CHECK_OK(d2c_file_read(&bytes, length, path, 1 << 20, &err), &err);
    return bytes;
}

/* ---- whole files ------------------------------------------------------------------------------------------------------ */

static void
check_same(const d2c_st_tensor *ours, const d2c_st_tensor *theirs, const char *file)
{
    int same = ours != NULL && ours->dtype == theirs->dtype && ours->ndim == theirs->ndim &&
               memcmp(ours->dim, theirs->dim, sizeof ours->dim) == 0 && ours->bytes == theirs->bytes &&
               (ours->bytes == 0 || memcmp(ours->data, theirs->data, ours->bytes) == 0);

    if (!same)
        fprintf(stderr, "tensor \"%s\" of %s differs\n", theirs->name, file);
    CHECK(same);
}

static void
check_golden(const char *name, int unread)
{
    char path[512];
    d2c_weights *weights = NULL;
    d2c_safetensors *expected = NULL;
    d2c_error err;
    int i;

    snprintf(path, sizeof path, FOLDER "%s.pt", name);
    CHECK_OK(d2c_weights_open(&weights, path, &err), &err);
    snprintf(path, sizeof path, FOLDER "%s.expected.safetensors", name);
    CHECK_OK(d2c_safetensors_open(&expected, path, &err), &err);
    if (weights == NULL || expected == NULL)
        return;
    CHECK(d2c_weights_count(weights) == d2c_safetensors_count(expected) + unread);
    for (i = 0; i < d2c_safetensors_count(expected); i++) {
        const d2c_st_tensor *theirs = d2c_safetensors_at(expected, i);

        check_same(d2c_weights_find(weights, theirs->name), theirs, name);
    }
    CHECK(d2c_weights_metadata(weights, "format") == NULL);
    d2c_safetensors_close(expected);
    d2c_weights_close(weights);
}

static void
every_tensor_is_as_torch_had_it(void)
{
    int i;

    for (i = 0; i < GOOD; i++)
        check_golden(good[i], strncmp(good[i], "dtypes", 6) == 0);
}

static void
a_dtype_without_use_is_listed_without_data(void)
{
    d2c_weights *weights;
    const d2c_st_tensor *t;
    d2c_error err;
    float out[2];

    CHECK_OK(d2c_weights_open(&weights, FOLDER "dtypes.pt", &err), &err);
    t = d2c_weights_find(weights, "complex");
    CHECK(t != NULL && t->dtype == D2C_ST_OTHER && t->count == 2 && t->data == NULL && t->bytes == 0);
    CHECK(d2c_st_tensor_to_f32(out, t, 2, &err) == D2C_BAD_MODEL && strstr(err.message, "complex") != NULL);
    CHECK(d2c_weights_find(weights, "note") == NULL);
    d2c_weights_close(weights);
}

static int
lies_in(const d2c_st_tensor *t, const uint8_t *bytes, size_t length)
{
    const uint8_t *data = t->data;

    return data >= bytes && data + t->bytes <= bytes + length;
}

/* Only what is not in C order is copied. */
static void
tensors_in_order_are_not_copied(void)
{
    static const char *const copied[] = {"transposed", "slice",     "permuted",
                                         "stepped",    "broadcast", "channels_last"};
    d2c_torch_file *file;
    d2c_error err;
    size_t length, k;
    uint8_t *bytes = read_golden(&length, "shared");
    int i, copies = 0;

    CHECK_OK(d2c_torch_parse(&file, "shared", bytes, length, &err), &err);
    for (i = 0; i < d2c_torch_count(file); i++) {
        const d2c_st_tensor *t = d2c_torch_at(file, i);
        int wanted = 0;

        for (k = 0; k < sizeof copied / sizeof copied[0]; k++)
            wanted |= strcmp(t->name, copied[k]) == 0;
        CHECK(lies_in(t, bytes, length) == !wanted);
        CHECK(wanted || (uintptr_t)t->data % 4 == (uintptr_t)bytes % 4);
        copies += wanted;
    }
    CHECK(copies == 6);
    d2c_torch_close(file);
    free(bytes);
}

static void
check_refused(const char *name, d2c_status status, const char *message)
{
    char path[512];
    d2c_weights *weights;
    d2c_error err;

    snprintf(path, sizeof path, FOLDER "%s.pt", name);
    CHECK(d2c_weights_open(&weights, path, &err) == status && weights == NULL);
    if (strstr(err.message, message) == NULL && strstr(err.detail, message) == NULL)
        fprintf(stderr, "%s: %s (%s)\n", name, err.message, err.detail);
    CHECK(strstr(err.message, message) != NULL || strstr(err.detail, message) != NULL);
    CHECK(strstr(err.message, name) != NULL);
}

static void
what_is_no_state_dict_is_refused(void)
{
    check_refused("nothing", D2C_BAD_MODEL, "no tensors by name");
    check_refused("bare", D2C_BAD_MODEL, "no tensors by name");
    check_refused("protocol4", D2C_UNSUPPORTED, "pickle protocol 4");
    check_refused("script", D2C_UNSUPPORTED, "TorchScript");
    check_refused("huge", D2C_BAD_MODEL, "larger than the file");
    check_refused("twice", D2C_BAD_MODEL, "\"a.b\" occurs twice");
    check_refused("ring", D2C_BAD_MODEL, "nested too deeply");
    check_refused("tree", D2C_BAD_MODEL, "repeat each other too often");
    check_refused("leaves", D2C_BAD_MODEL, "repeat each other too often");
}

/* ---- damaged files ---------------------------------------------------------------------------------------------------- */

/* Parses a copy of exactly that length (the address sanitizer watches its end). */
static d2c_status
parse_copy(const uint8_t *bytes, size_t length, d2c_error *err)
{
    uint8_t *copy = malloc(length + (length == 0));
    d2c_weights *weights;
    d2c_status status;

    memcpy(copy, bytes, length);
    status = d2c_weights_parse(&weights, "copy", copy, length, err);
    CHECK((status == D2C_OK) == (weights != NULL));
    CHECK(status == D2C_OK || err->message[0] != '\0');
    d2c_weights_close(weights);
    free(copy);
    return status;
}

static void
every_truncation_is_refused(void)
{
    d2c_error err;
    int i;

    for (i = 0; i < GOOD; i++) {
        size_t length, cut, step;
        uint8_t *bytes = read_golden(&length, good[i]);

        step = length < 16384 ? 1 : 997;
        CHECK_OK(parse_copy(bytes, length, &err), &err);
        for (cut = 0; cut < length; cut += step) {
            d2c_status status = parse_copy(bytes, cut, &err);

            CHECK(status == D2C_BAD_MODEL || status == D2C_UNSUPPORTED);
        }
        free(bytes);
    }
}

/* A changed byte may be data; whatever it is, the reader stays inside the file. */
static void
changed_bytes_do_no_harm(void)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    d2c_error err;
    int i, k;

    for (i = 0; i < GOOD - 1; i++) {
        size_t length, at;
        uint8_t *bytes = read_golden(&length, good[i]);

        for (at = 0; at < length; at++)
            for (k = 0; k < 3; k++) {
                bytes[at] ^= masks[k];
                parse_copy(bytes, length, &err);
                bytes[at] ^= masks[k];
            }
        free(bytes);
    }
}

/* Where the text is in the bytes. */
static uint8_t *
find(uint8_t *bytes, size_t length, const char *text)
{
    uint8_t *at = memmem(bytes, length, text, strlen(text));

    CHECK(at != NULL);
    return at;
}

static void
check_parse(const uint8_t *bytes, size_t length, d2c_status wanted, const char *text)
{
    d2c_error err = {.message = ""};
    d2c_status status = parse_copy(bytes, length, &err);

    if (status != wanted || (strstr(err.message, text) == NULL && strstr(err.detail, text) == NULL))
        fprintf(stderr, "wanted \"%s\", got: %s (%s)\n", text, err.message, err.detail);
    CHECK(status == wanted && (strstr(err.message, text) != NULL || strstr(err.detail, text) != NULL));
}

static void
big_endian_files_are_refused(void)
{
    size_t length;
    uint8_t *bytes = read_golden(&length, "flat");

    memcpy(find(bytes, length, "little"), "big-en", 6);
    check_parse(bytes, length, D2C_UNSUPPORTED, "big-endian");
    free(bytes);
    bytes = read_golden(&length, "legacy");
    *(uint8_t *)memchr(find(bytes, length, "little_endian"), 0x88, 20) = 0x89;
    check_parse(bytes, length, D2C_UNSUPPORTED, "big-endian");
    free(bytes);
}

static void
wrong_zip_records_are_told(void)
{
    size_t length;
    uint8_t *bytes = read_golden(&length, "flat"), *entry, *at;

    *find(bytes, length, "OrderedDict") ^= 0x20;
    check_parse(bytes, length, D2C_BAD_MODEL, "wrong checksum");
    *find(bytes, length, "orderedDict") ^= 0x20;
    entry = find(bytes, length, "PK\1\2");
    entry[10] = 8;
    check_parse(bytes, length, D2C_BAD_MODEL, "compressed");
    entry[10] = 0;
    entry[8] |= 1;
    check_parse(bytes, length, D2C_BAD_MODEL, "encrypted");
    entry[8] &= 0xfe;
    entry[42] ^= 4;
    check_parse(bytes, length, D2C_BAD_MODEL, "not where the directory says");
    entry[42] ^= 4;
    entry[45] = 0x7f;
    check_parse(bytes, length, D2C_BAD_MODEL, "outside the file");
    entry[45] = 0;
    bytes[30] ^= 1; /* the name in the first entry's own header */
    check_parse(bytes, length, D2C_BAD_MODEL, "another name");
    bytes[30] ^= 1;
    at = find(bytes, length, "PK\6\6");
    at[32]++;
    check_parse(bytes, length, D2C_BAD_MODEL, "split");
    at[24]++;
    check_parse(bytes, length, D2C_BAD_MODEL, "fewer entries");
    free(bytes);
}

static void
check_content(const char *bytes, size_t length, const char *text)
{
    uint8_t *whole = calloc(1, 600);

    memcpy(whole, bytes, length);
    check_parse(whole, 600, D2C_UNSUPPORTED, text);
    free(whole);
}

static void
other_files_are_called_what_they_are(void)
{
    char tar[300] = {0};
    d2c_error err;

    memcpy(tar + 257, "ustar", 5);
    check_content(tar, sizeof tar, "tar");
    check_content("\x1f\x8b\x08", 3, "gzip");
    check_content("version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS");
    check_content("\x80\2}q\0.", 6, "torch.save did not write");
    check_content("\x80\4\x95", 3, "torch.save did not write");
    check_content("\x89HDF\r\n", 6, "HDF5");
    CHECK(parse_copy((const uint8_t *)"PK\5\6", 4, &err) == D2C_BAD_MODEL);
    CHECK(parse_copy((const uint8_t *)"", 0, &err) == D2C_BAD_MODEL);
}

/* ---- pickles by hand -------------------------------------------------------------------------------------------------- */

static void
check_pickle(const char *bytes, size_t length, d2c_status wanted, const char *text)
{
    char *copy = malloc(length + 1);
    d2c_pickle *pickle;
    d2c_error err = {.message = ""};
    d2c_status status;
    size_t used = 0;

    memcpy(copy, bytes, length);
    status = d2c_pickle_read(&pickle, &used, copy, length, &err);
    if (status != wanted ||
        (text != NULL && strstr(err.detail, text) == NULL && strstr(err.message, text) == NULL))
        fprintf(stderr, "wanted \"%s\", got: %s (%s)\n", text, err.message, err.detail);
    CHECK(status == wanted && (pickle != NULL) == (status == D2C_OK));
    CHECK(text == NULL || strstr(err.detail, text) != NULL || strstr(err.message, text) != NULL);
    d2c_pickle_free(pickle);
    free(copy);
}

#define BAD(pickle, text) check_pickle(pickle, sizeof pickle - 1, D2C_BAD_MODEL, text)
#define FINE(pickle) check_pickle(pickle, sizeof pickle - 1, D2C_OK, NULL)

static void
misused_opcodes_are_told(void)
{
    BAD("", "end of the file");
    BAD("\x80\2", "end of the file");
    BAD("\x80\2.", "other than one value");
    BAD("\x80\2NN.", "other than one value");
    BAD("\x80\2(N.", "other than one value");
    BAD("\x80\2h\0.", "never set");
    BAD("\x80\2j\xff\xff\xff\xff.", "never set");
    BAD("\x80\2Nr\xff\xff\xff\xff.", "Too large a memo");
    BAD("\x80\2q\0.", "Nothing on the stack");
    BAD("\x80\2N(q\0.", "Nothing on the stack");
    BAD("\x80\2t.", "missing mark");
    BAD("\x80\2u.", "missing mark");
    BAD("\x80\2N\x86.", "Too few values");
    BAD("\x80\2N(N\x86.", "Too few values");
    BAD("\x80\2}(Nu.", "key without a value");
    BAD("\x80\2](NNu.", "no container");
    BAD("\x80\2}(Ne.", "no container");
    BAD("\x80\2}NNN", "end of the file");
    BAD("\x80\2N(e.", "no container");
    BAD("\x80\2s.", "Nothing on the stack");
    BAD("\x80\2NNs.", "Nothing on the stack");
    BAD("\x80\2a.", "Nothing on the stack");
    BAD("\x80\2R.", "Nothing on the stack");
    BAD("\x80\2N)R.", "no class or function");
    BAD("\x80\2ca\nb\nNR.", "without arguments");
    BAD("\x80\2N}b.", "no object");
    BAD("\x80\2}b.", "Nothing on the stack");
    BAD("\x80\2Q.", "Nothing on the stack");
    BAD("\x80\2ca\nb", "without an end");
    BAD("\x80\2X\xff\xff\xff\xff", "Too long a text");
    BAD("\x80\2X\xff\0\0\0ab", "end of the file");
    BAD("\x80\2\x8a\xff", "end of the file");
    BAD("\x80\2G1234567", "end of the file");
    check_pickle("\x80\3N.", 4, D2C_UNSUPPORTED, "protocol 3");
    check_pickle("\x80\2cos\nsystem\n(S'id'\ntR.", 23, D2C_UNSUPPORTED, "opcode 0x53");
    check_pickle("\x80\2\x93", 3, D2C_UNSUPPORTED, "opcode 0x93");
}

static void
honest_pickles_are_read(void)
{
    FINE("\x80\2N.");
    FINE("\x80\2cos\nsystem\nX\2\0\0\0id\x85R."); /* a call that nobody makes */
    FINE("\x80\2ca\nb\n)\x81}b.");
    FINE("\x80\2ccollections\nOrderedDict\n)R(X\1\0\0\0kK\1u}b.");
    FINE("\x80\2X\2\0\0\0\xff\xfe."); /* no UTF-8 */
    FINE("\x80\2]q\0h\0a.");          /* a list in itself */
}

static void
numbers_are_what_python_wrote(void)
{
    static const char bytes[] = "\x80\2(K\xffM\xff\xffJ\xfe\xff\xff\xff\x8a\0\x8a\1\xff\x8a\2\x00\x80"
                                "\x8a\x08\0\0\0\0\0\0\0\x80\x8a\x09\0\0\0\0\0\0\0\0\1t.";
    static const int64_t wanted[] = {255, 65535, -2, 0, -1, -32768, INT64_MIN};
    const d2c_pickle_value *tuple;
    d2c_pickle *pickle;
    d2c_error err;
    size_t used, i;

    CHECK_OK(d2c_pickle_read(&pickle, &used, bytes, sizeof bytes - 1, &err), &err);
    CHECK(used == sizeof bytes - 1);
    tuple = d2c_pickle_root(pickle);
    CHECK(tuple->kind == D2C_PICKLE_TUPLE && tuple->count == 8);
    for (i = 0; i < 7; i++)
        CHECK(tuple->item[i]->kind == D2C_PICKLE_INTEGER && tuple->item[i]->integer == wanted[i]);
    CHECK(tuple->item[7]->kind == D2C_PICKLE_OTHER);
    d2c_pickle_free(pickle);
}

static void
endless_nesting_is_refused(void)
{
    char *marks = malloc(5000);

    memset(marks, '(', 5000);
    check_pickle(marks, 5000, D2C_BAD_MODEL, "Too deep a nesting");
    free(marks);
}

/* ---- tensors by hand -------------------------------------------------------------------------------------------------- */

typedef struct text {
    uint8_t bytes[4096];
    size_t length;
} text;

static void
put(text *t, const char *bytes, size_t length)
{
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
}
#define PUT(t, literal) put(t, literal, sizeof literal - 1)

/* A file of the older layout: one tensor "w" of those (offset, size, stride) over a storage of 4 floats. */
static void
make_legacy(text *t, const char *view, size_t view_length, const char *persistent_view,
            size_t persistent_length)
{
    t->length = 0;
    PUT(t, "\x80\2\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}X\x0d\0\0\0little_endian\x88s.");
    PUT(t, "\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\n"
           "X\1\0\0\0kX\3\0\0\0cpuK\4");
    put(t, persistent_view, persistent_length);
    PUT(t, "tQ");
    put(t, view, view_length);
    PUT(t, "\x89}tRs.\x80\2]X\1\0\0\0ka.\4\0\0\0\0\0\0\0");
    PUT(t, "\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40"); /* 0 1 2 3 */
}

#define VIEW(view, status, words)                                                                            \
    do {                                                                                                     \
        make_legacy(&t, view, sizeof view - 1, "N", 1);                                                      \
        check_parse(t.bytes, t.length, status, words);                                                       \
    } while (0)
#define MAX63 "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"

static void
views_outside_the_storage_are_refused(void)
{
    text t;

    VIEW("K\0K\2K\2\x86K\2K\1\x86", D2C_OK, "");
    VIEW("K\4K\0\x85K\1\x85", D2C_OK, "");
    VIEW("K\4))", D2C_BAD_MODEL, "outside its storage");
    VIEW("K\1K\2K\2\x86K\2K\1\x86", D2C_BAD_MODEL, "outside its storage");
    VIEW("K\0K\2K\2\x86K\3K\1\x86", D2C_BAD_MODEL, "outside its storage");
    VIEW("K\0K\3\x85" MAX63 "\x85", D2C_BAD_MODEL, "outside its storage");
    VIEW(MAX63 "K\2\x85K\1\x85", D2C_BAD_MODEL, "outside its storage");
    VIEW("K\0K\2K\2\x86" MAX63 MAX63 "\x86", D2C_BAD_MODEL, "outside its storage");
    VIEW("K\0K\1K\2\x86" MAX63 "K\2\x86", D2C_OK, ""); /* the stride of one row leads nowhere */
    VIEW("K\0" MAX63 MAX63 "\x86K\0K\0\x86", D2C_BAD_MODEL, "too large");
    VIEW("K\0" MAX63 "\x85K\0\x85", D2C_BAD_MODEL, "larger than the file");
    VIEW("J\xff\xff\xff\xffK\2\x85K\1\x85", D2C_BAD_MODEL, "no shape");
    VIEW("K\0J\xff\xff\xff\xff\x85K\1\x85", D2C_BAD_MODEL, "no shape");
    VIEW("K\0K\2\x85J\xff\xff\xff\xff\x85", D2C_BAD_MODEL, "no shape");
    VIEW("K\0K\2K\2\x86K\1\x85", D2C_BAD_MODEL, "no shape");
    VIEW("K\0NK\1\x85", D2C_BAD_MODEL, "no shape");
    VIEW("K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", D2C_BAD_MODEL, "8 dimensions");
    VIEW("K\0", D2C_BAD_MODEL, "no shape");
}

static void
views_of_views_add_up(void)
{
    static const char part[] = "X\1\0\0\0vK\1K\2\x87", outside[] = "X\1\0\0\0vK\3K\2\x87";
    static const char both[] = "K\0K\2\x85K\1\x85", three[] = "K\0K\3\x85K\1\x85";
    d2c_weights *weights;
    d2c_error err;
    float out[2];
    text t;

    make_legacy(&t, both, sizeof both - 1, part, sizeof part - 1);
    CHECK_OK(d2c_weights_parse(&weights, "view", t.bytes, t.length, &err), &err);
    CHECK_OK(d2c_st_tensor_to_f32(out, d2c_weights_find(weights, "w"), 2, &err), &err);
    CHECK(out[0] == 1 && out[1] == 2);
    d2c_weights_close(weights);
    make_legacy(&t, three, sizeof three - 1, part, sizeof part - 1);
    check_parse(t.bytes, t.length, D2C_BAD_MODEL, "outside its storage");
    make_legacy(&t, both, sizeof both - 1, outside, sizeof outside - 1);
    check_parse(t.bytes, t.length, D2C_BAD_MODEL, "storages does not agree");
}

static void
storages_that_do_not_agree_are_refused(void)
{
    static const char view[] = "K\0K\2\x85K\1\x85";
    text t;

    make_legacy(&t, view, sizeof view - 1, "N", 1);
    t.bytes[t.length - 24] = 3;
    check_parse(t.bytes, t.length, D2C_BAD_MODEL, "another size");
    t.bytes[t.length - 24] = 4;
    t.bytes[t.length - 27] = 'j'; /* the key in the list */
    check_parse(t.bytes, t.length, D2C_BAD_MODEL, "does not agree");
    t.bytes[t.length - 27] = 'k';
    check_parse(t.bytes, t.length - 1, D2C_BAD_MODEL, "ends within its storages");
    check_parse(t.bytes, t.length - 17, D2C_BAD_MODEL, "ends before its storages");
    memcpy(find(t.bytes, t.length, "FloatStorage"), "FloatStorag3", 12);
    check_parse(t.bytes, t.length, D2C_UNSUPPORTED, "unknown class");
}

int
main(void)
{
    RUN(every_tensor_is_as_torch_had_it);
    RUN(a_dtype_without_use_is_listed_without_data);
    RUN(tensors_in_order_are_not_copied);
    RUN(what_is_no_state_dict_is_refused);
    RUN(every_truncation_is_refused);
    RUN(changed_bytes_do_no_harm);
    RUN(big_endian_files_are_refused);
    RUN(wrong_zip_records_are_told);
    RUN(other_files_are_called_what_they_are);
    RUN(misused_opcodes_are_told);
    RUN(honest_pickles_are_read);
    RUN(numbers_are_what_python_wrote);
    RUN(endless_nesting_is_refused);
    RUN(views_outside_the_storage_are_refused);
    RUN(views_of_views_add_up);
    RUN(storages_that_do_not_agree_are_refused);
    return check_report();
}
