/* export.c: reads what is exported, chooses its copy of the weights and its label table (export.h). */
#include "train/export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "nn/model_files.h"
#include "nn/sit_export.h"
#include "train/checkpoint.h"

static const char probe[] = "blocks.0.adaLN_modulation.1.weight";

/* The prefix of the copy that is asked for. */
static d2c_status
find_copy(const char **prefix, const d2c_weights *file, const char *weights, d2c_error *err)
{
    static const char *const any[] = {"ema.", "", "model.", NULL}, *const ema[] = {"ema.", NULL},
                             *const model[] = {"model.", NULL};
    const char *const *list = any;

    if (strcmp(weights, "ema") == 0)
        list = ema;
    else if (strcmp(weights, "model") == 0)
        list = model;
    else if (strcmp(weights, "auto") != 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --weights: \"%s\"", weights);
    *prefix = d2c_weights_prefix(file, list, probe);
    if (*prefix != NULL)
        return D2C_OK;
    if (list == any)
        return d2c_fail(err, D2C_BAD_MODEL, "the file is no SiT, DiT or REPA network");
    d2c_fail(err, D2C_NOT_FOUND, "the file has no copy of the weights named \"%s\"", weights);
    d2c_hint(err, "Leave out --weights for the copy that there is.");
    return D2C_NOT_FOUND;
}

/* Why the text condition cannot be folded. */
static d2c_status
refuse_text(const d2c_model_files *files, d2c_error *err)
{
    d2c_checkpoint_head head;
    int checkpoint = d2c_weights_metadata(files->weights, "d2c.checkpoint") != NULL;

    d2c_fail(err, D2C_UNSUPPORTED, "the network's text condition cannot be folded into its label table");
    if (checkpoint && d2c_checkpoint_peek(&head, files->path, NULL) == D2C_OK) {
        d2c_detail(err, head.mixed_texts ? "The rows of a class do not share one text."
                                         : "The checkpoint does not hold the classes' texts.");
        if (!head.mixed_texts)
            d2c_hint(err,
                     "Resume the training with this version for some steps, and export that checkpoint.");
        free(head.choices);
    } else
        d2c_detail(err, "The file does not hold the classes' texts.");
    return D2C_UNSUPPORTED;
}

/* The folded label table of the copy; NULL without a text condition. */
static d2c_status
find_table(const float **table, const d2c_model_files *files, const d2c_sit_config *config,
           const char *prefix, d2c_error *err)
{
    const d2c_st_tensor *folded;

    *table = NULL;
    if (config->text_tokens == 0)
        return D2C_OK;
    folded = d2c_weights_find(files->weights, prefix[0] == 'e' ? "folded.ema" : "folded.model");
    if (folded == NULL)
        return refuse_text(files, err);
    if (folded->dtype != D2C_ST_F32 || folded->ndim != 2 || folded->dim[1] != config->hidden ||
        folded->dim[0] != config->classes + config->null_class)
        return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is no label table of the network", folded->name);
    *table = folded->data;
    return D2C_OK;
}

/* What is to be written, and where its description: beside a file, or within a folder. */
static d2c_status
read_output(d2c_sit_export *how, char description[D2C_MODEL_PATH], const d2c_export_setting *setting,
            d2c_error *err)
{
    size_t length = d2c_model_file_name(setting->output);
    int written;

    how->diffusers = strcmp(setting->layout, "diffusers") == 0;
    if (!how->diffusers && strcmp(setting->layout, "public") != 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --layout: \"%s\"", setting->layout);
    if ((length == 0) != how->diffusers) {
        d2c_fail(err, D2C_INVALID_ARGUMENT,
                 how->diffusers ? "--output of diffusers' layout is a folder"
                                : "--output must end in .safetensors, .pt or .pth");
        d2c_detail(err, how->diffusers ? "It holds config.json and diffusion_pytorch_model.safetensors."
                                       : "The ending chooses the format.");
        return D2C_INVALID_ARGUMENT;
    }
    how->torch = !how->diffusers && strcmp(setting->output + length, ".safetensors") != 0;
    if (how->diffusers)
        written = snprintf(description, D2C_MODEL_PATH, "%s/d2c.json", setting->output);
    else
        written = snprintf(description, D2C_MODEL_PATH, "%.*s.json", (int)length, setting->output);
    if (written >= D2C_MODEL_PATH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "--output is too long");
    return D2C_OK;
}

