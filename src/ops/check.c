/* check.c: dtypes, shapes and strides of an op's tensors (check.h). */
#include "ops/check.h"

#include <stdio.h>
#include <string.h>

static const char *
dtype_name(d2c_dtype dtype)
{
    static const char *const names[] = {"f32", "bf16", "i64", "u8", "f16", "f64", "f8"};

    return (unsigned)dtype < sizeof names / sizeof names[0] ? names[dtype] : "unknown";
}

/* Writes numbers as "[2, 3]" behind a prefix. */
static int
print_numbers(char *text, size_t size, const char *prefix, int ndim, const int64_t *number)
{
    int used = snprintf(text, size, "%s[", prefix);
    int i;

    for (i = 0; i < ndim && (size_t)used < size; i++)
        used += snprintf(text + used, size - used, "%s%lld", i == 0 ? "" : ", ", (long long)number[i]);
    if ((size_t)used < size)
        used += snprintf(text + used, size - used, "]");
    return used;
}

static int
is_dense(const d2c_tensor *t)
{
    int64_t stride = 1;
    int i;

    for (i = t->ndim - 1; i >= 0; i--) {
        if ((t->dim[i] != 1 && t->stride[i] != stride) || __builtin_mul_overflow(stride, t->dim[i], &stride))
            return 0;
    }
    return 1;
}

/* Writes "x f32 [2, 3], y absent" into the error's detail. */
static void
describe(const d2c_op_call *call)
{
    char text[sizeof call->be->error.detail];
    size_t used = 0;
    int i;

    text[0] = '\0';
    for (i = 0; i < call->count && used < sizeof text; i++) {
        const d2c_tensor *t = call->arg[i].tensor;

        used += snprintf(text + used, sizeof text - used, "%s%s %s", i == 0 ? "" : ", ", call->arg[i].name,
                         t->data == NULL ? "absent" : dtype_name(t->dtype));
        if (t->data == NULL || t->ndim < 1 || t->ndim > D2C_MAX_DIMS)
            continue;
        if (used < sizeof text)
            used += print_numbers(text + used, sizeof text - used, " ", t->ndim, t->dim);
        if (used < sizeof text && !is_dense(t))
            used += print_numbers(text + used, sizeof text - used, " strides ", t->ndim, t->stride);
    }
    d2c_detail(&call->be->error, "Tensors: %s.", text);
}

d2c_status
d2c_op_require(const d2c_op_call *call, int holds, const char *rule)
{
    if (holds)
        return D2C_OK;
    d2c_fail(&call->be->error, D2C_INTERNAL, "operation %s: %s", call->op, rule);
    describe(call);
    return D2C_INTERNAL;
}

static d2c_status
complain(const d2c_op_call *call, const d2c_op_arg *arg, const char *what)
{
    char rule[128];

    snprintf(rule, sizeof rule, "tensor %s %s", arg->name, what);
    return d2c_op_require(call, 0, rule);
}

/* Every dim is at least 1 and the whole is addressable. */
static int
has_sane_dims(const d2c_tensor *t)
{
    int64_t bytes = (int64_t)d2c_dtype_size(t->dtype);
    int i;

    if (t->ndim < 1 || t->ndim > D2C_MAX_DIMS)
        return 0;
    for (i = 0; i < t->ndim; i++)
        if (t->dim[i] < 1 || __builtin_mul_overflow(bytes, t->dim[i], &bytes))
            return 0;
    return 1;
}

/* Makes one dim of dims i and i + 1; false when their strides do not allow it. */
static int
join(d2c_tensor *t, int i)
{
    int64_t step;
    int j;

    if (t->dim[i + 1] == 1)
        t->stride[i + 1] = t->stride[i];
    else if (t->dim[i] != 1 &&
             (__builtin_mul_overflow(t->dim[i + 1], t->stride[i + 1], &step) || t->stride[i] != step))
        return 0;
    t->dim[i + 1] *= t->dim[i];
    for (j = i; j + 1 < t->ndim; j++) {
        t->dim[j] = t->dim[j + 1];
        t->stride[j] = t->stride[j + 1];
    }
    t->ndim--;
    return 1;
}

