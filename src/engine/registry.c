/*
 * registry.c: the models that the engine holds.
 *
 * One lock guards the table.  Files are read and hashed outside it: the thread that does so claims the entry, and
 * whoever wants the same model waits.  A claimed entry is changed by its claimer alone.  Entries are never removed, they
 * keep the pin; what comes and goes is `loaded`.
 */
#include "engine/registry.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct d2c_loaded {
    d2c_model *model;
    int users; /* the registry counts as one until it lets go */
    int retired;
    size_t bytes;
};

typedef struct entry {
    struct entry *next;
    char name[128];
    char sha256[65]; /* pinned; "" before */
    d2c_model_identity identity;
    int busy; /* a thread reads its file */
    d2c_loaded *loaded;
    uint64_t used; /* the registry's clock at the last use */
} entry;

struct d2c_registry {
    pthread_mutex_t lock;
    pthread_cond_t settled; /* an entry is no longer busy */
    entry *entries;
    uint64_t clock;
    size_t bytes; /* of everything in memory, retired models in use included */
    size_t limit;
    d2c_dtype precision;
    void (*released)(void *closure);
    void *closure;
    char directory[4096];
};

d2c_status
d2c_registry_create(d2c_registry **registry, const char *directory, d2c_dtype precision, size_t memory_limit,
                    void (*released)(void *closure), void *closure, d2c_error *err)
{
    d2c_registry *r = calloc(1, sizeof *r);

    if (r == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    if (snprintf(r->directory, sizeof r->directory, "%s", directory) >= (int)sizeof r->directory) {
        free(r);
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "name of the model directory is too long");
    }
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->settled, NULL);
    r->precision = precision;
    r->limit = memory_limit;
    r->released = released;
    r->closure = closure;
    *registry = r;
    return D2C_OK;
}

static d2c_status
not_found(const d2c_registry *registry, const char *name, d2c_error *err)
{
    d2c_fail(err, D2C_NOT_FOUND, "model \"%s\" does not exist", name);
    d2c_detail(err, "There is neither \"%s.safetensors\", .pt or .pth nor a folder \"%s\" in \"%s\".", name,
               name, registry->directory);
    d2c_hint(err, "SELECT * FROM d2c_models() lists the models; d2c.model_directory names their folder.");
    return D2C_NOT_FOUND;
}

/* Finds the files of the model's weights and what tells whether they changed. */
static d2c_status
find_identity(d2c_model_identity *identity, const d2c_registry *registry, const char *name, d2c_error *err)
{
    d2c_model_files files;
    d2c_status status = d2c_model_files_find(&files, registry->directory, name, err);

    if (status == D2C_NOT_FOUND)
        return not_found(registry, name, err);
    D2C_TRY(status);
    return d2c_model_files_identity(identity, &files, err);
}

static int
is_as_pinned(const entry *e, const d2c_model_identity *identity)
{
    return strcmp(identity->digest, e->identity.digest) == 0;
}

/* Finds or makes the entry of a name that has been checked; the lock is held.  NULL when out of memory. */
static entry *
find_entry(d2c_registry *registry, const char *name)
{
    entry *e;

    for (e = registry->entries; e != NULL; e = e->next)
        if (strcmp(e->name, name) == 0)
            return e;
    e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    snprintf(e->name, sizeof e->name, "%s", name);
    e->next = registry->entries;
    registry->entries = e;
    return e;
}

/* Waits until nobody reads the entry's file, then claims it; the lock is held. */
static void
claim(d2c_registry *registry, entry *e)
{
    while (e->busy)
        pthread_cond_wait(&registry->settled, &registry->lock);
    e->busy = 1;
}

static void
unclaim(d2c_registry *registry, entry *e)
{
    e->busy = 0;
    pthread_cond_broadcast(&registry->settled);
}

/* Pins the sha256 of a claimed entry, or compares when the file may have changed.  The lock is not held. */
static d2c_status
check_pin(d2c_registry *registry, entry *e, d2c_error *err)
{
    d2c_model_identity identity;
    char sha256[65];

    D2C_TRY(find_identity(&identity, registry, e->name, err));
    if (e->sha256[0] != '\0' && is_as_pinned(e, &identity))
        return D2C_OK;
    D2C_TRY(d2c_model_sha256(sha256, registry->directory, e->name, err));
    if (e->sha256[0] != '\0' && strcmp(sha256, e->sha256) != 0) {
        d2c_fail(err, D2C_BAD_MODEL, "a file of model \"%s\" was replaced", e->name);
        d2c_detail(
            err,
            "Its sha256 was %.16s... and is %.16s...; a model never changes under its name: neither its "
            "weights nor what describes them.",
            e->sha256, sha256);
        d2c_hint(err,
                 "Give the new model a name of its own, or call d2c_engine_stop() to forget the old one.");
        return D2C_BAD_MODEL;
    }
    pthread_mutex_lock(&registry->lock);
    memcpy(e->sha256, sha256, sizeof e->sha256);
    e->identity = identity;
    pthread_mutex_unlock(&registry->lock);
    return D2C_OK;
}

