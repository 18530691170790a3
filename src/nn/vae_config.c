/* vae_config.c: an autoencoder's configuration, from its tensors and diffusers' config.json (vae.h). */
#include <stdio.h>
#include <string.h>

#include "nn/config_json.h"
#include "nn/vae_layers.h"

#define MOST_CHANNELS 4096
#define STABLE_DIFFUSION_GROUPS 32
#define STABLE_DIFFUSION_SCALE 0.18215f

/* Reads one dim of a convolution's weight, which must be there. */
static d2c_status
read_channels(int *channels, const vae_names *names, const d2c_weights *file, const char *layer, int dim,
              d2c_error *err)
{
    char parameter[96], name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    const d2c_st_tensor *tensor;

    snprintf(parameter, sizeof parameter, "%s.weight", layer);
    vae_name_in_file(name, parameter, names);
    tensor = d2c_weights_find(file, name[0]);
    if (tensor == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is missing", name[0]);
    if (tensor->ndim == 4 && tensor->dim[dim] >= 1 && tensor->dim[dim] <= MOST_CHANNELS) {
        *channels = (int)tensor->dim[dim];
        return D2C_OK;
    }
    d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has the wrong shape", name[0]);
    d2c_detail(err, "It must be the weight of a convolution with at most %d channels.", MOST_CHANNELS);
    return D2C_BAD_MODEL;
}

/* How many of the layers "format" with 0, 1, .. there are, up to one more than `most`. */
static int
count_layers(const vae_names *names, const d2c_weights *file, const char *format, int most)
{
    char parameter[96];
    int count;

    for (count = 0; count <= most; count++) {
        snprintf(parameter, sizeof parameter, format, count);
        if (vae_find(names, file, parameter) == NULL)
            break;
    }
    return count;
}

static d2c_status
check_count(int count, int most, const char *what, d2c_error *err)
{
    if (count >= 1 && count <= most)
        return D2C_OK;
    return d2c_fail(err, D2C_BAD_MODEL, "the autoencoder has %s %s; it may have 1 to %d",
                    count < 1 ? "no" : "too many", what, most);
}

/* All that the shapes tell. */
static d2c_status
read_shapes(d2c_vae_config *c, vae_names *names, const d2c_weights *file, d2c_error *err)
{
    char layer[80];
    int moments, i;

    c->levels = count_layers(names, file, "encoder.down_blocks.%d.resnets.0.conv1.weight", D2C_VAE_LEVELS);
    c->blocks = count_layers(names, file, "encoder.down_blocks.0.resnets.%d.conv1.weight", D2C_VAE_BLOCKS);
    D2C_TRY(check_count(c->levels, D2C_VAE_LEVELS, "levels", err));
    D2C_TRY(check_count(c->blocks, D2C_VAE_BLOCKS, "residual blocks in a level", err));
    names->levels = c->levels;
    for (i = 0; i < c->levels; i++) {
        snprintf(layer, sizeof layer, "encoder.down_blocks.%d.resnets.0.conv1", i);
        D2C_TRY(read_channels(&c->width[i], names, file, layer, 0, err));
    }
    D2C_TRY(read_channels(&c->in_channels, names, file, "encoder.conv_in", 1, err));
    D2C_TRY(read_channels(&c->out_channels, names, file, "decoder.conv_out", 0, err));
    D2C_TRY(read_channels(&c->latent, names, file, "decoder.conv_in", 1, err));
    D2C_TRY(read_channels(&moments, names, file, "encoder.conv_out", 0, err));
    c->quant = vae_find(names, file, "quant_conv.weight") != NULL;
    c->post_quant = vae_find(names, file, "post_quant_conv.weight") != NULL;
    if (moments == 2 * c->latent)
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "the encoder does not give a mean and a variance of the latent");
    d2c_detail(err, "It gives %d channels; the decoder takes %d.", moments, c->latent);
    return D2C_UNSUPPORTED;
}

/* ---- config.json ---------------------------------------------------------------------------------------------------- */

static d2c_status
fail_value(const char *key, d2c_error *err)
{
    return d2c_fail(err, D2C_BAD_MODEL, "config.json has no valid \"%s\"", key);
}

/* A number that config.json and the tensors both tell. */
static d2c_status
check_agreement(const char *key, int has, int wanted, d2c_error *err)
{
    if (has == wanted)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "config.json does not fit the tensors");
    d2c_detail(err, "\"%s\" is %d; by the tensors it is %d.", key, has, wanted);
    return D2C_BAD_MODEL;
}

static d2c_status
check_size(const cJSON *json, const char *key, int otherwise, int wanted, d2c_error *err)
{
    int value;

    D2C_TRY(d2c_config_size_or(&value, json, key, MOST_CHANNELS, otherwise, err));
    return check_agreement(key, value, wanted, err);
}

static d2c_status
check_widths(const cJSON *json, const d2c_vae_config *c, d2c_error *err)
{
    static const char key[] = "block_out_channels";
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, key), *item;
    int i = 0;

    if (!cJSON_IsArray(list))
        return fail_value(key, err);
    D2C_TRY(check_agreement("levels of block_out_channels", cJSON_GetArraySize(list), c->levels, err));
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item))
            return fail_value(key, err);
        D2C_TRY(check_agreement(key, item->valueint, c->width[i++], err));
    }
    return D2C_OK;
}

