/* model.c: describing, listing and opening the models of a directory. */
#include "nn/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fills all but name and sha256. */
static d2c_status
describe(d2c_model_info *info, const d2c_family **family, const d2c_model_files *files, d2c_error *err)
{
    *family = d2c_family_of(files);
    if (*family == NULL) {
        d2c_fail(err, D2C_BAD_MODEL, "the tensors are those of no known kind of model");
        d2c_hint(err, "The README lists the kinds, and the files in which each comes.");
        return D2C_BAD_MODEL;
    }
    info->kind = (*family)->kind;
    info->role = (*family)->role;
    return (*family)->describe(info, files, err);
}

/* Finds, opens and describes; what has become known before a failure stays in *info.  *files is the caller's to close. */
static d2c_status
inspect(d2c_model_info *info, const d2c_family **family, d2c_model_files *files, const char *directory,
        const char *name, int with_sha256, d2c_error *err)
{
    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, "%s", name);
    info->kind = "unknown";
    D2C_TRY(d2c_model_files_find(files, directory, name, err));
    if (with_sha256)
        D2C_TRY(d2c_model_files_sha256(info->sha256, files, err));
    D2C_TRY(d2c_model_files_open(files, err));
    return describe(info, family, files, err);
}

/* ---- listing ------------------------------------------------------------------------------------------------------- */

/* Describes one model; what is wrong with it becomes its problem. */
static void
describe_for_list(d2c_model_info *info, const char *directory, const char *name, int with_sha256)
{
    const d2c_family *family;
    d2c_error err, whole;
    d2c_model_files files = {.weights = NULL};
    d2c_status status = inspect(info, &family, &files, directory, name, with_sha256, &err);

    d2c_model_files_close(&files);
    if (status == D2C_OK)
        return;
    d2c_fail(&whole, err.status, "%s%s%s", err.message, err.detail[0] != '\0' ? ": " : "", err.detail);
    memcpy(info->problem, whole.message, sizeof info->problem);
}

d2c_status
d2c_model_list(d2c_model_info **list, int *count, const char *directory, int with_sha256, d2c_error *err)
{
    d2c_model_name *names;
    int i;

    *list = NULL;
    D2C_TRY(d2c_model_names(&names, count, directory, err));
    *list = calloc((size_t)*count + 1, sizeof **list);
    for (i = 0; *list != NULL && i < *count; i++)
        describe_for_list(&(*list)[i], directory, names[i], with_sha256);
    free(names);
    return *list != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

d2c_status
d2c_model_sha256(char out[65], const char *directory, const char *name, d2c_error *err)
{
    d2c_model_files files;

    out[0] = '\0';
    D2C_TRY(d2c_model_files_find(&files, directory, name, err));
    return d2c_model_files_sha256(out, &files, err);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

/* The uploads are this backend's; whoever uses the weights on another stream must find them there. */
static d2c_status
finish_loading(d2c_backend *be, d2c_error *err)
{
    return d2c_synchronize(be) == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

/* The other model that the description names under the key. */
static d2c_status
read_partner(d2c_model_name partner, const d2c_model_files *files, const char *key, d2c_error *err)
{
    const char *name = d2c_model_files_say(files, key);

    if (name == NULL)
        return D2C_OK;
    if (d2c_model_name_check(name, err) != D2C_OK)
        return err->status = D2C_BAD_MODEL;
    snprintf(partner, sizeof(d2c_model_name), "%s", name);
    return D2C_OK;
}

/* sha256 NULL: it is computed. */
static d2c_status
open_model(d2c_model *m, d2c_model_files *files, d2c_backend *be, const char *directory, const char *name,
           const char *sha256, d2c_dtype precision, d2c_error *err)
{
    D2C_TRY(inspect(&m->info, &m->family, files, directory, name, sha256 == NULL, err));
    if (sha256 != NULL)
        snprintf(m->info.sha256, sizeof m->info.sha256, "%s", sha256);
    D2C_TRY(read_partner(m->vae, files, "vae", err));
    D2C_TRY(read_partner(m->text_model, files, "text_model", err));
    D2C_TRY(m->family->open(&m->network, be, files, precision, err));
    return finish_loading(be, err);
}

d2c_status
d2c_model_open_known(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
                     const char *sha256, d2c_dtype precision, d2c_error *err)
{
    d2c_model *m = calloc(1, sizeof *m);
    d2c_model_files files = {.weights = NULL};
    d2c_status status;

    *model = NULL;
    if (m == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = open_model(m, &files, be, directory, name, sha256, precision, err);
    d2c_model_files_close(&files);
    if (status == D2C_BAD_MODEL || status == D2C_UNSUPPORTED)
        d2c_error_prefix(err, "could not open model \"%s\"", name);
    if (status != D2C_OK) {
        d2c_model_close(m, be);
        return status;
    }
    *model = m;
    return D2C_OK;
}

d2c_status
d2c_model_open(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
               d2c_dtype precision, d2c_error *err)
{
    return d2c_model_open_known(model, be, directory, name, NULL, precision, err);
}

d2c_status
d2c_model_needs(size_t *bytes, const char *directory, const char *name, d2c_dtype precision, d2c_error *err)
{
    size_t each = precision == D2C_F32    ? 4
                  : precision == D2C_BF16 ? 6
                                          : 7; /* f32, and the copies for products */
    d2c_model_files files = {.weights = NULL};
    const d2c_family *family;
    d2c_model_info info;
    d2c_status status = inspect(&info, &family, &files, directory, name, 0, err);

    d2c_model_files_close(&files);
    *bytes = (size_t)info.parameters * each;
    if (status == D2C_BAD_MODEL || status == D2C_UNSUPPORTED)
        d2c_error_prefix(err, "could not open model \"%s\"", name);
    return status;
}

void
d2c_model_close(d2c_model *model, d2c_backend *be)
{
    if (model == NULL)
        return;
    if (model->network != NULL)
        model->family->close(model->network, be);
    free(model);
}

size_t
d2c_model_bytes(const d2c_model *model)
{
    return d2c_params_bytes(model->family->params(model->network));
}

d2c_sit *
d2c_model_sit(const d2c_model *model)
{
    return model->family->role == D2C_ROLE_DENOISER ? model->network : NULL;
}
