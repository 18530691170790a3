/* torch_file.c: tensors out of a pickle and the storages beside it (torch_file.h). */
#include "nn/torch_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/zip.h"
#include "nn/pickle.h"

#define MAX_PICKLE ((size_t)1 << 28)
#define MAX_DEPTH 32
#define MAX_NAME 512

/* The pickled number that the older layout begins with. */
static const unsigned char legacy_magic[15] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                               0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
#define LEGACY_PROTOCOL 1001

struct d2c_torch_file {
    d2c_st_tensor *tensor;
    int count, capacity;
    void **copy; /* [copies] of tensors that were not in C order */
    int copies, copy_capacity;
};

typedef struct element_type {
    const char *name; /* of the storage's class, in the module torch */
    d2c_st_dtype dtype;
    int size; /* bytes of an element */
} element_type;

/* A flat run of elements that tensors are views of. */
typedef struct storage {
    const char *key;
    size_t key_length;
    const element_type *type;
    int64_t start, elements; /* a part of what is stored under the key */
    int64_t stored;          /* elements of the whole */
    const unsigned char *data;
} storage;

/* A file being read: where its storages are, and the path to the value at hand. */
typedef struct reading {
    d2c_torch_file *file;
    const unsigned char *bytes;
    size_t length;
    d2c_zip zip; /* the newer layout's */
    const char *folder;
    size_t folder_length;
    storage *legacy; /* [storages] the older layout's, sorted by key; NULL in the newer */
    int storages;
    size_t copied; /* bytes of all copies */
    size_t visits; /* values that may still be looked at */
    char path[MAX_NAME];
    d2c_error *err;
} reading;

static d2c_status
fail(const reading *r, const char *problem)
{
    return d2c_fail(r->err, D2C_BAD_MODEL, "%s", problem);
}

static d2c_status
fail_tensor(const reading *r, const char *problem)
{
    d2c_fail(r->err, D2C_BAD_MODEL, "invalid tensor \"%s\"", r->path);
    d2c_detail(r->err, "%s", problem);
    return D2C_BAD_MODEL;
}

static d2c_status
no_memory(const reading *r)
{
    return d2c_fail(r->err, D2C_NO_MEMORY, "out of memory");
}

/* ---- storages -------------------------------------------------------------------------------------------------------- */

/* The last type is that of every class that is not listed. */
static const element_type *
find_type(const d2c_pickle_value *name)
{
    static const element_type types[] = {{"torch\nFloatStorage", D2C_ST_F32, 4},
                                         {"torch\nHalfStorage", D2C_ST_F16, 2},
                                         {"torch\nBFloat16Storage", D2C_ST_BF16, 2},
                                         {"torch\nDoubleStorage", D2C_ST_F64, 8},
                                         {"torch\nLongStorage", D2C_ST_I64, 8},
                                         {"torch\nIntStorage", D2C_ST_I32, 4},
                                         {"torch\nShortStorage", D2C_ST_I16, 2},
                                         {"torch\nCharStorage", D2C_ST_I8, 1},
                                         {"torch\nByteStorage", D2C_ST_U8, 1},
                                         {"torch\nBoolStorage", D2C_ST_BOOL, 1},
                                         {"torch\nComplexFloatStorage", D2C_ST_OTHER, 8},
                                         {"torch\nComplexDoubleStorage", D2C_ST_OTHER, 16},
                                         {"torch\nQInt8Storage", D2C_ST_OTHER, 1},
                                         {"torch\nQUInt8Storage", D2C_ST_OTHER, 1},
                                         {"torch\nQInt32Storage", D2C_ST_OTHER, 4},
                                         {"torch.storage\nUntypedStorage", D2C_ST_OTHER, 1},
                                         {NULL, D2C_ST_OTHER, 0}};
    const element_type *type = types;

    while (type->name != NULL && !d2c_pickle_is_name(name, type->name))
        type++;
    return type;
}

