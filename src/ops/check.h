/*
 * check.h: the one place where ops.c says which tensors an op takes.
 *
 * An op lists its tensors with their shapes as text, a letter for each dim: "BTC".  A letter has one size within an
 * op; a digit stands for itself.  The check also brings each view into exactly that shape, so that backends see
 * nothing else.
 */
#ifndef D2C_OPS_CHECK_H
#define D2C_OPS_CHECK_H

#include "ops/ops.h"

enum {
    ARG_F32 = 1 << D2C_F32,
    ARG_BF16 = 1 << D2C_BF16,
    ARG_I64 = 1 << D2C_I64,
    ARG_F16 = 1 << D2C_F16,
    ARG_F8 = 1 << D2C_F8,
    ARG_FLOAT = ARG_F32 | ARG_BF16,
    ARG_OPTIONAL = 0x100,  /* may be absent */
    ARG_STRIDED = 0x200,   /* [rows, width] whose rows may be strided */
    ARG_BROADCAST = 0x400, /* stride 0 is allowed in all dims but the last */
    ARG_LEAD = 0x800,      /* leading dims are joined; missing ones are 1 */
    ARG_TRAIL = 0x1000     /* trailing dims are joined; missing ones are 1 */
};

typedef struct d2c_op_arg {
    const char *name;
    d2c_tensor *tensor;
    const char *shape;
    unsigned flags;
} d2c_op_arg;

typedef struct d2c_op_call {
    d2c_backend *be;
    const char *op;
    const d2c_op_arg *arg;
    int count;
    int64_t size[26]; /* by letter; 0: not yet known */
} d2c_op_call;

#define D2C_OP_CALL(be, op, args)                                                                            \
    {                                                                                                        \
        be, op, args, (int)(sizeof args / sizeof args[0]),                                                   \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }

/* Checks and reshapes every tensor; fills call->size. */
d2c_status d2c_op_check(d2c_op_call *call);

/* The size of a letter. */
int64_t d2c_op_size(const d2c_op_call *call, char letter);

/* D2C_OK when the rule holds; otherwise an error with the op, the rule and every shape. */
d2c_status d2c_op_require(const d2c_op_call *call, int holds, const char *rule);

static inline int
d2c_op_is_act(d2c_act act)
{
    return (unsigned)act <= D2C_ACT_GELU_QUICK;
}

#endif