/* Lets the entry's model go; it is freed by its last user.  Returns it when that is the caller.  The lock is held. */
static d2c_loaded *
retire(entry *e)
{
    d2c_loaded *loaded = e->loaded;

    e->loaded = NULL;
    loaded->retired = 1;
    return --loaded->users == 0 ? loaded : NULL;
}

/* Counts the memory down and frees; the lock is not held. */
static void
free_loaded(d2c_registry *registry, d2c_loaded *loaded, d2c_backend *be)
{
    pthread_mutex_lock(&registry->lock);
    registry->bytes -= loaded->bytes;
    pthread_mutex_unlock(&registry->lock);
    d2c_model_close(loaded->model, be);
    free(loaded);
}

static int
is_in(const char *name, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(name, *list) == 0)
            return 1;
    return 0;
}

/* Of those in memory but the names of `keep`.  Claimed entries stay as they are: their claimer relies on it. */
static entry *
least_recently_used(d2c_registry *registry, const char *const *keep)
{
    entry *e, *oldest = NULL;

    for (e = registry->entries; e != NULL; e = e->next)
        if (!e->busy && e->loaded != NULL && !is_in(e->name, keep) &&
            (oldest == NULL || e->used < oldest->used))
            oldest = e;
    return oldest;
}

/* Lets models go, oldest first, until `bytes` more fit. */
static void
make_room(d2c_registry *registry, size_t bytes, d2c_backend *be)
{
    static const char *const nothing[] = {NULL};
    int any = 0;

    for (;;) {
        d2c_loaded *unused = NULL;
        entry *oldest = NULL;
        size_t held = 0;
        const entry *e;

        pthread_mutex_lock(&registry->lock);
        for (e = registry->entries; e != NULL; e = e->next)
            held += e->loaded != NULL ? e->loaded->bytes : 0;
        if (held + bytes > registry->limit)
            oldest = least_recently_used(registry, nothing);
        if (oldest != NULL)
            unused = retire(oldest);
        pthread_mutex_unlock(&registry->lock);
        if (unused != NULL)
            free_loaded(registry, unused, be);
        if (oldest == NULL)
            break;
        any = 1;
    }
    if (any && registry->released != NULL)
        registry->released(registry->closure);
}

int
d2c_registry_let_go(d2c_registry *registry, const char *const *keep, d2c_backend *be)
{
    d2c_loaded *unused = NULL;
    entry *oldest;

    pthread_mutex_lock(&registry->lock);
    oldest = least_recently_used(registry, keep);
    if (oldest != NULL)
        unused = retire(oldest);
    pthread_mutex_unlock(&registry->lock);
    if (unused != NULL)
        free_loaded(registry, unused, be);
    if (oldest != NULL && registry->released != NULL)
        registry->released(registry->closure);
    return oldest != NULL;
}

static d2c_status
too_large(const d2c_registry *registry, const char *name, size_t bytes, d2c_error *err)
{
    d2c_fail(err, D2C_NO_MEMORY, "model \"%s\" does not fit the engine's memory", name);
    d2c_detail(err, "It takes %zu MB, the limit is %zu MB.", bytes >> 20, registry->limit >> 20);
    d2c_hint(err, "Raise d2c.engine_memory.");
    return D2C_NO_MEMORY;
}

/* The pinned digest is that of the file which was there when it was computed: the one read since must be the same. */
static d2c_status
check_unchanged(const d2c_registry *registry, const entry *e, d2c_error *err)
{
    d2c_model_identity identity;

    if (find_identity(&identity, registry, e->name, NULL) == D2C_OK && is_as_pinned(e, &identity))
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "a file of model \"%s\" was replaced while it was read", e->name);
    d2c_hint(err, "Give the new model a name of its own.");
    return D2C_BAD_MODEL;
}

/* Opens a claimed entry's model with the digest that is pinned. */
static d2c_status
open_pinned(d2c_model **model, const d2c_registry *registry, const entry *e, d2c_backend *be, d2c_error *err)
{
    d2c_status status;

    D2C_TRY(
        d2c_model_open_known(model, be, registry->directory, e->name, e->sha256, registry->precision, err));
    status = check_unchanged(registry, e, err);
    if (status != D2C_OK)
        d2c_model_close(*model, be);
    return status;
}

