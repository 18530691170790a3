/* params.c: the flat range of params.h: layout, memory, initial values, loading. */
#include "nn/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/philox.h"
#include "ops/backend.h"

#define ALIGNMENT 64 /* elements */

d2c_status
d2c_precision_check(const d2c_backend *be, d2c_dtype precision, d2c_error *err)
{
    if (precision != D2C_F32 && precision != D2C_BF16 && precision != D2C_F8)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a network computes in f32, bf16 or fp8");
    if (precision == D2C_F32 || (precision == D2C_BF16 ? be->has_bf16 : be->has_f8))
        return D2C_OK;
    if (precision == D2C_F8) {
        d2c_fail(err, D2C_UNSUPPORTED, "this device does not multiply fp8");
        d2c_hint(err, "NVIDIA devices of compute capability 8.9 and more do; use bf16 or f32.");
        return D2C_UNSUPPORTED;
    }
    d2c_fail(err, D2C_UNSUPPORTED, "this processor does not multiply bf16");
    d2c_hint(err, "Use f32, which is faster here.");
    return D2C_UNSUPPORTED;
}

static d2c_status
fail_param(d2c_error *err, const char *name, const char *problem)
{
    return d2c_fail(err, D2C_INTERNAL, "parameter \"%s\" %s", name, problem);
}

/* The number of elements, where every dimension is positive and the range still fits memory as f32. */
static d2c_status
count_elements(int64_t *count, const char *name, int ndim, const int64_t *dim, d2c_error *err)
{
    size_t elements = 1, bytes;
    int i;

    *count = 0;
    if (ndim < 1 || ndim > 4)
        return fail_param(err, name, "must have 1 to 4 dimensions");
    for (i = 0; i < ndim; i++)
        if (dim[i] <= 0 || d2c_size_mul(&elements, elements, (size_t)dim[i]) != 0)
            return fail_param(err, name, "has an invalid size");
    if (d2c_size_mul(&bytes, elements, 2 * sizeof(float)) != 0 || bytes > INT64_MAX)
        return d2c_fail(err, D2C_TOO_LARGE, "parameter \"%s\" is too large", name);
    *count = (int64_t)elements;
    return D2C_OK;
}

