/*
 * registry.h: the models that the engine holds.
 *
 * A model is loaded at its first use and shared by all threads.  When the memory budget is exceeded, the models that
 * have gone unused longest are let go.  The sha256 of a model's file is pinned when it is first seen: a file replaced
 * under the same name is refused until the engine restarts, so a name never means two models in one engine's life.
 */
#ifndef D2C_ENGINE_REGISTRY_H
#define D2C_ENGINE_REGISTRY_H

#include "nn/model.h"

typedef struct d2c_registry d2c_registry;
typedef struct d2c_loaded d2c_loaded; /* a model in memory, counted */

/* memory_limit in bytes.  released is called, without locks held, after a model was let go. */
d2c_status d2c_registry_create(d2c_registry **registry, const char *directory, d2c_dtype precision,
                               size_t memory_limit, void (*released)(void *closure), void *closure,
                               d2c_error *err);

const char *d2c_registry_directory(const d2c_registry *registry);

/* The model of that name and role, loaded when need be; give it back with d2c_loaded_release.  Failures are NOT_FOUND,
 * BAD_MODEL, NO_MEMORY, IO, DEVICE or INTERNAL: never a status that blames the row. */
d2c_status d2c_registry_acquire(d2c_registry *registry, d2c_loaded **loaded, const char *name, d2c_role role,
                                d2c_backend *be, d2c_error *err);
void d2c_loaded_release(d2c_registry *registry, d2c_loaded *loaded, d2c_backend *be);
d2c_model *d2c_loaded_model(const d2c_loaded *loaded);
/* Lets the least recently used model go but for those of `keep`, a list of names that ends with NULL; false when there is
 * none.  Its memory is free once its users have released it. */
int d2c_registry_let_go(d2c_registry *registry, const char *const *keep, d2c_backend *be);
/* True once the registry let it go: users should release it. */
int d2c_loaded_is_retired(d2c_registry *registry, const d2c_loaded *loaded);

/* The directory's models, sorted by name, sha256 filled in from the pins; malloc'd.  loaded [count]: is in memory. */
d2c_status d2c_registry_list(d2c_registry *registry, d2c_model_info **list, int **loaded, int *count,
                             d2c_error *err);

typedef struct d2c_registry_use {
    int models;
    size_t bytes, limit;
} d2c_registry_use;

d2c_registry_use d2c_registry_usage(d2c_registry *registry);

#endif
