/* pickle.c: the machine that pickles are written for, without the part that runs code (pickle.h). */
#include "nn/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define MAX_OPCODES ((size_t)1 << 22)
#define MAX_STACK ((size_t)1 << 20)
#define MAX_MARKS 1024
#define MAX_TEXT ((size_t)1 << 24)
#define MAX_NAME 1024 /* "module\nname" */
#define MIN_BLOCK ((size_t)1 << 12)
#define MAX_BLOCK ((size_t)1 << 20)

/* Memory that is given back with the pickle. */
typedef struct block {
    struct block *next;
    size_t used, size;
    char bytes[];
} block;

struct d2c_pickle {
    block *blocks;
    d2c_pickle_value *root;
    d2c_pickle_value none, yes, no, other,
        empty;                    /* the same for all who use them: nothing changes a value's kind */
    d2c_pickle_value persistents; /* a list */
};

typedef struct machine {
    d2c_pickle *pickle;
    const unsigned char *start, *at, *end;
    d2c_pickle_value **stack;
    size_t depth, stack_capacity;
    size_t mark[MAX_MARKS]; /* depths of the stack */
    int marks;
    d2c_pickle_value **memo;
    size_t memo_size;
    int stopped;
    d2c_error *err;
} machine;

static d2c_status
fail(const machine *m, const char *problem)
{
    d2c_fail(m->err, D2C_BAD_MODEL, "damaged pickle");
    d2c_detail(m->err, "%s at byte %zu.", problem, (size_t)(m->at - m->start));
    return D2C_BAD_MODEL;
}

