/* dispatch.h: calling a backend's table, for the ops_*.c files. */
#ifndef D2C_OPS_DISPATCH_H
#define D2C_OPS_DISPATCH_H

#include "ops/ops.h"

/* Whether the backend, which may be older than this table, has the entry. */
#define D2C_HAS(be, entry)                                                                                   \
    (offsetof(d2c_ops, entry) + sizeof((be)->ops->entry) <= (be)->ops->size && (be)->ops->entry != NULL)

/* Calls the entry of a checked op. */
#define D2C_DISPATCH(be, entry, ...)                                                                         \
    (D2C_HAS(be, entry) ? (be)->ops->entry(be, __VA_ARGS__)                                                  \
                        : d2c_fail(&(be)->error, D2C_UNSUPPORTED, "backend %s has no operation %s",          \
                                   (be)->ops->name, #entry))

#endif
