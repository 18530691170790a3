/*
 * op_fixture.h: device tensors for the op tests.
 *
 * A fixture makes the inputs and outputs of one op on one backend.  Contents come from Philox, keyed by the case and by
 * the tensor's place in it, rounded to the tensor's dtype on the host: every backend starts from the same bits.  Each
 * tensor lies between guard words; gaps between strided rows count as guards as well.
 *
 * A large fixture has contents from a cheaper generator, and its outputs that are set start as NaN.  The reference, too
 * slow for the whole of it, computes parts: a fixture with a part makes the same tensors cut down.
 */
#ifndef D2C_TEST_OP_FIXTURE_H
#define D2C_TEST_OP_FIXTURE_H

#include <stdlib.h>

#include "base/philox.h"
#include "check.h"
#include "base/bf16.h"
#include "base/float8.h"
#include "base/half.h"
#include "ops/ops.h"

#define OP_GUARD 256 /* bytes; keeps the alignment that backends give */
#define OP_MAX_TENSORS 16

/* What an op does with a tensor: reads it, overwrites it, adds to it, or changes it depending on what it was. */
typedef enum op_role { OP_INPUT, OP_SET, OP_ADD, OP_CHANGED } op_role;

typedef struct op_buffer {
    const char *name;
    op_role role;
    d2c_tensor view; /* of device memory */
    size_t bytes;    /* without guards */
    char *device;    /* guards included */
    char *start;     /* what was uploaded, guards included */
    char *end;       /* what was there after the op */
} op_buffer;

typedef struct op_fixture {
    d2c_backend *be;
    d2c_backend *oracle; /* a reference backend: makes inputs that other inputs determine */
    uint64_t seed;
    int fill; /* outputs start from other values with another fill */
    /* Everything of the tensor of this name but one of its `images` equal parts is drawn anew. */
    struct {
        const char *name; /* NULL: none */
        int64_t images, kept;
        uint64_t stream;
    } vary;
    const char *poisoned; /* the element in the middle of the tensor of this name is NaN */
    int large;
    /* Where size[k] is not whole[k], a dimension of size[k] stands for whole[k], from from[k] on.  whole NULL: none. */
    struct {
        const int64_t *whole, *size;
        int64_t from[5];
    } part;
    int count;
    op_buffer buffer[OP_MAX_TENSORS];
} op_fixture;

/* A view without memory, for the functions below. */
#define OP_VIEW ((void *)1)

static inline double
op_load(const char *data, d2c_dtype dtype, int64_t i)
{
    switch (dtype) {
    case D2C_F32:
        return ((const float *)data)[i];
    case D2C_BF16:
        return d2c_bf16_to_float(((const uint16_t *)data)[i]);
    case D2C_F16:
        return d2c_half_to_float(((const uint16_t *)data)[i]);
    case D2C_F64:
        return ((const double *)data)[i];
    case D2C_I64:
        return (double)((const int64_t *)data)[i];
    case D2C_F8: /* as stored; the scale is a tensor of its own */
        return d2c_f8_to_float(((const uint8_t *)data)[i]);
    default:
        return data[i];
    }
}

static inline void
op_store(char *data, d2c_dtype dtype, int64_t i, double value)
{
    switch (dtype) {
    case D2C_F32:
        ((float *)data)[i] = (float)value;
        break;
    case D2C_BF16:
        ((uint16_t *)data)[i] = d2c_bf16_from_float((float)value);
        break;
    case D2C_F16:
        ((uint16_t *)data)[i] = d2c_half_from_float((float)value);
        break;
    case D2C_F64:
        ((double *)data)[i] = value;
        break;
    case D2C_I64:
        ((int64_t *)data)[i] = (int64_t)value;
        break;
    case D2C_F8:
        ((uint8_t *)data)[i] = d2c_f8_from_float((float)value);
        break;
    default:
        data[i] = (char)value;
        break;
    }
}

/* Normal number i of stream `stream`. */
static inline double
op_normal(uint64_t seed, uint64_t stream, int64_t i)
{
    float four[4];

    d2c_philox_normal4(four, d2c_philox(seed, (uint32_t)(i / 4), stream, D2C_PURPOSE_TEST));
    return four[i % 4];
}