static d2c_status
grow(d2c_params *params, d2c_error *err)
{
    int capacity = params->capacity > 0 ? params->capacity * 2 : 64;
    d2c_param *item;

    if (params->count < params->capacity)
        return D2C_OK;
    item = realloc(params->item, (size_t)capacity * sizeof *item);
    if (item == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    params->item = item;
    params->capacity = capacity;
    return D2C_OK;
}

/* Appends the parameter at `offset`; the range then ends at the next multiple of 64. */
static d2c_status
add_at(d2c_params *params, int64_t offset, const char *name, d2c_init init, int trainable, int ndim,
       const int64_t *dim, d2c_error *err)
{
    d2c_param *p;
    int64_t count, total;
    int i;

    D2C_TRY(count_elements(&count, name, ndim, dim, err));
    if (strlen(name) >= sizeof p->name)
        return fail_param(err, name, "has too long a name");
    if (d2c_params_find(params, name) != NULL)
        return fail_param(err, name, "is added twice");
    if (trainable && params->total != params->trainable)
        return fail_param(err, name, "is trainable and comes behind a frozen one");
    if (__builtin_add_overflow(offset, count, &total) || __builtin_add_overflow(total, ALIGNMENT - 1, &total))
        return d2c_fail(err, D2C_TOO_LARGE, "parameter \"%s\" is too large", name);
    D2C_TRY(grow(params, err));
    p = &params->item[params->count++];
    memset(p, 0, sizeof *p);
    strcpy(p->name, name);
    p->ndim = ndim;
    for (i = 0; i < ndim; i++)
        p->dim[i] = dim[i];
    p->offset = offset;
    p->count = count;
    p->init = init;
    p->trainable = trainable;
    params->total = total / ALIGNMENT * ALIGNMENT;
    if (trainable)
        params->trainable = params->total;
    return D2C_OK;
}

d2c_status
d2c_params_add(d2c_params *params, const char *name, d2c_init init, int trainable, int ndim,
               const int64_t *dim, d2c_error *err)
{
    return add_at(params, params->total, name, init, trainable, ndim, dim, err);
}

d2c_status
d2c_params_add_group(d2c_params *params, const char *name, d2c_init init, int trainable, int ndim,
                     const int64_t *dim, d2c_error *err)
{
    const d2c_param *last;

    if (params->count == 0)
        return fail_param(err, name, "continues no group");
    last = &params->item[params->count - 1];
    if (last->trainable != trainable)
        return fail_param(err, name, "is not trained as the group it continues");
    D2C_TRY(add_at(params, last->offset + last->count, name, init, trainable, ndim, dim, err));
    last = &params->item[params->count - 2]; /* the items may have moved */
    params->item[params->count - 1].group = last->group > 0 ? last->group : params->count - 1;
    params->item[params->count - 2].group = params->item[params->count - 1].group;
    return D2C_OK;
}

d2c_status
d2c_params_add_conv(d2c_params *params, const char *name, int64_t out, int64_t in, int height, int width,
                    int with_bias, d2c_error *err)
{
    const int64_t dim[4] = {out, height, width, in};
    char full[sizeof params->item->name + 8];

    snprintf(full, sizeof full, "%s.weight", name);
    D2C_TRY(d2c_params_add(params, full, D2C_INIT_GIVEN, 0, 4, dim, err));
    params->item[params->count - 1].channels_last = 1;
    snprintf(full, sizeof full, "%s.bias", name);
    return with_bias ? d2c_params_add(params, full, D2C_INIT_GIVEN, 0, 1, &out, err) : D2C_OK;
}

/* One zeroed range of `elements` of `size` bytes. */
static d2c_status
allocate_range(d2c_backend *be, void **range, int64_t elements, size_t size, d2c_error *err)
{
    size_t bytes;

    if (d2c_size_mul(&bytes, (size_t)elements, size) != 0)
        return d2c_fail(err, D2C_TOO_LARGE, "parameters are too large");
    if (d2c_alloc(be, range, bytes, D2C_MEMORY_DEVICE) != D2C_OK || d2c_zero(be, *range, bytes) != D2C_OK)
        return d2c_backend_error(be, err);
    return D2C_OK;
}

d2c_status
d2c_params_allocate(d2c_params *params, d2c_backend *be, int with_shadow, int training, d2c_error *err)
{
    float **ranges[] = {&params->value, &params->grad, &params->m, &params->v, &params->ema};
    int wanted = training ? 5 : 1, i;
    void *range;

    for (i = 0; i < wanted; i++) {
        range = NULL;
        D2C_TRY(allocate_range(be, &range, params->total, sizeof(float), err));
        *ranges[i] = range;
    }
    if (with_shadow) {
        range = NULL;
        D2C_TRY(allocate_range(be, &range, params->total, sizeof(uint16_t), err));
        params->shadow = range;
    }
    return D2C_OK;
}

/* Scales lie so many floats apart: cuBLASLt 12.9 to 13.1 wants them at multiples of 16 bytes. */
#define SCALE_ROOM 4

d2c_status
d2c_params_allocate_eight(d2c_params *params, d2c_backend *be, d2c_error *err)
{
    void *range = NULL;

    D2C_TRY(allocate_range(be, &range, params->total, 1, err));
    params->eight = range;
    range = NULL;
    D2C_TRY(allocate_range(be, &range, params->count, SCALE_ROOM * sizeof(float), err));
    params->scale = range;
    return D2C_OK;
}

void
d2c_params_free(d2c_params *params, d2c_backend *be)
{
    void *ranges[] = {params->value, params->shadow, params->eight, params->scale,
                      params->grad,  params->m,      params->v,     params->ema};
    size_t i;

    for (i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (ranges[i] != NULL)
            d2c_free(be, ranges[i], D2C_MEMORY_DEVICE);
    d2c_weights_close(params->file);
    free(params->item);
    memset(params, 0, sizeof *params);
}

/* FNV-1a: the id of a parameter's draws.  Part of the meaning of a seed, so it never changes. */
static uint64_t
name_hash(const char *name)
{
    uint64_t hash = 0xCBF29CE484222325u;

    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001B3u;
    return hash;
}

/* out [count] = U(-limit, limit) or, when normal, N(0, limit^2). */
static void
draw(float *out, int64_t count, uint64_t seed, uint64_t id, int normal, float limit)
{
    uint32_t stream = d2c_philox_stream(0, D2C_PURPOSE_INIT);
    int64_t i;
    int j;

    for (i = 0; i < count; i += 4) {
        d2c_philox_block block = d2c_philox(seed, (uint32_t)(i / 4), id, stream);
        float value[4];

        if (normal)
            d2c_philox_normal4(value, block);
        else
            for (j = 0; j < 4; j++)
                value[j] = 2.0f * d2c_philox_uniform(block.w[j]) - 1.0f;
        for (j = 0; j < 4 && i + j < count; j++)
            out[i + j] = limit * value[j];
    }
}

static void
initial_values(float *out, const d2c_param *p, uint64_t seed)
{
    double fan_out = (double)p->dim[0], fan_in = (double)p->count / fan_out;
    int64_t i;

    switch (p->init) {
    case D2C_INIT_XAVIER:
        draw(out, p->count, seed, name_hash(p->name), 0, (float)sqrt(6.0 / (fan_in + fan_out)));
        break;
    case D2C_INIT_NORMAL02:
        draw(out, p->count, seed, name_hash(p->name), 1, 0.02f);
        break;
    case D2C_INIT_ZERO:
    case D2C_INIT_ONE:
        for (i = 0; i < p->count; i++)
            out[i] = p->init == D2C_INIT_ONE ? 1.0f : 0.0f;
        break;
    case D2C_INIT_GIVEN:
        break;
    }
}

/* Room on the host for the largest parameter. */
static float *
host_buffer(const d2c_params *params, d2c_error *err)
{
    int64_t largest = 1;
    float *buffer;
    int i;

    for (i = 0; i < params->count; i++)
        if (params->item[i].count > largest)
            largest = params->item[i].count;
    buffer = malloc((size_t)largest * sizeof *buffer);
    if (buffer == NULL)
        d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return buffer;
}

static d2c_status
upload_param(d2c_backend *be, float *range, const d2c_param *p, const void *values, d2c_error *err)
{
    if (p->mapped != NULL)
        return fail_param(err, p->name, "is mapped from a file, which nothing writes to");
    if (d2c_upload(be, range + p->offset, values, (size_t)p->count * sizeof *range) != D2C_OK)
        return d2c_backend_error(be, err);
    return D2C_OK;
}

d2c_status
d2c_params_initialize(d2c_params *params, d2c_backend *be, uint64_t seed, d2c_error *err)
{
    float *buffer = host_buffer(params, err);
    d2c_status status = buffer != NULL ? D2C_OK : D2C_NO_MEMORY;
    int i;

    for (i = 0; i < params->count && status == D2C_OK; i++) {
        const d2c_param *p = &params->item[i];

        if (p->init == D2C_INIT_GIVEN)
            continue;
        initial_values(buffer, p, seed);
        status = upload_param(be, params->value, p, buffer, err);
    }
    free(buffer);
    D2C_TRY(status);
    if (params->ema != NULL &&
        d2c_copy(be, params->ema, params->value, (size_t)params->total * sizeof(float)) != D2C_OK)
        return d2c_backend_error(be, err);
    return d2c_params_refresh(params, be, err);
}

/* The parameter as [first dim, the others]. */
static d2c_tensor
as_matrix(void *data, d2c_dtype dtype, const d2c_param *p)
{
    return d2c_tensor2(data, dtype, p->dim[0], p->count / p->dim[0]);
}

/* The parameter's e4m3 copy as [first dim, the others]; absent where it has none. */
static d2c_tensor
eight_of(const d2c_params *params, const d2c_param *p)
{
    d2c_tensor t;

    if (params->eight == NULL || !p->eight)
        return d2c_absent();
    t = as_matrix(params->eight + p->offset, D2C_F8, p);
    t.scale = params->scale + SCALE_ROOM * (p - params->item);
    return t;
}

static d2c_status
refresh_eight(d2c_params *params, d2c_backend *be, d2c_error *err)
{
    int i;

    for (i = 0; i < params->count; i++) {
        const d2c_param *p = &params->item[i];

        if (p->eight &&
            d2c_quantize(be, eight_of(params, p), as_matrix(params->value + p->offset, D2C_F32, p)) != D2C_OK)
            return d2c_backend_error(be, err);
    }
    return D2C_OK;
}

d2c_status
d2c_params_refresh(d2c_params *params, d2c_backend *be, d2c_error *err)
{
    if (params->eight != NULL)
        D2C_TRY(refresh_eight(params, be, err));
    if (params->shadow == NULL)
        return D2C_OK;
    if (d2c_cast(be, d2c_tensor1(params->shadow, D2C_BF16, params->total),
                 d2c_tensor1(params->value, D2C_F32, params->total)) != D2C_OK)
        return d2c_backend_error(be, err);
    return D2C_OK;
}

size_t
d2c_params_bytes(const d2c_params *params)
{
    size_t each = sizeof(float), bytes = 0;
    int i;

    if (params->shadow != NULL)
        each += sizeof *params->shadow;
    if (params->eight != NULL)
        each += sizeof *params->eight;
    for (i = 0; i < params->count; i++)
        if (params->item[i].mapped != NULL)
            bytes += (size_t)params->item[i].count * sizeof(float);
    return bytes + (size_t)params->total * each;
}

float *
d2c_params_at(const d2c_params *params, const d2c_param *p, const float *range)
{
    return (float *)(p->mapped != NULL && range == params->value ? p->mapped : range + p->offset);
}

const d2c_param *
d2c_params_find(const d2c_params *params, const char *name)
{
    int i;

    for (i = 0; i < params->count; i++)
        if (strcmp(params->item[i].name, name) == 0)
            return &params->item[i];
    return NULL;
}

d2c_tensor
d2c_params_tensor(const d2c_params *params, const char *name, const float *range)
{
    const d2c_param *p = d2c_params_find(params, name);
    int64_t dim[4] = {1, 1, 1, 1};
    d2c_tensor t;
    int i;

    if (p == NULL || range == NULL)
        return d2c_absent();
    for (i = 0; i < p->ndim; i++)
        dim[i] = p->dim[i];
    t = d2c_tensor4(d2c_params_at(params, p, range), D2C_F32, dim[0], dim[1], dim[2], dim[3]);
    t.ndim = p->ndim;
    return t;
}

d2c_weight
d2c_params_linear(const d2c_params *params, const char *name)
{
    char full[sizeof params->item->name + 8];
    d2c_weight w = {.value = d2c_absent()};
    const d2c_param *p;

    snprintf(full, sizeof full, "%s.weight", name);
    p = d2c_params_find(params, full);
    if (p != NULL) {
        w.value = as_matrix(d2c_params_at(params, p, params->value), D2C_F32, p);
        if (params->shadow != NULL)
            w.shadow = as_matrix(params->shadow + p->offset, D2C_BF16, p);
        w.eight = eight_of(params, p);
        if (params->grad != NULL && p->trainable)
            w.grad = as_matrix(params->grad + p->offset, D2C_F32, p);
    }
    snprintf(full, sizeof full, "%s.bias", name);
    p = d2c_params_find(params, full);
    if (p != NULL) {
        w.bias = d2c_tensor1(d2c_params_at(params, p, params->value), D2C_F32, p->count);
        if (params->shadow != NULL)
            w.bias_shadow = d2c_tensor1(params->shadow + p->offset, D2C_BF16, p->count);
        if (params->grad != NULL && p->trainable)
            w.bias_grad = d2c_tensor1(params->grad + p->offset, D2C_F32, p->count);
    }
    return w;
}

/* ---- loading ------------------------------------------------------------------------------------------------------- */

/* "[3, 4]" */
static void
format_shape(char *text, size_t size, int ndim, const int64_t *dim)
{
    size_t used = 0;
    int i;

    for (i = 0; i < ndim && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i > 0 ? ", " : "[", (long long)dim[i]);
    if (used < size)
        snprintf(text + used, size - used, "%s", ndim > 0 ? "]" : "[]");
}

/* The dims that the parameter has in a file, but for the first of a part. */
static void
dims_in_file(int64_t dim[4], const d2c_param *p)
{
    memcpy(dim, p->dim, 4 * sizeof dim[0]);
    if (p->channels_last) {
        dim[1] = p->dim[3];
        dim[2] = p->dim[1];
        dim[3] = p->dim[2];
    }
}

/* Whether the shapes are the same; a part may have fewer rows, and either may have dims of 1 at its end. */
static int
shape_fits(const d2c_param *p, const d2c_st_tensor *tensor, const int64_t *dim, int in_parts)
{
    int most = tensor->ndim > p->ndim ? tensor->ndim : p->ndim, i;

    for (i = 0; i < most; i++) {
        int64_t has = i < tensor->ndim ? tensor->dim[i] : 1, wanted = i < p->ndim ? dim[i] : 1;

        if (i == 0 && in_parts ? has > wanted : has != wanted)
            return 0;
    }
    return 1;
}

static d2c_status
check_shape(const d2c_param *p, const d2c_st_tensor *tensor, int in_parts, d2c_error *err)
{
    char has[128], wanted[128];
    int64_t dim[4];

    dims_in_file(dim, p);
    if (shape_fits(p, tensor, dim, in_parts))
        return D2C_OK;
    format_shape(has, sizeof has, tensor->ndim, tensor->dim);
    format_shape(wanted, sizeof wanted, p->ndim, dim);
    d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has the wrong shape", tensor->name);
    d2c_detail(err, "It has shape %s; the network needs %s.", has, wanted);
    return D2C_BAD_MODEL;
}

/* out [O, H, W, I] = in [O, I, H, W] */
static void
move_channels_last(float *out, const float *in, const d2c_param *p)
{
    int64_t area = p->dim[1] * p->dim[2], channels = p->dim[3], o, i, at;

    for (o = 0; o < p->dim[0]; o++)
        for (at = 0; at < area; at++)
            for (i = 0; i < channels; i++)
                out[(o * area + at) * channels + i] = in[(o * channels + i) * area + at];
}

/* Where a file's names come from, and room for the largest parameter twice. */
typedef struct loading {
    const d2c_weights *file;
    d2c_naming naming;
    const void *closure;
    float *buffer, *moved;
} loading;

/* The tensors whose rows one after another are the parameter, all of them checked; *count: how many. */
static d2c_status
find_parts(const d2c_st_tensor *part[D2C_NAME_PARTS], int *count, const d2c_param *p, const d2c_weights *file,
           d2c_naming naming, const void *closure, d2c_error *err)
{
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    int64_t filled = 0;
    int i;

    *count = naming(name, p->name, closure);
    if (*count == 0 && p->init == D2C_INIT_GIVEN)
        return D2C_OK;
    for (i = 0; i < *count; i++) {
        part[i] = d2c_weights_find(file, name[i]);
        if (part[i] == NULL)
            return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is missing", name[i]);
        D2C_TRY(check_shape(p, part[i], *count > 1, err));
        if (part[i]->count > p->count - filled)
            break;
        filled += part[i]->count;
    }
    if (i == *count && filled == p->count)
        return D2C_OK;
    return d2c_fail(err, D2C_BAD_MODEL,
                    "tensor \"%s\" and those that go with it have %s rows than the network", name[0],
                    filled == p->count ? "more" : "other");
}

d2c_status
d2c_params_check_named(const d2c_params *params, const d2c_weights *file, d2c_naming naming,
                       const void *closure, d2c_error *err)
{
    const d2c_st_tensor *part[D2C_NAME_PARTS];
    int count, i;

    for (i = 0; i < params->count; i++)
        D2C_TRY(find_parts(part, &count, &params->item[i], file, naming, closure, err));
    return D2C_OK;
}

/* Gathers the parameter's parts in loading->buffer; *parts: how many there are. */
static d2c_status
read_parts(int *parts, const d2c_param *p, const loading *l, d2c_error *err)
{
    const d2c_st_tensor *part[D2C_NAME_PARTS];
    int64_t filled = 0;
    int i;

    D2C_TRY(find_parts(part, parts, p, l->file, l->naming, l->closure, err));
    for (i = 0; i < *parts; i++) {
        D2C_TRY(d2c_st_tensor_to_f32(l->buffer + filled, part[i], part[i]->count, err));
        filled += part[i]->count;
    }
    return D2C_OK;
}

/* The tensor that holds the parameter's values as they are used, f32 and in the network's own order; else NULL. */
static const d2c_st_tensor *
find_whole(const d2c_param *p, const d2c_weights *file, d2c_naming naming, const void *closure)
{
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    const d2c_st_tensor *tensor;

    if (p->channels_last || naming(name, p->name, closure) != 1)
        return NULL;
    tensor = d2c_weights_find(file, name[0]);
    if (tensor == NULL || tensor->dtype != D2C_ST_F32 || check_shape(p, tensor, 0, NULL) != D2C_OK)
        return NULL;
    return tensor;
}

/* Loads what is not mapped. */
static d2c_status
load_one(const d2c_param *p, d2c_backend *be, float *range, const loading *l, d2c_error *err)
{
    const d2c_st_tensor *whole = find_whole(p, l->file, l->naming, l->closure);
    int parts;

    if (p->mapped != NULL)
        return D2C_OK;
    if (whole != NULL)
        return upload_param(be, range, p, whole->data, err);
    D2C_TRY(read_parts(&parts, p, l, err));
    if (parts == 0)
        return D2C_OK;
    if (!p->channels_last)
        return upload_param(be, range, p, l->buffer, err);
    move_channels_last(l->moved, l->buffer, p);
    return upload_param(be, range, p, l->moved, err);
}

d2c_status
d2c_params_load_named(d2c_params *params, d2c_backend *be, float *range, const d2c_weights *file,
                      d2c_naming naming, const void *closure, d2c_error *err)
{
    loading l = {file, naming, closure, host_buffer(params, err), host_buffer(params, err)};
    d2c_status status = l.buffer != NULL && l.moved != NULL ? D2C_OK : D2C_NO_MEMORY;
    int i;

    for (i = 0; i < params->count && status == D2C_OK; i++)
        status = load_one(&params->item[i], be, range, &l, err);
    free(l.buffer);
    free(l.moved);
    D2C_TRY(status);
    return range == params->value ? d2c_params_refresh(params, be, err) : D2C_OK;
}

int
d2c_name_with_prefix(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *prefix)
{
    snprintf(name[0], D2C_NAME_SIZE, "%s%s", (const char *)prefix, parameter);
    return 1;
}

d2c_status
d2c_params_load(d2c_params *params, d2c_backend *be, float *range, const d2c_weights *file,
                const char *prefix, d2c_error *err)
{
    return d2c_params_load_named(params, be, range, file, d2c_name_with_prefix, prefix, err);
}

d2c_status
d2c_params_put(d2c_params *params, d2c_backend *be, float *range, const char *name, const float *values,
               d2c_error *err)
{
    const d2c_param *p = d2c_params_find(params, name);

    if (p == NULL)
        return fail_param(err, name, "does not exist");
    return upload_param(be, range, p, values, err);
}

/* ---- values where the file has them ----------------------------------------------------------------------------------- */

/* The parameter's values in the file, when they can be used there; what does not fit is left to the loading. */
static const float *
find_mapped(const d2c_param *p, const d2c_weights *file, d2c_naming naming, const void *closure)
{
    const d2c_st_tensor *whole = p->group == 0 ? find_whole(p, file, naming, closure) : NULL;

    return whole != NULL && (uintptr_t)whole->data % sizeof(float) == 0 ? whole->data : NULL;
}

/* Lays the range out anew for those that are not mapped.  Nothing of it is trained. */
static void
lay_out_rest(d2c_params *params)
{
    int64_t end = 0;
    int i;

    params->total = params->trainable = 0;
    for (i = 0; i < params->count; i++) {
        d2c_param *p = &params->item[i];

        if (p->mapped != NULL)
            continue;
        p->offset = p->group > 0 && p->group != i + 1 ? end : params->total;
        end = p->offset + p->count;
        params->total = (end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    if (params->total == 0)
        params->total = ALIGNMENT; /* a range, although there is nothing in it */
}

static void
map_values(d2c_params *params, d2c_weights *file, d2c_naming naming, const void *closure)
{
    int mapped = 0, i;

    for (i = 0; i < params->count; i++) {
        params->item[i].mapped = find_mapped(&params->item[i], file, naming, closure);
        mapped |= params->item[i].mapped != NULL;
    }
    if (!mapped)
        return;
    params->file = d2c_weights_hold(file);
    lay_out_rest(params);
}

d2c_status
d2c_params_open(d2c_params *params, d2c_backend *be, d2c_dtype precision, d2c_weights *file,
                d2c_naming naming, const void *closure, d2c_error *err)
{
    D2C_TRY(d2c_params_check_named(params, file, naming, closure, err));
    if (precision == D2C_F32 && d2c_backend_is_host(be))
        map_values(params, file, naming, closure);
    D2C_TRY(d2c_params_allocate(params, be, precision != D2C_F32, 0, err));
    if (precision == D2C_F8)
        D2C_TRY(d2c_params_allocate_eight(params, be, err));
    return d2c_params_load_named(params, be, params->value, file, naming, closure, err);
}