/* An integer that is no less than 0. */
static int
get_size(int64_t *size, const d2c_pickle_value *value)
{
    if (value->kind != D2C_PICKLE_INTEGER || value->integer < 0)
        return 0;
    *size = value->integer;
    return 1;
}

/* A view of a storage within its root: (key, offset, elements); the older layout's, usually None. */
static int
take_view(storage *s, const d2c_pickle_value *view)
{
    if (view->kind == D2C_PICKLE_NONE)
        return 1;
    return view->kind == D2C_PICKLE_TUPLE && view->count == 3 && get_size(&s->start, view->item[1]) &&
           get_size(&s->elements, view->item[2]) && s->start <= s->stored &&
           s->elements <= s->stored - s->start;
}

/* Reads ('storage', class, key, device, elements[, view]); false when it is something else. */
static int
describe_storage(storage *s, const d2c_pickle_value *persistent)
{
    const d2c_pickle_value *tuple;

    memset(s, 0, sizeof *s);
    if (persistent->kind != D2C_PICKLE_PERSISTENT)
        return 0;
    tuple = persistent->item[0];
    if (tuple->kind != D2C_PICKLE_TUPLE || tuple->count < 5 || !d2c_pickle_is_text(tuple->item[0], "storage"))
        return 0;
    s->type = find_type(tuple->item[1]);
    if (tuple->item[2]->kind != D2C_PICKLE_TEXT || !get_size(&s->stored, tuple->item[4]))
        return 0;
    s->key = tuple->item[2]->text.bytes;
    s->key_length = tuple->item[2]->text.length;
    s->elements = s->stored;
    return tuple->count < 6 || take_view(s, tuple->item[5]);
}

static int
storage_bytes(size_t *bytes, const storage *s)
{
    return d2c_size_mul(bytes, (size_t)s->stored, (size_t)s->type->size) == 0;
}

static d2c_status
find_in_zip(storage *s, const reading *r)
{
    const d2c_zip_entry *entry;
    char key[64];
    size_t bytes;
    int length = snprintf(key, sizeof key, "data/%.*s", s->key_length < 32 ? (int)s->key_length : 32, s->key);

    entry = d2c_zip_find(&r->zip, r->folder, r->folder_length, key, (size_t)length);
    if (entry == NULL || s->key_length > 32)
        return fail_tensor(r, "Its storage is missing.");
    if (!storage_bytes(&bytes, s) || bytes != entry->size)
        return fail_tensor(r, "Its storage has another size than the file says.");
    return d2c_zip_data(&s->data, &r->zip, entry, r->err);
}

static int
compare_storages(const void *a, const void *b)
{
    const storage *x = a, *y = b;
    size_t shorter = x->key_length < y->key_length ? x->key_length : y->key_length;
    int order = memcmp(x->key, y->key, shorter);

    return order != 0 ? order : x->key_length < y->key_length ? -1 : x->key_length > y->key_length;
}

static storage *
find_legacy(const reading *r, const storage *key)
{
    return bsearch(key, r->legacy, (size_t)r->storages, sizeof r->legacy[0], compare_storages);
}