static d2c_status
refuse_existing(const char *path, int replace, d2c_error *err)
{
    if (replace || access(path, F_OK) != 0)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "\"%s\" exists already", path);
    d2c_hint(err, "Give another --output, or --replace on.");
    return D2C_INVALID_ARGUMENT;
}

/* The model's own description, without what is settled by the export, or what a checkpoint knows; for PyTorch with what its
 * tensors do not tell. */
static cJSON *
describe(const d2c_model_files *files, const d2c_sit_config *config, int torch)
{
    static const char *const settled[] = {"weights", "text_model", "kind", "heads", "path"};
    cJSON *root = files->description != NULL ? cJSON_Duplicate(files->description, 1) : cJSON_CreateObject();
    const char *vae = d2c_weights_metadata(files->weights, "d2c.vae");
    size_t i;

    for (i = 0; i < sizeof settled / sizeof settled[0]; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(root, settled[i]);
    if (vae != NULL && vae[0] != '\0' && !cJSON_HasObjectItem(root, "vae"))
        cJSON_AddStringToObject(root, "vae", vae);
    if (torch) {
        cJSON_AddStringToObject(root, "kind", d2c_sit_kind_name(config->kind));
        cJSON_AddNumberToObject(root, "heads", config->heads);
        if (config->path != D2C_PATH_LINEAR)
            cJSON_AddStringToObject(root, "path", d2c_sit_path_name(config->path));
    }
    return root;
}

/* NAME.json beside the output.  One that would be empty is none, also where that of a replaced model is. */
static d2c_status
write_description(const char *path, const d2c_model_files *files, const d2c_sit_config *config, int torch,
                  d2c_error *err)
{
    cJSON *root = describe(files, config, torch);
    char *text = root != NULL ? cJSON_PrintUnformatted(root) : NULL;
    d2c_status status = D2C_OK;

    if (text == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    else if (root->child != NULL)
        status = d2c_file_write(path, text, strlen(text), err);
    else if (unlink(path) != 0 && errno != ENOENT)
        status = d2c_fail(err, D2C_IO, "could not remove file \"%s\": %m", path);
    cJSON_free(text);
    cJSON_Delete(root);
    return status;
}

/* REPA's generate.py reads ["ema"]; SiT's and DiT's read a state_dict as it is. */
static d2c_status
export_files(const d2c_export_setting *setting, const d2c_model_files *files, const d2c_sit_hints *hints,
             d2c_error *err)
{
    d2c_sit_export how = {.two_outputs = setting->learn_sigma, .projectors = setting->projectors};
    char description[D2C_MODEL_PATH];
    d2c_sit_config config;
    const char *prefix;

    D2C_TRY(read_output(&how, description, setting, err));
    D2C_TRY(refuse_existing(setting->output, setting->replace, err));
    D2C_TRY(refuse_existing(description, setting->replace, err));
    D2C_TRY(find_copy(&prefix, files->weights, setting->weights, err));
    D2C_TRY(d2c_sit_config_read(&config, files->weights, prefix, hints, err));
    D2C_TRY(find_table(&how.label_table, files, &config, prefix, err));
    how.within = config.kind == D2C_SIT_KIND_REPA ? "ema" : NULL;
    D2C_TRY(d2c_sit_export_file(setting->output, &config, files->weights, prefix, &how, err));
    return write_description(description, files, &config, how.torch, err);
}

d2c_status
d2c_export(const d2c_export_setting *setting, d2c_error *err)
{
    d2c_model_files files = {0};
    d2c_sit_hints hints;
    d2c_status status;

    status = d2c_model_files_open_path(&files, setting->model, err);
    if (status == D2C_OK)
        status = d2c_sit_hints_read(&hints, &files, err);
    if (status == D2C_OK)
        status = export_files(setting, &files, &hints, err);
    d2c_model_files_close(&files);
    return status;
}
