/* sit_family.c: SiT, DiT and REPA files as models: a checkpoint's average, a plain file, public files. */
#include "nn/config_json.h"
#include "nn/dit_diffusers.h"
#include "nn/families.h"
#include "nn/sit.h"

static const char *
prefix_of(const d2c_model_files *files)
{
    if (d2c_dit_diffusers_is(files->weights))
        return "";
    return d2c_model_files_prefix(files, "blocks.0.adaLN_modulation.1.weight");
}

/* What is said in words: all but the heads. */
static d2c_sit_hints
words_of(const d2c_model_files *files)
{
    return (d2c_sit_hints){.kind = d2c_model_files_say(files, "kind"),
                           .name = files->name,
                           .path = d2c_model_files_say(files, "path")};
}

d2c_status
d2c_sit_hints_read(d2c_sit_hints *hints, const d2c_model_files *files, d2c_error *err)
{
    *hints = words_of(files);
    if (files->description == NULL)
        return D2C_OK;
    return d2c_config_size_or(&hints->heads, files->description, "heads", 65536, 0, err);
}

/* The config of a network that is used as it is: the projector serves training only and is left out. */
static d2c_status
read_config(d2c_sit_config *config, const d2c_model_files *files, d2c_error *err)
{
    d2c_sit_hints hints;

    if (d2c_dit_diffusers_is(files->weights))
        return d2c_dit_diffusers_config(config, files->weights, files->config, err);
    D2C_TRY(d2c_sit_hints_read(&hints, files, err));
    D2C_TRY(d2c_sit_config_read(config, files->weights, prefix_of(files), &hints, err));
    config->proj_block = config->proj_hidden = config->proj_width = 0;
    return D2C_OK;
}

/* Whether the files are a network of this kind.  What is not told is taken for a SiT here, and refused when its config
 * is read, with words that say what to do. */
static int
is_kind(const d2c_model_files *files, d2c_sit_kind kind)
{
    const char *prefix = prefix_of(files);
    const char *json = d2c_weights_metadata(files->weights, "d2c.sit");
    const d2c_sit_hints hints = words_of(files);
    d2c_sit_kind told = D2C_SIT_KIND_SIT;
    d2c_sit_config config;

    if (prefix == NULL)
        return 0;
    if (d2c_dit_diffusers_is(files->weights))
        told = D2C_SIT_KIND_DIT;
    else if (json != NULL) {
        if (d2c_sit_config_parse(&config, json, NULL) == D2C_OK)
            told = config.kind;
    } else if (!d2c_sit_kind_told(&told, files->weights, prefix, &hints))
        told = D2C_SIT_KIND_SIT;
    return told == kind;
}

static int
recognizes_sit(const d2c_model_files *files)
{
    return is_kind(files, D2C_SIT_KIND_SIT);
}

static int
recognizes_dit(const d2c_model_files *files)
{
    return is_kind(files, D2C_SIT_KIND_DIT);
}

static int
recognizes_repa(const d2c_model_files *files)
{
    return is_kind(files, D2C_SIT_KIND_REPA);
}

/* diffusers' files repeat the embedders in every block. */
static d2c_status
count_parameters(int64_t *count, const d2c_sit_config *config, const d2c_model_files *files, d2c_error *err)
{
    d2c_sit *outline;
    int i;

    *count = d2c_weights_parameters(files->weights, prefix_of(files));
    if (!d2c_dit_diffusers_is(files->weights))
        return D2C_OK;
    D2C_TRY(d2c_sit_outline(&outline, config, D2C_F32, err));
    for (*count = 0, i = 0; i < outline->params.count; i++)
        *count += outline->params.item[i].count;
    d2c_sit_destroy(outline, NULL);
    return D2C_OK;
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_sit_config config;

    D2C_TRY(read_config(&config, files, err));
    D2C_TRY(count_parameters(&info->parameters, &config, files, err));
    info->width = config.width;
    info->height = config.height;
    info->channels = config.channels;
    info->classes = config.classes;
    info->embedding = config.hidden;
    info->tokens = d2c_sit_tokens(&config);
    return D2C_OK;
}

static d2c_status
open_sit(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_sit_config config;
    d2c_sit *sit;

    *network = NULL;
    D2C_TRY(read_config(&config, files, err));
    if (d2c_dit_diffusers_is(files->weights))
        D2C_TRY(d2c_dit_diffusers_check(&config, files->weights, err));
    D2C_TRY(d2c_sit_open(&sit, be, &config, precision, files->weights, prefix_of(files), err));
    *network = sit;
    return D2C_OK;
}

static void
close_sit(void *network, d2c_backend *be)
{
    d2c_sit_destroy(network, be);
}

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_sit *)network)->params;
}

#define DENOISER(name)                                                                                       \
    {                                                                                                        \
        .kind = #name, .role = D2C_ROLE_DENOISER, .recognizes = recognizes_##name, .describe = describe,     \
        .open = open_sit, .close = close_sit, .params = params_of,                                           \
    }

const d2c_family d2c_family_sit = DENOISER(sit);
const d2c_family d2c_family_dit = DENOISER(dit);
const d2c_family d2c_family_repa = DENOISER(repa);