static d2c_status
no_memory(const machine *m)
{
    return d2c_fail(m->err, D2C_NO_MEMORY, "out of memory");
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

/* Adds a block that holds `bytes`, twice as large as the last one while that is small. */
static block *
add_block(d2c_pickle *pickle, size_t bytes)
{
    size_t size = pickle->blocks != NULL ? 2 * pickle->blocks->size : MIN_BLOCK;
    block *b;

    if (size > MAX_BLOCK)
        size = MAX_BLOCK;
    if (size < bytes)
        size = bytes;
    b = malloc(sizeof *b + size);
    if (b == NULL)
        return NULL;
    *b = (block){.next = pickle->blocks, .size = size};
    pickle->blocks = b;
    return b;
}

static void *
allocate(d2c_pickle *pickle, size_t bytes)
{
    block *b = pickle->blocks;

    if (b == NULL || b->size - b->used < bytes)
        b = add_block(pickle, bytes);
    if (b == NULL)
        return NULL;
    b->used += bytes; /* every size is a multiple of a pointer's */
    return b->bytes + b->used - bytes;
}

static d2c_pickle_value *
new_value(machine *m, d2c_pickle_kind kind)
{
    d2c_pickle_value *value = allocate(m->pickle, sizeof *value);

    if (value != NULL) {
        memset(value, 0, sizeof *value);
        value->kind = kind;
    }
    return value;
}

/* Appends items to a value that has some. */
static d2c_status
append(const machine *m, d2c_pickle_value *to, d2c_pickle_value *const *item, size_t count)
{
    size_t needed = to->count + count, capacity = to->capacity;

    if (needed > MAX_OPCODES)
        return fail(m, "Too many items");
    if (needed > capacity) {
        d2c_pickle_value **grown;

        capacity = needed > 2 * capacity ? needed : 2 * capacity;
        grown = allocate(m->pickle, capacity * sizeof *grown);
        if (grown == NULL)
            return no_memory(m);
        if (to->count > 0)
            memcpy(grown, to->item, to->count * sizeof *grown);
        to->item = grown;
        to->capacity = (uint32_t)capacity;
    }
    if (count > 0)
        memcpy(to->item + to->count, item, count * sizeof *item);
    to->count = (uint32_t)needed;
    return D2C_OK;
}

/* Grows an array on the heap to more than `index` entries; new ones are NULL. */
static d2c_status
reach(const machine *m, d2c_pickle_value ***array, size_t *size, size_t index)
{
    size_t wanted = index + 1 > 2 * *size ? index + 1 : 2 * *size;
    d2c_pickle_value **grown;

    if (index < *size)
        return D2C_OK;
    grown = realloc(*array, wanted * sizeof *grown);
    if (grown == NULL)
        return no_memory(m);
    memset(grown + *size, 0, (wanted - *size) * sizeof *grown);
    *array = grown;
    *size = wanted;
    return D2C_OK;
}

/* ---- the stack ------------------------------------------------------------------------------------------------------ */

static d2c_status
push(machine *m, d2c_pickle_value *value)
{
    if (value == NULL)
        return no_memory(m);
    if (m->depth >= MAX_STACK)
        return fail(m, "Too deep a stack");
    D2C_TRY(reach(m, &m->stack, &m->stack_capacity, m->depth));
    m->stack[m->depth++] = value;
    return D2C_OK;
}

/* How many values there are behind the last mark. */
static size_t
loose(const machine *m)
{
    return m->depth - (m->marks > 0 ? m->mark[m->marks - 1] : 0);
}

static d2c_status
pop(machine *m, d2c_pickle_value **value)
{
    if (loose(m) == 0)
        return fail(m, "Nothing on the stack");
    *value = m->stack[--m->depth];
    return D2C_OK;
}

static d2c_status
push_mark(machine *m)
{
    if (m->marks == MAX_MARKS)
        return fail(m, "Too deep a nesting");
    m->mark[m->marks++] = m->depth;
    return D2C_OK;
}

/* Takes the last mark and what is behind it off the stack; the values stay readable until the next push. */
static d2c_status
pop_mark(machine *m, d2c_pickle_value ***item, size_t *count)
{
    if (m->marks == 0)
        return fail(m, "A missing mark");
    *count = loose(m);
    m->depth = m->mark[--m->marks];
    *item = m->stack + m->depth;
    return D2C_OK;
}

/* ---- operands -------------------------------------------------------------------------------------------------------- */

static d2c_status
take(machine *m, const unsigned char **bytes, size_t count)
{
    if (count > (size_t)(m->end - m->at))
        return fail(m, "The end of the file");
    *bytes = m->at;
    m->at += count;
    return D2C_OK;
}

static d2c_status
take_number(machine *m, uint32_t *value, size_t bytes)
{
    const unsigned char *at;

    D2C_TRY(take(m, &at, bytes));
    *value = 0;
    while (bytes-- > 0)
        *value = *value << 8 | at[bytes];
    return D2C_OK;
}

/* A text whose length has `width` bytes. */
static d2c_status
push_text(machine *m, size_t width)
{
    const unsigned char *bytes;
    d2c_pickle_value *value;
    uint32_t length;

    D2C_TRY(take_number(m, &length, width));
    if (length > MAX_TEXT)
        return fail(m, "Too long a text");
    D2C_TRY(take(m, &bytes, length));
    if (!d2c_is_utf8(bytes, length))
        return push(m, &m->pickle->other);
    value = new_value(m, D2C_PICKLE_TEXT);
    if (value != NULL) {
        value->text.bytes = (const char *)bytes;
        value->text.length = length;
    }
    return push(m, value);
}

static d2c_status
push_integer(machine *m, int64_t integer)
{
    d2c_pickle_value *value = new_value(m, D2C_PICKLE_INTEGER);

    if (value != NULL)
        value->integer = integer;
    return push(m, value);
}

/* An integer of a counted number of bytes, two's complement. */
static d2c_status
push_long(machine *m)
{
    const unsigned char *bytes;
    uint64_t value = 0;
    uint32_t length;
    size_t i;

    D2C_TRY(take_number(m, &length, 1));
    D2C_TRY(take(m, &bytes, length));
    if (length > 8)
        return push(m, &m->pickle->other);
    for (i = length; i-- > 0;)
        value = value << 8 | bytes[i];
    if (length > 0 && length < 8 && bytes[length - 1] & 0x80)
        value |= ~(uint64_t)0 << 8 * length;
    return push_integer(m, (int64_t)value);
}

static d2c_status
push_unsigned(machine *m, size_t width)
{
    uint32_t value;

    D2C_TRY(take_number(m, &value, width));
    return push_integer(m, value);
}

static d2c_status
push_int32(machine *m)
{
    uint32_t value;

    D2C_TRY(take_number(m, &value, 4));
    return push_integer(m, (int32_t)value);
}

static d2c_status
push_float(machine *m)
{
    const unsigned char *bytes;

    D2C_TRY(take(m, &bytes, 8));
    return push(m, &m->pickle->other);
}

/* "module\nname\n" */
static d2c_status
push_name(machine *m)
{
    size_t most = (size_t)(m->end - m->at) < MAX_NAME ? (size_t)(m->end - m->at) : MAX_NAME;
    const unsigned char *first = memchr(m->at, '\n', most), *second = NULL;
    d2c_pickle_value *value;

    if (first != NULL)
        second = memchr(first + 1, '\n', most - (size_t)(first + 1 - m->at));
    if (second == NULL)
        return fail(m, "A name without an end");
    value = new_value(m, D2C_PICKLE_NAME);
    if (value != NULL) {
        value->text.bytes = (const char *)m->at;
        value->text.length = (size_t)(second - m->at);
    }
    m->at = second + 1;
    return push(m, value);
}

/* ---- the memo -------------------------------------------------------------------------------------------------------- */

/* A pickle has fewer values than bytes, so no honest number is larger than its length. */
static d2c_status
put_memo(machine *m, size_t width)
{
    uint32_t index;

    D2C_TRY(take_number(m, &index, width));
    if (index >= (size_t)(m->at - m->start))
        return fail(m, "Too large a memo number");
    if (loose(m) == 0)
        return fail(m, "Nothing on the stack");
    D2C_TRY(reach(m, &m->memo, &m->memo_size, index));
    m->memo[index] = m->stack[m->depth - 1];
    return D2C_OK;
}

static d2c_status
get_memo(machine *m, size_t width)
{
    uint32_t index;

    D2C_TRY(take_number(m, &index, width));
    if (index >= m->memo_size || m->memo[index] == NULL)
        return fail(m, "A memo number that was never set");
    return push(m, m->memo[index]);
}

/* ---- containers ------------------------------------------------------------------------------------------------------ */

static d2c_status
push_items(machine *m, d2c_pickle_kind kind, d2c_pickle_value *const *item, size_t count)
{
    d2c_pickle_value *value = new_value(m, kind);

    if (value == NULL)
        return no_memory(m);
    D2C_TRY(append(m, value, item, count));
    return push(m, value);
}

/* The last `count` values as a tuple. */
static d2c_status
make_tuple(machine *m, size_t count)
{
    if (loose(m) < count)
        return fail(m, "Too few values for a tuple");
    m->depth -= count;
    return push_items(m, D2C_PICKLE_TUPLE, m->stack + m->depth, count);
}

static d2c_status
make_marked_tuple(machine *m)
{
    d2c_pickle_value **item;
    size_t count;

    D2C_TRY(pop_mark(m, &item, &count));
    return push_items(m, D2C_PICKLE_TUPLE, item, count);
}

/* Whether the value is some object that we know nothing of. */
static int
is_opaque(const d2c_pickle_value *value)
{
    return value->kind == D2C_PICKLE_CALL || value->kind == D2C_PICKLE_OTHER ||
           value->kind == D2C_PICKLE_PERSISTENT;
}

/* Adds items to the list or dict on top; other objects keep theirs to themselves. */
static d2c_status
add_items(machine *m, d2c_pickle_kind kind, d2c_pickle_value *const *item, size_t count)
{
    d2c_pickle_value *top;

    if (loose(m) == 0)
        return fail(m, "Nothing on the stack");
    top = m->stack[m->depth - 1];
    if (is_opaque(top))
        return D2C_OK;
    if (top->kind != kind)
        return fail(m, "Items for what is no container");
    if (kind == D2C_PICKLE_DICT && count % 2 != 0)
        return fail(m, "A key without a value");
    return append(m, top, item, count);
}

static d2c_status
add_marked(machine *m, d2c_pickle_kind kind)
{
    d2c_pickle_value **item;
    size_t count;

    D2C_TRY(pop_mark(m, &item, &count));
    return add_items(m, kind, item, count);
}

static d2c_status
add_last(machine *m, d2c_pickle_kind kind, size_t count)
{
    if (loose(m) < count)
        return fail(m, "Nothing on the stack");
    m->depth -= count;
    return add_items(m, kind, m->stack + m->depth, count);
}

/* ---- objects --------------------------------------------------------------------------------------------------------- */

/* What a call would make: an OrderedDict is a dict; anything else stays a call. */
static d2c_status
make_call(machine *m)
{
    d2c_pickle_value *pair[2];

    D2C_TRY(pop(m, &pair[1]));
    D2C_TRY(pop(m, &pair[0]));
    if (pair[0]->kind != D2C_PICKLE_NAME && !is_opaque(pair[0]))
        return fail(m, "A call of what is no class or function");
    if (pair[1]->kind != D2C_PICKLE_TUPLE)
        return fail(m, "A call without arguments");
    if (d2c_pickle_is_name(pair[0], "collections\nOrderedDict") && pair[1]->count == 0)
        return push_items(m, D2C_PICKLE_DICT, NULL, 0);
    return push_items(m, D2C_PICKLE_CALL, pair, 2);
}

/* Gives the object on top a state, which is dropped. */
static d2c_status
drop_state(machine *m)
{
    d2c_pickle_value *state, *top;

    D2C_TRY(pop(m, &state));
    if (loose(m) == 0)
        return fail(m, "Nothing on the stack");
    top = m->stack[m->depth - 1];
    if (!is_opaque(top) && top->kind != D2C_PICKLE_DICT)
        return fail(m, "A state for what is no object");
    return D2C_OK;
}

static d2c_status
make_persistent(machine *m)
{
    d2c_pickle_value *value, *made;

    D2C_TRY(pop(m, &value));
    D2C_TRY(push_items(m, D2C_PICKLE_PERSISTENT, &value, 1));
    made = m->stack[m->depth - 1];
    return append(m, &m->pickle->persistents, &made, 1);
}

static d2c_status
check_protocol(machine *m)
{
    uint32_t protocol;

    D2C_TRY(take_number(m, &protocol, 1));
    if (protocol == 2)
        return D2C_OK;
    d2c_fail(m->err, D2C_UNSUPPORTED, "unsupported pickle protocol %u", (unsigned)protocol);
    d2c_hint(m->err, "Save with torch.save's own protocol, which is 2, or as safetensors.");
    return D2C_UNSUPPORTED;
}

static d2c_status
stop(machine *m)
{
    if (m->marks != 0 || m->depth != 1)
        return fail(m, "A pickle that ends with other than one value");
    m->pickle->root = m->stack[0];
    m->stopped = 1;
    return D2C_OK;
}

/* ---- the opcodes ----------------------------------------------------------------------------------------------------- */

static d2c_status
run_opcode(machine *m, unsigned char opcode)
{
    switch (opcode) {
    case 0x80: /* PROTO */
        return check_protocol(m);
    case '.': /* STOP */
        return stop(m);
    case '(': /* MARK */
        return push_mark(m);
    case 'N': /* NONE */
        return push(m, &m->pickle->none);
    case 0x88: /* NEWTRUE */
        return push(m, &m->pickle->yes);
    case 0x89: /* NEWFALSE */
        return push(m, &m->pickle->no);
    case 'J': /* BININT */
        return push_int32(m);
    case 'K': /* BININT1 */
        return push_unsigned(m, 1);
    case 'M': /* BININT2 */
        return push_unsigned(m, 2);
    case 0x8a: /* LONG1 */
        return push_long(m);
    case 'G': /* BINFLOAT */
        return push_float(m);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
        return push_text(m, 4);
    case 'U': /* SHORT_BINSTRING */
        return push_text(m, 1);
    case 'c': /* GLOBAL */
        return push_name(m);
    case 'q': /* BINPUT */
        return put_memo(m, 1);
    case 'r': /* LONG_BINPUT */
        return put_memo(m, 4);
    case 'h': /* BINGET */
        return get_memo(m, 1);
    case 'j': /* LONG_BINGET */
        return get_memo(m, 4);
    case ')': /* EMPTY_TUPLE */
        return push(m, &m->pickle->empty);
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        return make_tuple(m, opcode - 0x84u);
    case 't': /* TUPLE */
        return make_marked_tuple(m);
    case ']': /* EMPTY_LIST */
        return push_items(m, D2C_PICKLE_LIST, NULL, 0);
    case 'a': /* APPEND */
        return add_last(m, D2C_PICKLE_LIST, 1);
    case 'e': /* APPENDS */
        return add_marked(m, D2C_PICKLE_LIST);
    case '}': /* EMPTY_DICT */
        return push_items(m, D2C_PICKLE_DICT, NULL, 0);
    case 's': /* SETITEM */
        return add_last(m, D2C_PICKLE_DICT, 2);
    case 'u': /* SETITEMS */
        return add_marked(m, D2C_PICKLE_DICT);
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        return make_call(m);
    case 'b': /* BUILD */
        return drop_state(m);
    case 'Q': /* BINPERSID */
        return make_persistent(m);
    default:
        d2c_fail(m->err, D2C_UNSUPPORTED, "unsupported pickle opcode 0x%02x", opcode);
        d2c_detail(m->err, "It is at byte %zu; torch.save writes no such opcode.",
                   (size_t)(m->at - 1 - m->start));
        return D2C_UNSUPPORTED;
    }
}

static d2c_status
run(machine *m)
{
    size_t opcodes;

    D2C_TRY(reach(m, &m->stack, &m->stack_capacity, 15));
    for (opcodes = 0; opcodes < MAX_OPCODES; opcodes++) {
        const unsigned char *opcode;

        D2C_TRY(take(m, &opcode, 1));
        D2C_TRY(run_opcode(m, *opcode));
        if (m->stopped)
            return D2C_OK;
    }
    return fail(m, "Too many opcodes");
}

static d2c_pickle *
create(void)
{
    d2c_pickle *pickle = calloc(1, sizeof *pickle);

    if (pickle == NULL)
        return NULL;
    pickle->none.kind = D2C_PICKLE_NONE;
    pickle->yes = (d2c_pickle_value){.kind = D2C_PICKLE_BOOL, .integer = 1};
    pickle->no.kind = D2C_PICKLE_BOOL;
    pickle->other.kind = D2C_PICKLE_OTHER;
    pickle->empty.kind = D2C_PICKLE_TUPLE;
    pickle->persistents.kind = D2C_PICKLE_LIST;
    return pickle;
}

d2c_status
d2c_pickle_read(d2c_pickle **pickle, size_t *used, const void *bytes, size_t length, d2c_error *err)
{
    machine m = {.pickle = create(), .start = bytes, .at = bytes, .err = err};
    d2c_status status;

    *pickle = NULL;
    if (m.pickle == NULL)
        return no_memory(&m);
    m.end = m.at + length;
    status = run(&m);
    free(m.stack);
    free(m.memo);
    if (status != D2C_OK) {
        d2c_pickle_free(m.pickle);
        return status;
    }
    *used = (size_t)(m.at - m.start);
    *pickle = m.pickle;
    return D2C_OK;
}

void
d2c_pickle_free(d2c_pickle *pickle)
{
    block *b, *next;

    if (pickle == NULL)
        return;
    for (b = pickle->blocks; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    free(pickle);
}

/* ---- looking at values ------------------------------------------------------------------------------------------------ */

const d2c_pickle_value *
d2c_pickle_root(const d2c_pickle *pickle)
{
    return pickle->root;
}

int
d2c_pickle_persistents(const d2c_pickle *pickle)
{
    return (int)pickle->persistents.count;
}

const d2c_pickle_value *
d2c_pickle_persistent(const d2c_pickle *pickle, int index)
{
    return pickle->persistents.item[index];
}

static int
is_exactly(const d2c_pickle_value *value, d2c_pickle_kind kind, const char *text)
{
    size_t length = strlen(text);

    return value->kind == kind && value->text.length == length &&
           memcmp(value->text.bytes, text, length) == 0;
}

int
d2c_pickle_is_text(const d2c_pickle_value *value, const char *text)
{
    return is_exactly(value, D2C_PICKLE_TEXT, text);
}

int
d2c_pickle_is_name(const d2c_pickle_value *value, const char *name)
{
    return is_exactly(value, D2C_PICKLE_NAME, name);
}

const d2c_pickle_value *
d2c_pickle_get(const d2c_pickle_value *dict, const char *key)
{
    uint32_t i;

    if (dict->kind != D2C_PICKLE_DICT)
        return NULL;
    for (i = 0; i + 1 < dict->count; i += 2)
        if (d2c_pickle_is_text(dict->item[i], key))
            return dict->item[i + 1];
    return NULL;
}