/* Sets where the storage's root begins. */
static d2c_status
find_storage(storage *s, const reading *r)
{
    const storage *root;

    if (r->legacy == NULL)
        return find_in_zip(s, r);
    root = find_legacy(r, s);
    if (root == NULL || root->data == NULL)
        return fail_tensor(r, "Its storage is missing.");
    if (root->type != s->type || root->stored != s->stored)
        return fail_tensor(r, "Its storage has another size than the file says.");
    s->data = root->data;
    return D2C_OK;
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

/* Sizes and strides, and that every element lies in the storage. */
typedef struct view {
    int ndim;
    int64_t offset, dim[D2C_SAFETENSORS_MAX_DIMS], stride[D2C_SAFETENSORS_MAX_DIMS];
    int64_t count;
} view;

/* Whether the last element, and so every one, is in the storage; sums that overflow are not. */
static int
is_inside(const view *v, const storage *s)
{
    int64_t last = v->offset, step;
    int i;

    for (i = 0; i < v->ndim; i++)
        if (__builtin_mul_overflow(v->dim[i] - 1, v->stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return 0;
    return last < s->elements;
}

static d2c_status
read_view(view *v, const reading *r, const d2c_pickle_value *arguments)
{
    const d2c_pickle_value *size = arguments->item[2], *stride = arguments->item[3];
    size_t count = 1;
    int i;

    memset(v, 0, sizeof *v);
    if (size->kind != D2C_PICKLE_TUPLE || stride->kind != D2C_PICKLE_TUPLE || size->count != stride->count ||
        !get_size(&v->offset, arguments->item[1]))
        return fail_tensor(r, "Its shape is no shape.");
    if (size->count > D2C_SAFETENSORS_MAX_DIMS)
        return fail_tensor(r, "It has more than 8 dimensions.");
    v->ndim = (int)size->count;
    for (i = 0; i < v->ndim; i++) {
        if (!get_size(&v->dim[i], size->item[i]) || !get_size(&v->stride[i], stride->item[i]))
            return fail_tensor(r, "Its shape is no shape.");
        if (d2c_size_mul(&count, count, (size_t)v->dim[i]) != 0 || count > INT64_MAX)
            return fail_tensor(r, "The product of its dimensions is too large.");
        if (v->dim[i] == 1)
            v->stride[i] = 0; /* it may be anything, and leads nowhere */
    }
    v->count = (int64_t)count;
    return D2C_OK;
}

static int
is_contiguous(const view *v)
{
    int64_t stride = 1;
    int i;

    for (i = v->ndim - 1; i >= 0; i--) {
        if (v->dim[i] != 1 && v->stride[i] != stride)
            return 0;
        stride *= v->dim[i];
    }
    return 1;
}

/* Makes room for one more entry of an array. */
static d2c_status
grow(const reading *r, void *array, int count, int *capacity, size_t size)
{
    int wanted = *capacity > 0 ? 2 * *capacity : 16;
    void **old = array, *grown;

    if (count < *capacity)
        return D2C_OK;
    grown = realloc(*old, (size_t)wanted * size);
    if (grown == NULL)
        return no_memory(r);
    *old = grown;
    *capacity = wanted;
    return D2C_OK;
}

/* out: the view's elements in C order. */
static void
copy_view(unsigned char *out, const unsigned char *data, const view *v, size_t size)
{
    int64_t at[D2C_SAFETENSORS_MAX_DIMS] = {0}, from = 0, i;
    int d;

    for (i = 0; i < v->count; i++) {
        memcpy(out + (size_t)i * size, data + (size_t)from * size, size);
        for (d = v->ndim - 1; d >= 0; d--) {
            from += v->stride[d];
            if (++at[d] < v->dim[d])
                break;
            from -= at[d] * v->stride[d];
            at[d] = 0;
        }
    }
}

/* A view that repeats elements may be larger than the file: all copies together may not. */
static d2c_status
make_copy(const unsigned char **copy, reading *r, const unsigned char *data, const view *v, size_t size)
{
    d2c_torch_file *f = r->file;
    size_t bytes;
    void *made;

    if (d2c_size_mul(&bytes, (size_t)v->count, size) != 0 || bytes > r->length - r->copied)
        return fail_tensor(r, "It repeats its storage so often that it is larger than the file.");
    D2C_TRY(grow(r, &f->copy, f->copies, &f->copy_capacity, sizeof f->copy[0]));
    made = malloc(bytes);
    if (made == NULL)
        return no_memory(r);
    copy_view(made, data, v, size);
    f->copy[f->copies++] = made;
    r->copied += bytes;
    *copy = made;
    return D2C_OK;
}

/* Where the view's elements lie in C order. */
static d2c_status
place(const unsigned char **data, reading *r, const storage *s, const view *v)
{
    size_t size = (size_t)s->type->size;

    if (v->count > 0 && !is_inside(v, s))
        return fail_tensor(r, "It lies outside its storage.");
    *data = s->data;
    if (v->count == 0)
        return D2C_OK;
    *data += ((size_t)s->start + (size_t)v->offset) * size;
    return is_contiguous(v) ? D2C_OK : make_copy(data, r, *data, v, size);
}

static d2c_status
add_tensor(reading *r, const view *v, d2c_st_dtype dtype, const unsigned char *data, size_t size)
{
    d2c_torch_file *f = r->file;
    d2c_st_tensor *t;
    char *name;

    D2C_TRY(grow(r, &f->tensor, f->count, &f->capacity, sizeof f->tensor[0]));
    name = strdup(r->path);
    if (name == NULL)
        return no_memory(r);
    t = &f->tensor[f->count++];
    *t = (d2c_st_tensor){.name = name, .dtype = dtype, .ndim = v->ndim, .count = v->count, .data = data};
    memcpy(t->dim, v->dim, sizeof t->dim);
    if (data != NULL)
        t->bytes = (size_t)v->count * size;
    return D2C_OK;
}

/* Adds the tensor of the arguments (storage, offset, size, stride, ...). */
static d2c_status
read_tensor(reading *r, const d2c_pickle_value *arguments, int has_other_dtype)
{
    const unsigned char *data = NULL;
    storage s;
    view v;

    if (arguments->count < 4 || !describe_storage(&s, arguments->item[0]))
        return fail_tensor(r, "Its storage is of no known kind.");
    D2C_TRY(read_view(&v, r, arguments));
    if (has_other_dtype || s.type->dtype == D2C_ST_OTHER)
        return add_tensor(r, &v, D2C_ST_OTHER, NULL, 0);
    D2C_TRY(find_storage(&s, r));
    D2C_TRY(place(&data, r, &s, &v));
    return add_tensor(r, &v, s.type->dtype, data, (size_t)s.type->size);
}

/* ---- the walk -------------------------------------------------------------------------------------------------------- */

static d2c_status walk(reading *r, const d2c_pickle_value *value, size_t path, int depth);

/* What a call made: a tensor, a parameter around one, or something that holds none. */
static d2c_status
walk_call(reading *r, const d2c_pickle_value *call, size_t path, int depth)
{
    const d2c_pickle_value *callee = call->item[0], *arguments = call->item[1];

    if (d2c_pickle_is_name(callee, "torch._utils\n_rebuild_tensor_v2") ||
        d2c_pickle_is_name(callee, "torch._utils\n_rebuild_tensor"))
        return read_tensor(r, arguments, 0);
    if (d2c_pickle_is_name(callee, "torch._utils\n_rebuild_tensor_v3"))
        return read_tensor(r, arguments, 1);
    if (arguments->count > 0 && (d2c_pickle_is_name(callee, "torch._utils\n_rebuild_parameter") ||
                                 d2c_pickle_is_name(callee, "torch._utils\n_rebuild_parameter_with_state")))
        return walk(r, arguments->item[0], path, depth + 1);
    return D2C_OK;
}

/* Walks what the name, of `length` bytes, leads to. */
static d2c_status
walk_item(reading *r, const d2c_pickle_value *value, const char *name, size_t length, size_t path, int depth)
{
    size_t dot = path > 0;

    if (r->visits-- == 0)
        return fail(r, "the dicts in the file repeat each other too often");
    if (value->kind != D2C_PICKLE_DICT && value->kind != D2C_PICKLE_LIST && value->kind != D2C_PICKLE_TUPLE &&
        value->kind != D2C_PICKLE_CALL)
        return D2C_OK;
    if (length >= MAX_NAME - path - dot)
        return fail(r, "a name in the file is too long");
    if (dot)
        r->path[path] = '.';
    memcpy(r->path + path + dot, name, length);
    r->path[path + dot + length] = '\0';
    return walk(r, value, path + dot + length, depth + 1);
}

static d2c_status
walk_numbered(reading *r, const d2c_pickle_value *value, int64_t number, size_t path, int depth)
{
    char name[24];
    int length = snprintf(name, sizeof name, "%lld", (long long)number);

    return walk_item(r, value, name, (size_t)length, path, depth);
}

/* Values under keys that are no texts or numbers have no name. */
static d2c_status
walk_dict(reading *r, const d2c_pickle_value *dict, size_t path, int depth)
{
    uint32_t i;

    for (i = 0; i + 1 < dict->count; i += 2) {
        const d2c_pickle_value *key = dict->item[i], *value = dict->item[i + 1];

        if (key->kind == D2C_PICKLE_TEXT)
            D2C_TRY(walk_item(r, value, key->text.bytes, key->text.length, path, depth));
        else if (key->kind == D2C_PICKLE_INTEGER)
            D2C_TRY(walk_numbered(r, value, key->integer, path, depth));
    }
    return D2C_OK;
}

/* Adds the tensors in the value, whose name is the first `path` bytes of r->path. */
static d2c_status
walk(reading *r, const d2c_pickle_value *value, size_t path, int depth)
{
    uint32_t i;

    if (depth > MAX_DEPTH)
        return fail(r, "the dicts in the file are nested too deeply");
    r->path[path] = '\0';
    if (value->kind == D2C_PICKLE_CALL)
        return walk_call(r, value, path, depth);
    if (value->kind == D2C_PICKLE_DICT)
        return walk_dict(r, value, path, depth);
    for (i = 0; (value->kind == D2C_PICKLE_LIST || value->kind == D2C_PICKLE_TUPLE) && i < value->count; i++)
        D2C_TRY(walk_numbered(r, value->item[i], i, path, depth));
    return D2C_OK;
}

/* A value takes a byte at least where it first stands; visits beyond that are left for some that stand in several places. */
static d2c_status
walk_root(reading *r, const d2c_pickle *pickle, size_t pickle_length)
{
    const d2c_pickle_value *root = d2c_pickle_root(pickle);

    r->visits = 4 * pickle_length;
    D2C_TRY(walk(r, root, 0, 0));
    if (r->file->count > 0 && root->kind != D2C_PICKLE_CALL)
        return D2C_OK;
    fail(r, "the file holds no tensors by name");
    d2c_hint(r->err, "Save a state_dict, or a dict of such, not the module itself.");
    return D2C_BAD_MODEL;
}

/* ---- the layout since torch 1.6 -------------------------------------------------------------------------------------- */

/* The one entry FOLDER/data.pkl; its folder is that of all. */
static d2c_status
find_pickle(const d2c_zip_entry **found, reading *r)
{
    static const char suffix[] = "/data.pkl";
    size_t tail = sizeof suffix - 1;
    int i;

    *found = NULL;
    for (i = 0; i < r->zip.count; i++) {
        const d2c_zip_entry *e = &r->zip.entry[i];

        if (e->name_length <= tail || memcmp(e->name + e->name_length - tail, suffix, tail) != 0)
            continue;
        if (*found != NULL)
            return fail(r, "the archive holds more than one data.pkl");
        *found = e;
    }
    if (*found == NULL)
        return fail(r, "the archive holds no data.pkl");
    r->folder = (*found)->name;
    r->folder_length = (*found)->name_length - tail + 1;
    return D2C_OK;
}

/* An entry of the file's folder, or NULL. */
static const d2c_zip_entry *
find_record(const reading *r, const char *name)
{
    return d2c_zip_find(&r->zip, r->folder, r->folder_length, name, strlen(name));
}

static d2c_status
check_records(const reading *r)
{
    const d2c_zip_entry *order = find_record(r, "byteorder");
    const unsigned char *data;

    if (find_record(r, "constants.pkl") != NULL)
        return d2c_fail(r->err, D2C_UNSUPPORTED, "the file is a TorchScript program, not a state_dict");
    if (order == NULL)
        return D2C_OK;
    D2C_TRY(d2c_zip_data(&data, &r->zip, order, r->err));
    if (order->size == 6 && memcmp(data, "little", 6) == 0)
        return D2C_OK;
    return d2c_fail(r->err, D2C_UNSUPPORTED, "the file's numbers are big-endian");
}

static d2c_status
read_zip(reading *r)
{
    const d2c_zip_entry *entry;
    const unsigned char *data;
    d2c_pickle *pickle;
    d2c_status status;
    size_t used;

    D2C_TRY(d2c_zip_open(&r->zip, r->bytes, r->length, r->err));
    D2C_TRY(find_pickle(&entry, r));
    D2C_TRY(check_records(r));
    if (entry->size > MAX_PICKLE)
        return fail(r, "its data.pkl is too large");
    D2C_TRY(d2c_zip_data_checked(&data, &r->zip, entry, r->err));
    D2C_TRY(d2c_pickle_read(&pickle, &used, data, (size_t)entry->size, r->err));
    status = walk_root(r, pickle, used);
    d2c_pickle_free(pickle);
    return status;
}

/* ---- the layout before ----------------------------------------------------------------------------------------------- */

/* Reads the pickle at *at and moves behind it. */
static d2c_status
next_pickle(d2c_pickle **pickle, const reading *r, size_t *at)
{
    size_t rest = r->length - *at, used;

    D2C_TRY(d2c_pickle_read(pickle, &used, r->bytes + *at, rest < MAX_PICKLE ? rest : MAX_PICKLE, r->err));
    *at += used;
    return D2C_OK;
}

static d2c_status
check_legacy_protocol(const reading *r, size_t *at)
{
    d2c_pickle *pickle;
    int known;

    D2C_TRY(next_pickle(&pickle, r, at));
    known = d2c_pickle_root(pickle)->kind == D2C_PICKLE_INTEGER &&
            d2c_pickle_root(pickle)->integer == LEGACY_PROTOCOL;
    d2c_pickle_free(pickle);
    return known ? D2C_OK : d2c_fail(r->err, D2C_UNSUPPORTED, "unknown protocol of torch.save");
}

static d2c_status
check_legacy_system(const reading *r, size_t *at)
{
    const d2c_pickle_value *little;
    d2c_pickle *pickle;
    int is_big;

    D2C_TRY(next_pickle(&pickle, r, at));
    little = d2c_pickle_get(d2c_pickle_root(pickle), "little_endian");
    is_big = little != NULL && little->kind == D2C_PICKLE_BOOL && !little->integer;
    d2c_pickle_free(pickle);
    return is_big ? d2c_fail(r->err, D2C_UNSUPPORTED, "the file's numbers are big-endian") : D2C_OK;
}

/* The storages that the pickle speaks of, each once; where they are is not known yet. */
static d2c_status
list_storages(reading *r, const d2c_pickle *pickle)
{
    int count = d2c_pickle_persistents(pickle), kept = 0, i;

    r->legacy = calloc((size_t)count + 1, sizeof r->legacy[0]);
    if (r->legacy == NULL)
        return no_memory(r);
    for (i = 0; i < count; i++)
        if (describe_storage(&r->legacy[r->storages], d2c_pickle_persistent(pickle, i)))
            r->storages++;
    qsort(r->legacy, (size_t)r->storages, sizeof r->legacy[0], compare_storages);
    for (i = 0; i < r->storages; i++)
        if (kept == 0 || compare_storages(&r->legacy[kept - 1], &r->legacy[i]) != 0)
            r->legacy[kept++] = r->legacy[i];
    r->storages = kept;
    return D2C_OK;
}

/* Places the storage at *at: its number of elements, then the elements. */
static d2c_status
place_storage(const reading *r, const d2c_pickle_value *key, size_t *at)
{
    storage wanted = {0}, *s = NULL;
    uint64_t stored = 0;
    size_t bytes;
    int i;

    if (key->kind == D2C_PICKLE_TEXT) {
        wanted.key = key->text.bytes;
        wanted.key_length = key->text.length;
        s = find_legacy(r, &wanted);
    }
    if (s == NULL || s->data != NULL)
        return fail(r, "the list of storages does not agree with the tensors");
    if (r->length - *at < 8)
        return fail(r, "the file ends before its storages");
    for (i = 7; i >= 0; i--)
        stored = stored << 8 | r->bytes[*at + (size_t)i];
    *at += 8;
    if (s->type->size == 0)
        return d2c_fail(r->err, D2C_UNSUPPORTED, "a storage is of an unknown class");
    if (stored != (uint64_t)s->stored)
        return fail(r, "a storage has another size than its tensors say");
    if (!storage_bytes(&bytes, s) || bytes > r->length - *at)
        return fail(r, "the file ends within its storages");
    s->data = r->bytes + *at;
    *at += bytes;
    return D2C_OK;
}

/* Reads the list of keys and finds their storages, which follow in its order. */
static d2c_status
place_storages(const reading *r, size_t at)
{
    const d2c_pickle_value *keys;
    d2c_pickle *pickle;
    d2c_status status;
    uint32_t i;

    D2C_TRY(next_pickle(&pickle, r, &at));
    keys = d2c_pickle_root(pickle);
    status = keys->kind == D2C_PICKLE_LIST ? D2C_OK : fail(r, "the list of storages is no list");
    for (i = 0; status == D2C_OK && i < keys->count; i++)
        status = place_storage(r, keys->item[i], &at);
    d2c_pickle_free(pickle);
    return status;
}

static d2c_status
read_legacy(reading *r)
{
    size_t at = sizeof legacy_magic, start;
    d2c_pickle *pickle;
    d2c_status status;

    D2C_TRY(check_legacy_protocol(r, &at));
    D2C_TRY(check_legacy_system(r, &at));
    start = at;
    D2C_TRY(next_pickle(&pickle, r, &at));
    status = list_storages(r, pickle);
    if (status == D2C_OK)
        status = place_storages(r, at);
    if (status == D2C_OK)
        status = walk_root(r, pickle, at - start);
    d2c_pickle_free(pickle);
    return status;
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static int
begins_with(const void *bytes, size_t length, const void *magic, size_t magic_length)
{
    return length >= magic_length && memcmp(bytes, magic, magic_length) == 0;
}

int
d2c_torch_recognizes(const void *bytes, size_t length)
{
    return begins_with(bytes, length, "PK\3\4", 4) ||
           begins_with(bytes, length, legacy_magic, sizeof legacy_magic);
}

d2c_status
d2c_torch_parse(d2c_torch_file **file, const char *name, const void *bytes, size_t length, d2c_error *err)
{
    reading r = {.file = calloc(1, sizeof **file), .bytes = bytes, .length = length, .err = err};
    d2c_status status;

    *file = NULL;
    if (r.file == NULL)
        return no_memory(&r);
    if (!d2c_torch_recognizes(bytes, length))
        status = fail(&r, "the file does not begin as torch.save begins one");
    else
        status = begins_with(bytes, length, "PK", 2) ? read_zip(&r) : read_legacy(&r);
    d2c_zip_close(&r.zip);
    free(r.legacy);
    if (status != D2C_OK) {
        if (status != D2C_NO_MEMORY)
            d2c_error_prefix(err, "could not read the PyTorch file \"%s\"", name);
        d2c_torch_close(r.file);
        return status;
    }
    *file = r.file;
    return D2C_OK;
}

void
d2c_torch_close(d2c_torch_file *file)
{
    int i;

    if (file == NULL)
        return;
    for (i = 0; i < file->count; i++)
        free((char *)file->tensor[i].name);
    for (i = 0; i < file->copies; i++)
        free(file->copy[i]);
    free(file->tensor);
    free(file->copy);
    free(file);
}

int
d2c_torch_count(const d2c_torch_file *file)
{
    return file->count;
}

const d2c_st_tensor *
d2c_torch_at(const d2c_torch_file *file, int index)
{
    return &file->tensor[index];
}
