/* requests_latent.c: what autoencoders compute, for whoever asks for latents and for diffusion models that take them. */
#include <stdlib.h>

#include "engine/requests.h"
#include "nn/vae.h"
#include "nn/vae_choice.h"

static int
is_drawable(int channels)
{
    return channels == 1 || channels == 3;
}

/* Whether what enters and leaves the autoencoder are pictures. */
static d2c_status
check_takes_pictures(const d2c_model *model, const d2c_vae_config *c, d2c_error *err)
{
    if (is_drawable(c->in_channels) && is_drawable(c->out_channels))
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" does not take images", model->info.name);
    d2c_detail(err, "It makes %d channels of %d; images have 1 or 3.", c->out_channels, c->in_channels);
    return D2C_BAD_MODEL;
}

/* moments [2 latent, h, w] of the picture's posterior, mean first; malloc'd, NULL after a failure. */
static d2c_status
encode(float **moments, d2c_worker *worker, const d2c_vae *vae, const char *bytes, size_t length, int size,
       d2c_error *err)
{
    const d2c_vae_config *c = &vae->config;
    int side = size / d2c_vae_factor(c);
    size_t count = (size_t)c->latent * (size_t)side * (size_t)side;
    d2c_status status;
    float *x;

    *moments = NULL;
    D2C_TRY(d2c_planes_of_image(&x, worker, bytes, length, c->in_channels, size, err));
    *moments = malloc(2 * count * sizeof **moments);
    status = *moments == NULL ? d2c_fail(err, D2C_NO_MEMORY, "out of memory")
                              : d2c_vae_encode(vae, d2c_worker_backend(worker), d2c_worker_scratch(worker),
                                               *moments, *moments + count, x, size, size, err);
    free(x);
    if (status != D2C_OK) {
        free(*moments);
        *moments = NULL;
    }
    return status;
}

/* ---- for diffusion models -------------------------------------------------------------------------------------------- */

/* The name of the autoencoder to use. */
static d2c_status
choose(char name[D2C_MODEL_NAME_SIZE], d2c_worker *worker, const d2c_latent_model *model, d2c_error *err)
{
    d2c_registry *registry = d2c_worker_pool(worker)->registry;
    d2c_loaded *denoiser;
    d2c_status status;

    if (model->vae[0] != '\0') {
        snprintf(name, D2C_MODEL_NAME_SIZE, "%s", model->vae);
        return D2C_OK;
    }
    D2C_TRY(d2c_worker_model(worker, &denoiser, model->name, D2C_ROLE_DENOISER, err));
    status = d2c_vae_choose(name, d2c_loaded_model(denoiser), d2c_registry_directory(registry), err);
    d2c_loaded_release(registry, denoiser, d2c_worker_backend(worker));
    return status;
}

/* Whether the autoencoder's latents are what the diffusion model takes. */
static d2c_status
check_fits(const d2c_model *vae, const d2c_latent_model *model, d2c_error *err)
{
    const d2c_vae_config *c = &((const d2c_vae *)vae->network)->config;

    D2C_TRY(check_takes_pictures(vae, c, err));
    if (c->latent == model->config->channels)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "autoencoder \"%s\" does not fit model \"%s\"", vae->info.name, model->name);
    d2c_detail(err, "Its latents have %d channels; the model takes %d.", c->latent, model->config->channels);
    return D2C_BAD_MODEL;
}

static d2c_status
encode_for(float **x, d2c_worker *worker, const d2c_model *vae, const d2c_latent_model *model,
           const char *bytes, size_t length, d2c_error *err)
{
    const d2c_vae *network = vae->network;
    int64_t size = (int64_t)model->config->height * d2c_vae_factor(&network->config);
    int64_t count = (int64_t)model->config->channels * model->config->height * model->config->width, i;

    D2C_TRY(check_fits(vae, model, err));
    if (d2c_vae_size_check(&network->config, size, size, err) != D2C_OK)
        return err->status = D2C_BAD_MODEL;
    D2C_TRY(encode(x, worker, network, bytes, length, (int)size, err));
    for (i = 0; i < count; i++)
        (*x)[i] *= network->config.scaling_factor;
    return D2C_OK;
}

d2c_status
d2c_latent_of_image(float **x, d2c_worker *worker, const d2c_latent_model *model, const char *bytes,
                    size_t length, d2c_error *err)
{
    char name[D2C_MODEL_NAME_SIZE];
    d2c_status status;
    d2c_loaded *vae;

    *x = NULL;
    D2C_TRY(choose(name, worker, model, err));
    D2C_TRY(d2c_worker_model(worker, &vae, name, D2C_ROLE_AUTOENCODER, err));
    status = encode_for(x, worker, d2c_loaded_model(vae), model, bytes, length, err);
    d2c_loaded_release(d2c_worker_pool(worker)->registry, vae, d2c_worker_backend(worker));
    return status;
}

/* ---- requests -------------------------------------------------------------------------------------------------------- */

