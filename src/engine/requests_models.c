/* requests_models.c: what is asked about models. */
#include "engine/requests.h"

#include <stdlib.h>

#include "nn/vae_choice.h"

static void
put_info(d2c_buffer *out, const d2c_model_info *info, int loaded)
{
    d2c_put_string(out, info->name);
    d2c_put_string(out, info->kind);
    d2c_put_i64(out, info->parameters);
    d2c_put_u32(out, (uint32_t)info->width);
    d2c_put_u32(out, (uint32_t)info->height);
    d2c_put_u32(out, (uint32_t)info->channels);
    d2c_put_u32(out, (uint32_t)info->classes);
    d2c_put_u32(out, (uint32_t)info->embedding);
    d2c_put_string(out, info->sha256);
    d2c_put_u32(out, (uint32_t)loaded);
    d2c_put_string(out, info->problem);
}

d2c_status
d2c_request_models(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    d2c_model_info *list;
    int *loaded, count, i;

    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(d2c_registry_list(d2c_worker_pool(worker)->registry, &list, &loaded, &count, err));
    d2c_put_u32(out, (uint32_t)count);
    for (i = 0; i < count; i++)
        put_info(out, &list[i], loaded[i]);
    free(list);
    free(loaded);
    return D2C_OK;
}

/* The autoencoder that makes the model's latents of images. */
static void
put_vae(d2c_buffer *out, const d2c_pool *pool, const d2c_model *model)
{
    char name[D2C_MODEL_NAME_SIZE] = "";

    if (d2c_takes_latents(model))
        d2c_vae_choose(name, model, d2c_registry_directory(pool->registry), NULL);
    d2c_put_string(out, name);
}

d2c_status
d2c_request_provenance(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    const d2c_pool *pool = d2c_worker_pool(worker);
    const d2c_model_info *info;
    d2c_loaded *loaded;
    char model[D2C_MODEL_NAME_SIZE];

    D2C_TRY(d2c_read_model_name(model, in, err));
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(d2c_worker_model(worker, &loaded, model, D2C_ROLE_ANY, err));
    info = &d2c_loaded_model(loaded)->info;
    d2c_put_string(out, info->sha256);
    d2c_put_string(out, info->kind);
    d2c_put_u32(out, (uint32_t)info->width);
    d2c_put_u32(out, (uint32_t)info->height);
    d2c_put_u32(out, (uint32_t)info->channels);
    d2c_put_u32(out, (uint32_t)info->classes);
    d2c_put_u32(out, (uint32_t)info->embedding);
    d2c_put_string(out, pool->device);
    d2c_put_string(out, pool->precision);
    d2c_put_string(out, pool->build);
    put_vae(out, pool, d2c_loaded_model(loaded));
    d2c_loaded_release(pool->registry, loaded, d2c_worker_backend(worker));
    return D2C_OK;
}