/* Number i of stream `stream` of a large fixture: two uniforms, summed to variance 1. */
static inline double
op_quick(uint64_t seed, uint64_t stream, int64_t i)
{
    uint64_t z = seed + stream * 0x9E3779B97F4A7C15u + (uint64_t)i * 0xBF58476D1CE4E5B9u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return ((double)(z >> 32) + (double)(z & 0xFFFFFFFFu) - 0x1p32) * (2.449489742783178 * 0x1p-32);
}

/* Elements from the first to the last that the view reaches. */
static inline int64_t
op_span(d2c_tensor t)
{
    int64_t span = 1;

    for (int i = 0; i < t.ndim; i++)
        span += (t.dim[i] - 1) * t.stride[i];
    return span;
}

/* Position of the view's element n, counted in C order. */
static inline int64_t
op_position(d2c_tensor t, int64_t n)
{
    int64_t position = 0;

    for (int i = t.ndim - 1; i >= 0; i--) {
        position += n % t.dim[i] * t.stride[i];
        n /= t.dim[i];
    }
    return position;
}

/* The place in the whole tensor, in C order, of element n of a part. */
static inline int64_t
op_in_whole(const op_fixture *f, d2c_tensor t, int64_t n)
{
    int64_t at = 0, stride = 1;

    if (f->part.whole == NULL)
        return n;
    for (int i = t.ndim - 1; i >= 0; i--) {
        int64_t place = n % t.dim[i], size = t.dim[i];

        n /= size;
        for (int k = 0; k < 5; k++)
            if (t.dim[i] == f->part.size[k] && f->part.size[k] != f->part.whole[k]) {
                place += f->part.from[k];
                size = f->part.whole[k];
            }
        at += place * stride;
        stride *= size;
    }
    return at;
}

/* Adds a buffer; its start is filled with bytes that no op would write by chance. */
static inline op_buffer *
op_add_buffer(op_fixture *f, const char *name, op_role role, d2c_tensor view)
{
    op_buffer *b = &f->buffer[f->count];
    size_t bytes = (size_t)op_span(view) * d2c_dtype_size(view.dtype);
    void *block = NULL;

    if (f->count++ == OP_MAX_TENSORS ||
        d2c_alloc(f->be, &block, bytes + 2 * OP_GUARD, D2C_MEMORY_DEVICE) != D2C_OK)
        abort();
    *b = (op_buffer){name, role, view, bytes, NULL, NULL, NULL};
    b->device = block;
    b->view.data = b->device + OP_GUARD;
    b->start = malloc(b->bytes + 2 * OP_GUARD);
    b->end = malloc(b->bytes + 2 * OP_GUARD);
    if (b->start == NULL || b->end == NULL)
        abort();
#pragma omp parallel for if (f->large)
    for (size_t i = 0; i < b->bytes + 2 * OP_GUARD; i++)
        b->start[i] = (char)(0xA5 ^ i * 29);
    return b;
}

static inline d2c_tensor
op_upload(op_fixture *f, op_buffer *b)
{
    if (d2c_upload(f->be, b->device, b->start, b->bytes + 2 * OP_GUARD) != D2C_OK)
        abort();
    return b->view;
}

/* The stream of element n of a tensor: its own, or another one for what varies. */
static inline uint64_t
op_stream(const op_fixture *f, const char *name, uint64_t own, int64_t n, int64_t count)
{
    if (f->vary.name == NULL || strcmp(name, f->vary.name) != 0 ||
        n / (count / f->vary.images) == f->vary.kept)
        return own;
    return f->vary.stream;
}

/* Fills a large fixture's tensor; what an op sets starts as NaN, so that an element left out is seen. */
static inline void
op_fill_large(const op_fixture *f, op_buffer *b, uint64_t stream, double spread, double centre)
{
    char *data = b->start + OP_GUARD;

    if (b->role == OP_SET) {
        memset(data, 0xFF, b->bytes);
        return;
    }
#pragma omp parallel for
    for (int64_t n = 0; n < d2c_tensor_count(b->view); n++)
        op_store(data, b->view.dtype, op_position(b->view, n),
                 centre + spread * op_quick(f->seed, stream, op_in_whole(f, b->view, n)));
}