static d2c_status
put_latent(d2c_worker *worker, const d2c_model *model, const char *bytes, size_t length, uint32_t size,
           d2c_buffer *out, d2c_error *err)
{
    const d2c_vae *vae = model->network;
    int64_t side = size / (uint32_t)d2c_vae_factor(&vae->config);
    int64_t dims[] = {2 * (int64_t)vae->config.latent, side, side};
    float *moments;

    D2C_TRY(check_takes_pictures(model, &vae->config, err));
    D2C_TRY(d2c_vae_size_check(&vae->config, size, size, err));
    D2C_TRY(encode(&moments, worker, vae, bytes, length, (int)size, err));
    d2c_put_tensor(out, D2C_F32, 3, dims, moments, (size_t)(dims[0] * side * side) * sizeof *moments);
    free(moments);
    return D2C_OK;
}

d2c_status
d2c_request_latent(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    char model[D2C_MODEL_NAME_SIZE];
    d2c_loaded *loaded;
    d2c_status status;
    const char *image;
    uint32_t size;
    size_t length;

    D2C_TRY(d2c_read_model_name(model, in, err));
    image = d2c_read_bytes(in, &length);
    size = d2c_read_u32(in);
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(d2c_worker_model(worker, &loaded, model, D2C_ROLE_AUTOENCODER, err));
    status = put_latent(worker, d2c_loaded_model(loaded), image, length, size, out, err);
    d2c_loaded_release(d2c_worker_pool(worker)->registry, loaded, d2c_worker_backend(worker));
    return status;
}

/* Whether the tensor is a latent, or a mean with its deviation. */
static d2c_status
check_latent(const d2c_sent_planes *p, const d2c_vae_config *c, d2c_error *err)
{
    int factor = d2c_vae_factor(c);

    if (p->ndim == 3 && (p->dim[0] == c->latent || p->dim[0] == 2 * (int64_t)c->latent) && p->dim[1] >= 1 &&
        p->dim[2] >= 1 && p->dim[1] <= D2C_VAE_MOST_SIDE && p->dim[2] <= D2C_VAE_MOST_SIDE)
        return d2c_vae_size_check(c, p->dim[1] * factor, p->dim[2] * factor, err);
    d2c_fail(err, D2C_INVALID_ARGUMENT, "tensor has the wrong shape for this model");
    if (p->ndim == 3)
        d2c_detail(
            err, "The shape is [%lld,%lld,%lld], the model takes [%d,h,w] or, mean and deviation, [%d,h,w].",
            (long long)p->dim[0], (long long)p->dim[1], (long long)p->dim[2], c->latent, 2 * c->latent);
    else
        d2c_detail(err, "It has %u dimensions, the model takes [%d,h,w] or, mean and deviation, [%d,h,w].",
                   p->ndim, c->latent, 2 * c->latent);
    return D2C_INVALID_ARGUMENT;
}

/* latent [latent, h, w] and x [out_channels, height, width] are the caller's. */
static d2c_status
decode(float *x, float *latent, d2c_worker *worker, const d2c_vae *vae, const d2c_sent_planes *p,
       d2c_buffer *out, d2c_error *err)
{
    int factor = d2c_vae_factor(&vae->config);
    d2c_image image = {0};
    d2c_status status;

    D2C_TRY(d2c_copy_planes(latent, vae->config.latent * p->dim[1] * p->dim[2], p, err));
    D2C_TRY(d2c_vae_decode(vae, d2c_worker_backend(worker), d2c_worker_scratch(worker), x, latent,
                           (int)p->dim[1], (int)p->dim[2], err));
    D2C_TRY(d2c_image_allocate(&image, (int)p->dim[2] * factor, (int)p->dim[1] * factor,
                               vae->config.out_channels, err));
    d2c_image_from_planes(&image, x);
    status = d2c_put_png(out, &image, err);
    d2c_image_free(&image);
    return status;
}

static d2c_status
put_decoded(d2c_worker *worker, const d2c_model *model, const d2c_sent_planes *p, d2c_buffer *out,
            d2c_error *err)
{
    const d2c_vae *vae = model->network;
    size_t area, factor = (size_t)d2c_vae_factor(&vae->config);
    float *latent, *x;
    d2c_status status;

    D2C_TRY(check_takes_pictures(model, &vae->config, err));
    D2C_TRY(check_latent(p, &vae->config, err));
    area = (size_t)(p->dim[1] * p->dim[2]);
    latent = malloc((size_t)vae->config.latent * area * sizeof *latent);
    x = malloc((size_t)vae->config.out_channels * area * factor * factor * sizeof *x);
    status = latent != NULL && x != NULL ? decode(x, latent, worker, vae, p, out, err)
                                         : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    free(latent);
    free(x);
    return status;
}

d2c_status
d2c_request_decode_latent(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    char model[D2C_MODEL_NAME_SIZE];
    d2c_sent_planes latent;
    d2c_loaded *loaded;
    d2c_status status;

    D2C_TRY(d2c_read_model_name(model, in, err));
    D2C_TRY(d2c_read_planes(&latent, in, err));
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(d2c_worker_model(worker, &loaded, model, D2C_ROLE_AUTOENCODER, err));
    status = put_decoded(worker, d2c_loaded_model(loaded), &latent, out, err);
    d2c_loaded_release(d2c_worker_pool(worker)->registry, loaded, d2c_worker_backend(worker));
    return status;
}
