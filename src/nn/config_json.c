/* config_json.c: JSON files of model folders (config_json.h). */
#include "nn/config_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"

#define MAX_JSON_BYTES ((size_t)1 << 20)

d2c_status
d2c_json_read(cJSON **json, const char *folder, const char *name, d2c_error *err)
{
    char path[4096];
    uint8_t *bytes;
    size_t length;

    *json = NULL;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of \"%s\" is too long", name);
    D2C_TRY(d2c_file_read(&bytes, &length, path, MAX_JSON_BYTES, err));
    if (d2c_is_utf8(bytes, length)) /* messages quote what it says */
        *json = cJSON_ParseWithLength((const char *)bytes, length);
    free(bytes);
    if (cJSON_IsObject(*json))
        return D2C_OK;
    cJSON_Delete(*json);
    *json = NULL;
    return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" is not a JSON object", path);
}

d2c_status
d2c_config_size(int *value, const cJSON *json, const char *key, int limit, d2c_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

    if (!cJSON_IsNumber(item) || item->valuedouble < 1 || item->valuedouble > limit ||
        item->valuedouble != (double)item->valueint) {
        d2c_fail(err, D2C_BAD_MODEL, "config.json has no valid \"%s\"", key);
        d2c_detail(err, "An integer between 1 and %d is needed.", limit);
        return D2C_BAD_MODEL;
    }
    *value = item->valueint;
    return D2C_OK;
}

static int
is_given(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

    return item != NULL && !cJSON_IsNull(item);
}

d2c_status
d2c_config_size_or(int *value, const cJSON *json, const char *key, int limit, int otherwise, d2c_error *err)
{
    *value = otherwise;
    return is_given(json, key) ? d2c_config_size(value, json, key, limit, err) : D2C_OK;
}

d2c_status
d2c_config_eps(float *eps, const cJSON *json, const char *key, float otherwise, d2c_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

    *eps = otherwise;
    if (item == NULL)
        return D2C_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < 1))
        return d2c_fail(err, D2C_BAD_MODEL, "config.json has no valid \"%s\"", key);
    *eps = (float)item->valuedouble;
    return D2C_OK;
}

d2c_status
d2c_config_act(d2c_act *act, const cJSON *json, const char *key, d2c_act otherwise, d2c_error *err)
{
    static const struct {
        const char *name;
        d2c_act act;
    } names[] = {{"gelu", D2C_ACT_GELU_ERF},
                 {"gelu_new", D2C_ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", D2C_ACT_GELU_TANH},
                 {"quick_gelu", D2C_ACT_GELU_QUICK},
                 {"relu", D2C_ACT_RELU},
                 {"silu", D2C_ACT_SILU}};
    const char *name = d2c_config_text(json, key);
    size_t i;

    *act = otherwise;
    if (name == NULL)
        return D2C_OK;
    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, name) == 0) {
            *act = names[i].act;
            return D2C_OK;
        }
    return d2c_fail(err, D2C_UNSUPPORTED, "unsupported activation \"%s\" in config.json", name);
}

d2c_status
d2c_config_require(const cJSON *json, const char *key, const char *wanted, d2c_error *err)
{
    const char *text = d2c_config_text(json, key);

    if (!is_given(json, key) || (text != NULL && strcmp(text, wanted) == 0))
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "unsupported \"%s\" in config.json", key);
    d2c_detail(err, "It is \"%s\"; only \"%s\" is supported.", text != NULL ? text : "not a text", wanted);
    return D2C_UNSUPPORTED;
}

const char *
d2c_config_text(const cJSON *json, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));
}