/* Every block must be of the kind that is computed here. */
static d2c_status
check_kinds(const cJSON *json, const char *key, const char *wanted, d2c_error *err)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, key))
    {
        const char *kind = cJSON_GetStringValue(item);

        if (kind == NULL || strcmp(kind, wanted) != 0) {
            d2c_fail(err, D2C_UNSUPPORTED, "unsupported \"%s\" in config.json", key);
            d2c_detail(err, "It has \"%s\"; only \"%s\" is supported.", kind != NULL ? kind : "no text",
                       wanted);
            return D2C_UNSUPPORTED;
        }
    }
    return D2C_OK;
}

/* What would move or stretch latents beyond the one scaling factor, or change the network. */
static d2c_status
check_plain(const cJSON *json, d2c_error *err)
{
    static const char *const absent[] = {"shift_factor", "latents_mean", "latents_std"};
    size_t i;

    for (i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, absent[i]);

        if (item != NULL && !cJSON_IsNull(item) && !(cJSON_IsNumber(item) && item->valuedouble == 0))
            return d2c_fail(err, D2C_UNSUPPORTED, "unsupported \"%s\" in config.json", absent[i]);
    }
    if (cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(json, "mid_block_add_attention")))
        return d2c_fail(err, D2C_UNSUPPORTED, "unsupported \"mid_block_add_attention\" in config.json");
    D2C_TRY(d2c_config_require(json, "_class_name", "AutoencoderKL", err));
    D2C_TRY(d2c_config_require(json, "act_fn", "silu", err));
    D2C_TRY(check_kinds(json, "down_block_types", "DownEncoderBlock2D", err));
    return check_kinds(json, "up_block_types", "UpDecoderBlock2D", err);
}

d2c_status
d2c_vae_scale_read(float *scale, const cJSON *json, d2c_error *err)
{
    static const char key[] = "scaling_factor";
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

    if (item == NULL || cJSON_IsNull(item))
        return D2C_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble > 1e-6 && item->valuedouble < 1e6))
        return d2c_fail(err, D2C_BAD_MODEL, "no valid \"%s\" in the model's JSON", key);
    *scale = (float)item->valuedouble;
    return D2C_OK;
}

/* Whether the network has the layer, where config.json says so; diffusers' default is that it has. */
static int
has_layer(const cJSON *json, const char *key)
{
    return !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(json, key));
}

static d2c_status
read_json(d2c_vae_config *c, const cJSON *json, d2c_error *err)
{
    D2C_TRY(check_plain(json, err));
    D2C_TRY(check_widths(json, c, err));
    D2C_TRY(check_size(json, "layers_per_block", 1, c->blocks, err));
    D2C_TRY(check_size(json, "latent_channels", 4, c->latent, err));
    D2C_TRY(check_size(json, "in_channels", 3, c->in_channels, err));
    D2C_TRY(check_size(json, "out_channels", 3, c->out_channels, err));
    D2C_TRY(
        d2c_config_size_or(&c->groups, json, "norm_num_groups", MOST_CHANNELS, STABLE_DIFFUSION_GROUPS, err));
    c->quant = has_layer(json, "use_quant_conv");
    c->post_quant = has_layer(json, "use_post_quant_conv");
    return d2c_vae_scale_read(&c->scaling_factor, json, err);
}

static d2c_status
check_groups(const d2c_vae_config *c, d2c_error *err)
{
    int i;

    for (i = 0; i < c->levels; i++)
        if (c->width[i] % c->groups != 0) {
            d2c_fail(err, D2C_BAD_MODEL, "%d groups do not divide %d channels", c->groups, c->width[i]);
            d2c_hint(err,
                     "\"norm_num_groups\" of the folder's config.json tells the number; without, it is %d.",
                     STABLE_DIFFUSION_GROUPS);
            return D2C_BAD_MODEL;
        }
    return D2C_OK;
}

d2c_status
d2c_vae_config_read(d2c_vae_config *config, const d2c_weights *file, const cJSON *json, d2c_error *err)
{
    vae_names names;

    *config = (d2c_vae_config){.groups = STABLE_DIFFUSION_GROUPS, .scaling_factor = STABLE_DIFFUSION_SCALE};
    if (!vae_names_find(&names, file))
        return d2c_fail(err, D2C_BAD_MODEL, "the tensors are not those of an autoencoder");
    D2C_TRY(read_shapes(config, &names, file, err));
    if (json != NULL)
        D2C_TRY(read_json(config, json, err));
    return check_groups(config, err);
}

int
d2c_vae_is(const d2c_weights *file)
{
    vae_names names;

    return vae_names_find(&names, file);
}

int64_t
d2c_vae_parameters(const d2c_weights *file)
{
    static const char *const parts[] = {"encoder.", "decoder.", "quant_conv.", "post_quant_conv."};
    int64_t sum = 0;
    vae_names names;
    char prefix[80];
    size_t i;

    for (i = 0; vae_names_find(&names, file) && i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(prefix, sizeof prefix, "%s%s", names.prefix, parts[i]);
        sum += d2c_weights_parameters(file, prefix);
    }
    return sum;
}
