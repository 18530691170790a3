/*
 * pickle.h: a reader of Python's pickles that never calls anything.
 *
 * It knows the opcodes of protocol 2 that torch.save writes, and builds plain values: numbers, texts, tuples, lists and
 * dicts.  A class or function is its name, calling it is a value that says so (D2C_PICKLE_CALL) and nothing more;
 * collections.OrderedDict alone is known, as a dict.  Whatever state is given to an object is dropped.
 *
 * Values may share parts and may contain themselves, so who walks them bounds the walk.
 */
#ifndef D2C_NN_PICKLE_H
#define D2C_NN_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum d2c_pickle_kind {
    D2C_PICKLE_NONE,
    D2C_PICKLE_BOOL,       /* integer */
    D2C_PICKLE_INTEGER,    /* integer; one of more than 64 bits is D2C_PICKLE_OTHER */
    D2C_PICKLE_TEXT,       /* text: valid UTF-8 without zero characters */
    D2C_PICKLE_TUPLE,      /* item */
    D2C_PICKLE_LIST,       /* item */
    D2C_PICKLE_DICT,       /* item: key, value, key, value, ... */
    D2C_PICKLE_NAME,       /* text: "module\nname" of a class or function */
    D2C_PICKLE_CALL,       /* item: what is called, and the tuple of its arguments */
    D2C_PICKLE_PERSISTENT, /* item: what stands for an object outside the pickle */
    D2C_PICKLE_OTHER       /* something that holds no tensors: a float, bytes, a set */
} d2c_pickle_kind;

typedef struct d2c_pickle_value {
    d2c_pickle_kind kind;
    uint32_t count, capacity; /* of the items */
    union {
        int64_t integer;
        struct d2c_pickle_value **item;
        struct {
            const char *bytes; /* in the pickle; not zero-terminated */
            size_t length;
        } text;
    };
} d2c_pickle_value;

typedef struct d2c_pickle d2c_pickle;

/* Reads one pickle from the front of the bytes, which must outlive it; *used: how long it is.  The memory it takes is
 * bounded by its length.  Failures are D2C_BAD_MODEL or D2C_UNSUPPORTED without the file's name. */
d2c_status d2c_pickle_read(d2c_pickle **pickle, size_t *used, const void *bytes, size_t length,
                           d2c_error *err);
void d2c_pickle_free(d2c_pickle *pickle);

const d2c_pickle_value *d2c_pickle_root(const d2c_pickle *pickle);
/* Its persistent values, in the order of their making. */
int d2c_pickle_persistents(const d2c_pickle *pickle);
const d2c_pickle_value *d2c_pickle_persistent(const d2c_pickle *pickle, int index);

int d2c_pickle_is_text(const d2c_pickle_value *value, const char *text);
/* Whether the value is the class or function "module\nname". */
int d2c_pickle_is_name(const d2c_pickle_value *value, const char *name);
/* The dict's value of that key, or NULL. */
const d2c_pickle_value *d2c_pickle_get(const d2c_pickle_value *dict, const char *key);

#endif