/* Reads a claimed entry's file into memory; the lock is not held. */
static d2c_status
load(d2c_registry *registry, entry *e, d2c_backend *be, d2c_error *err)
{
    d2c_loaded *loaded;
    d2c_status status;
    size_t needed;

    D2C_TRY(d2c_model_needs(&needed, registry->directory, e->name, registry->precision, err));
    if (needed > registry->limit)
        return too_large(registry, e->name, needed, err);
    make_room(registry, needed, be);
    loaded = calloc(1, sizeof *loaded);
    if (loaded == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = open_pinned(&loaded->model, registry, e, be, err);
    if (status != D2C_OK) {
        free(loaded);
        return status;
    }
    loaded->bytes = d2c_model_bytes(loaded->model);
    if (loaded->bytes > registry->limit) {
        status = too_large(registry, e->name, loaded->bytes, err);
        d2c_model_close(loaded->model, be);
        free(loaded);
        return status;
    }
    make_room(registry, loaded->bytes, be);
    pthread_mutex_lock(&registry->lock);
    loaded->users = 1;
    registry->bytes += loaded->bytes;
    e->loaded = loaded;
    pthread_mutex_unlock(&registry->lock);
    return D2C_OK;
}

/* A failure to get a model is never the row's fault, whatever the reader called it. */
static d2c_status
blame_model(d2c_status status, d2c_error *err)
{
    if (status == D2C_INVALID_ARGUMENT)
        status = D2C_NOT_FOUND;
    else if (status == D2C_BAD_DATA || status == D2C_UNSUPPORTED)
        status = D2C_BAD_MODEL;
    else if (status == D2C_TOO_LARGE)
        status = D2C_NO_MEMORY;
    err->status = status;
    return status;
}

static d2c_status
check_role(const d2c_model *model, d2c_role role, d2c_error *err)
{
    if (role == D2C_ROLE_ANY || model->info.role == role)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" is of the wrong kind", model->info.name);
    d2c_detail(err, "It is of kind \"%s\"; this function needs %s.", model->info.kind, d2c_role_name(role));
    d2c_hint(err, "SELECT name, kind FROM d2c_models() lists the models.");
    return D2C_BAD_MODEL;
}

d2c_status
d2c_registry_acquire(d2c_registry *registry, d2c_loaded **loaded, const char *name, d2c_role role,
                     d2c_backend *be, d2c_error *err)
{
    d2c_status status = d2c_model_name_check(name, err);
    entry *e;

    if (status != D2C_OK)
        return blame_model(status, err);
    pthread_mutex_lock(&registry->lock);
    e = find_entry(registry, name);
    if (e == NULL) {
        pthread_mutex_unlock(&registry->lock);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    claim(registry, e);
    pthread_mutex_unlock(&registry->lock);

    status = check_pin(registry, e, err);
    if (status == D2C_OK && e->loaded == NULL)
        status = load(registry, e, be, err);

    pthread_mutex_lock(&registry->lock);
    if (status == D2C_OK)
        status = check_role(e->loaded->model, role, err);
    if (status == D2C_OK) {
        e->used = ++registry->clock;
        e->loaded->users++;
        *loaded = e->loaded;
    }
    unclaim(registry, e);
    pthread_mutex_unlock(&registry->lock);
    return status == D2C_OK ? D2C_OK : blame_model(status, err);
}

void
d2c_loaded_release(d2c_registry *registry, d2c_loaded *loaded, d2c_backend *be)
{
    int last;

    pthread_mutex_lock(&registry->lock);
    last = --loaded->users == 0;
    pthread_mutex_unlock(&registry->lock);
    if (last)
        free_loaded(registry, loaded, be);
}

d2c_model *
d2c_loaded_model(const d2c_loaded *loaded)
{
    return loaded->model;
}

int
d2c_loaded_is_retired(d2c_registry *registry, const d2c_loaded *loaded)
{
    int retired;

    pthread_mutex_lock(&registry->lock);
    retired = loaded->retired;
    pthread_mutex_unlock(&registry->lock);
    return retired;
}

/* Fills one line's sha256 from its pin, and tells a file that was replaced. */
static void
describe(d2c_registry *registry, d2c_model_info *info, int *loaded)
{
    d2c_error trouble;
    entry *e;

    *loaded = 0;
    pthread_mutex_lock(&registry->lock);
    e = find_entry(registry, info->name);
    if (e != NULL)
        claim(registry, e);
    pthread_mutex_unlock(&registry->lock);
    if (e == NULL)
        return;
    if (check_pin(registry, e, &trouble) != D2C_OK && info->problem[0] == '\0')
        snprintf(info->problem, sizeof info->problem, "%s", trouble.message);
    pthread_mutex_lock(&registry->lock);
    memcpy(info->sha256, e->sha256, sizeof info->sha256);
    *loaded = e->loaded != NULL;
    unclaim(registry, e);
    pthread_mutex_unlock(&registry->lock);
}

d2c_status
d2c_registry_list(d2c_registry *registry, d2c_model_info **list, int **loaded, int *count, d2c_error *err)
{
    int i;

    D2C_TRY(d2c_model_list(list, count, registry->directory, 0, err));
    *loaded = calloc((size_t)*count + 1, sizeof **loaded);
    if (*loaded == NULL) {
        free(*list);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    for (i = 0; i < *count; i++)
        describe(registry, &(*list)[i], &(*loaded)[i]);
    return D2C_OK;
}

const char *
d2c_registry_directory(const d2c_registry *registry)
{
    return registry->directory;
}

d2c_registry_use
d2c_registry_usage(d2c_registry *registry)
{
    d2c_registry_use use = {0, 0, registry->limit};
    const entry *e;

    pthread_mutex_lock(&registry->lock);
    use.bytes = registry->bytes;
    for (e = registry->entries; e != NULL; e = e->next)
        use.models += e->loaded != NULL;
    pthread_mutex_unlock(&registry->lock);
    return use;
}