/* A tensor of normals times `spread` plus `centre`. */
static inline d2c_tensor
op_random(op_fixture *f, const char *name, op_role role, d2c_tensor view, double spread, double centre)
{
    uint64_t own = (uint64_t)f->count + (role == OP_INPUT ? 0 : 1000u * (unsigned)(f->fill + 1));
    int64_t count = d2c_tensor_count(view);
    op_buffer *b = op_add_buffer(f, name, role, view);

    if (f->large)
        op_fill_large(f, b, own, spread, centre);
    for (int64_t n = 0; n < count && !f->large; n++)
        op_store(b->start + OP_GUARD, view.dtype, op_position(view, n),
                 centre + spread * op_normal(f->seed, op_stream(f, name, own, n, count), n));
    if (f->poisoned != NULL && strcmp(name, f->poisoned) == 0)
        op_store(b->start + OP_GUARD, view.dtype, op_position(view, count / 2), NAN);
    return op_upload(f, b);
}

static inline d2c_tensor
op_input(op_fixture *f, const char *name, d2c_tensor view)
{
    return op_random(f, name, OP_INPUT, view, 1, 0);
}

static inline d2c_tensor
op_output(op_fixture *f, const char *name, op_role role, d2c_tensor view)
{
    return op_random(f, name, role, view, 1, 0);
}

/* A tensor with given contents, dense. */
static inline d2c_tensor
op_given(op_fixture *f, const char *name, op_role role, d2c_tensor view, const void *contents)
{
    op_buffer *b = op_add_buffer(f, name, role, view);

    memcpy(b->start + OP_GUARD, contents, b->bytes);
    return op_upload(f, b);
}

/* Integers [count] in 0..limit-1. */
static inline d2c_tensor
op_index(op_fixture *f, const char *name, int64_t count, int64_t limit)
{
    d2c_tensor view = d2c_tensor1(OP_VIEW, D2C_I64, count);
    uint64_t stream = (uint64_t)f->count;
    op_buffer *b = op_add_buffer(f, name, OP_INPUT, view);

    for (int64_t i = 0; i < count; i++)
        ((int64_t *)(b->start + OP_GUARD))[i] =
            d2c_philox(f->seed, (uint32_t)op_in_whole(f, view, i), stream, D2C_PURPOSE_TEST).w[0] % limit;
    return op_upload(f, b);
}

/* The host's copy of a tensor that the fixture made, as the reference sees it. */
static inline d2c_tensor
op_on_host(const op_fixture *f, d2c_tensor t)
{
    for (int i = 0; i < f->count; i++)
        if (f->buffer[i].view.data == t.data)
            t.data = f->buffer[i].start + OP_GUARD;
    return t;
}

static inline void
op_download(op_fixture *f)
{
    for (int i = 0; i < f->count; i++)
        if (d2c_download(f->be, f->buffer[i].end, f->buffer[i].device, f->buffer[i].bytes + 2 * OP_GUARD) !=
            D2C_OK)
            abort();
}

static inline void
op_release(op_fixture *f)
{
    for (int i = 0; i < f->count; i++) {
        d2c_free(f->be, f->buffer[i].device, D2C_MEMORY_DEVICE);
        free(f->buffer[i].start);
        free(f->buffer[i].end);
    }
    f->count = 0;
}

/* Element n of the tensor after the op, and before it. */
static inline double
op_result(const op_buffer *b, int64_t n)
{
    return op_load(b->end + OP_GUARD, b->view.dtype, op_position(b->view, n));
}

static inline double
op_before(const op_buffer *b, int64_t n)
{
    return op_load(b->start + OP_GUARD, b->view.dtype, op_position(b->view, n));
}

/* Whether everything but the elements of outputs is as it was: inputs, guards, gaps between rows. */
static inline int
op_untouched(const op_buffer *b)
{
    size_t size = d2c_dtype_size(b->view.dtype);
    char *masked;
    int same;

    if (b->role == OP_INPUT)
        return memcmp(b->start, b->end, b->bytes + 2 * OP_GUARD) == 0;
    if (op_span(b->view) == d2c_tensor_count(b->view))
        return memcmp(b->start, b->end, OP_GUARD) == 0 &&
               memcmp(b->start + OP_GUARD + b->bytes, b->end + OP_GUARD + b->bytes, OP_GUARD) == 0;
    masked = malloc(b->bytes + 2 * OP_GUARD);
    if (masked == NULL)
        abort();
    memcpy(masked, b->end, b->bytes + 2 * OP_GUARD);
    for (int64_t n = 0; n < d2c_tensor_count(b->view); n++) {
        size_t at = OP_GUARD + (size_t)op_position(b->view, n) * size;

        memcpy(masked + at, b->start + at, size);
    }
    same = memcmp(masked, b->start, b->bytes + 2 * OP_GUARD) == 0;
    free(masked);
    return same;
}

#endif
