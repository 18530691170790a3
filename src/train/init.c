/* init.c: training that starts from the weights of another file. */
#include <string.h>

#include "base/file.h"
#include "nn/model_files.h"
#include "train/run.h"

static const char probe[] = "x_embedder.proj.weight";

/* What the file's network is: as it says itself or is said beside it, and where nothing tells, as it is to be. */
static d2c_status
read_config(d2c_sit_config *config, const d2c_train *train, const d2c_model_files *files, const char *prefix,
            d2c_error *err)
{
    d2c_sit_hints hints;
    d2c_sit_kind kind;

    D2C_TRY(d2c_sit_hints_read(&hints, files, err));
    if (hints.heads == 0)
        hints.heads = train->config.heads;
    if (!d2c_sit_kind_told(&kind, files->weights, prefix, &hints))
        hints.kind = d2c_sit_kind_name(train->config.kind);
    return d2c_sit_config_read(config, files->weights, prefix, &hints, err);
}

/* The same network: a public SiT's outputs that its code drops are kept. */
static d2c_status
check_config(d2c_train *train, const d2c_sit_config *config, d2c_error *err)
{
    char difference[128];

    if (config->kind == D2C_SIT_KIND_SIT && train->config.kind == D2C_SIT_KIND_SIT &&
        config->out_channels == 2 * train->config.channels)
        train->config.out_channels = config->out_channels;
    if (d2c_sit_config_same(config, &train->config, difference, sizeof difference))
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "the weights of --init \"%s\" are of another network",
             train->setting->init);
    d2c_detail(err, "It has %s.", difference);
    d2c_hint(err, "Train a network of the file's kind, sizes, images and classes.");
    return D2C_INVALID_ARGUMENT;
}

/* Projectors serve training only, so not every file has kept them. */
static d2c_status
check_projector(const d2c_train *train, const d2c_weights *weights, const char *prefix, d2c_error *err)
{
    if (train->config.proj_block == 0 || d2c_weights_has(weights, prefix, "projectors.0.0.weight"))
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "--init \"%s\" has no projector", train->setting->init);
    d2c_hint(err, "Give a checkpoint, which has one, or train with --visual off.");
    return D2C_INVALID_ARGUMENT;
}

static d2c_status
open_file(d2c_model_files *files, const char **prefix, const d2c_train *train, d2c_error *err)
{
    const char *path = train->setting->init;

    D2C_TRY(d2c_model_files_open_path(files, path, err));
    *prefix = d2c_model_files_prefix(files, probe);
    if (*prefix == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" is no SiT, DiT or REPA network", path);
    return D2C_OK;
}

d2c_status
d2c_init_settle(d2c_train *train, d2c_error *err)
{
    d2c_model_files files = {0};
    d2c_sit_config config;
    const char *prefix;
    d2c_status status;

    if (train->setting->init == NULL)
        return D2C_OK;
    status = open_file(&files, &prefix, train, err);
    if (status == D2C_OK)
        status = read_config(&config, train, &files, prefix, err);
    if (status == D2C_OK)
        status = check_config(train, &config, err);
    if (status == D2C_OK)
        status = check_projector(train, files.weights, prefix, err);
    if (status == D2C_OK)
        status = d2c_model_files_sha256(train->init_sha256, &files, err);
    d2c_model_files_close(&files);
    return status;
}

d2c_status
d2c_init_load(d2c_train *train, d2c_error *err)
{
    d2c_params *params = &train->sit->params;
    d2c_model_files files = {0};
    const char *prefix;
    d2c_status status = open_file(&files, &prefix, train, err);

    if (status == D2C_OK)
        status = d2c_sit_load(train->sit, train->be, params->value, files.weights, prefix, err);
    if (status == D2C_OK &&
        d2c_copy(train->be, params->ema, params->value, (size_t)params->total * sizeof(float)) != D2C_OK)
        status = d2c_backend_error(train->be, err);
    d2c_model_files_close(&files);
    if (status == D2C_OK)
        d2c_notice(train, "starting from the weights of \"%s\"", train->setting->init);
    return status;
}