/* Adds a dim of size 1 in front or at the end. */
static void
pad(d2c_tensor *t, unsigned flags)
{
    if (flags & ARG_LEAD) {
        memmove(t->dim + 1, t->dim, t->ndim * sizeof *t->dim);
        memmove(t->stride + 1, t->stride, t->ndim * sizeof *t->stride);
    }
    t->dim[flags & ARG_LEAD ? 0 : t->ndim] = 1;
    t->ndim++;
}

/* Joins or pads to ndim dims; false when the strides do not allow it. */
static int
reshape(d2c_tensor *t, int ndim, unsigned flags)
{
    while (t->ndim > ndim)
        if (!join(t, flags & ARG_LEAD ? 0 : t->ndim - 2))
            return 0;
    while (t->ndim < ndim)
        pad(t, flags);
    return 1;
}

/* Dense, or as the flags allow; dims of size 1 get the stride of a dense tensor. */
static int
settle_strides(d2c_tensor *t, unsigned flags)
{
    int64_t stride = 1;
    int i;

    for (i = t->ndim - 1; i >= 0; i--) {
        int last = i == t->ndim - 1;

        if (t->dim[i] == 1)
            t->stride[i] = stride;
        else if (t->stride[i] != stride &&
                 (last || !(flags & (ARG_STRIDED | ARG_BROADCAST)) ||
                  ((flags & ARG_STRIDED) && t->stride[i] < stride) || t->stride[i] < 0))
            return 0;
        stride *= t->dim[i];
    }
    return 1;
}

static d2c_status
check_shape(d2c_op_call *call, const d2c_op_arg *arg)
{
    int i;

    for (i = 0; arg->shape[i] != '\0'; i++) {
        char letter = arg->shape[i];
        int64_t *size = letter >= 'A' ? &call->size[letter - 'A'] : NULL;
        int64_t wanted = size == NULL ? letter - '0' : *size;

        if (size != NULL && *size == 0)
            *size = arg->tensor->dim[i];
        else if (arg->tensor->dim[i] != wanted) {
            char what[64];

            snprintf(what, sizeof what, "should have size %lld in dimension %d", (long long)wanted, i + 1);
            return complain(call, arg, what);
        }
    }
    return D2C_OK;
}

static d2c_status
check_arg(d2c_op_call *call, const d2c_op_arg *arg)
{
    int ndim = (int)strlen(arg->shape);
    d2c_tensor *t = arg->tensor;
    d2c_tensor shaped;

    if (t->data == NULL) {
        *t = d2c_absent();
        return arg->flags & ARG_OPTIONAL ? D2C_OK : complain(call, arg, "is absent");
    }
    if ((unsigned)t->dtype > D2C_F8 || !(arg->flags & (1u << t->dtype)))
        return complain(call, arg, "has the wrong type");
    if ((t->dtype == D2C_F8) != (t->scale != NULL))
        return complain(call, arg, "has a scale without being f8, or none although it is");
    if (!has_sane_dims(t))
        return complain(call, arg, "has impossible dimensions");
    shaped = *t;
    if (t->ndim != ndim && !(arg->flags & (ARG_LEAD | ARG_TRAIL)))
        return complain(call, arg, "has the wrong number of dimensions");
    if (!reshape(&shaped, ndim, arg->flags) || !settle_strides(&shaped, arg->flags))
        return complain(call, arg, "has strides that this operation does not take");
    *t = shaped;
    return check_shape(call, arg);
}

d2c_status
d2c_op_check(d2c_op_call *call)
{
    int i;

    for (i = 0; i < call->count; i++)
        D2C_TRY(check_arg(call, &call->arg[i]));
    return D2C_OK;
}

int64_t
d2c_op_size(const d2c_op_call *call, char letter)
{
    return call->size[letter - 'A'];
}
