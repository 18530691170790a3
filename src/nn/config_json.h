/* config_json.h: a model folder's JSON files, and the values that networks take from them. */
#ifndef D2C_NN_CONFIG_JSON_H
#define D2C_NN_CONFIG_JSON_H

#include <cjson/cJSON.h>

#include "ops/ops.h"

/* Parses FOLDER/NAME, which must hold one JSON object; freed with cJSON_Delete.  D2C_NOT_FOUND when it is not there. */
d2c_status d2c_json_read(cJSON **json, const char *folder, const char *name, d2c_error *err);

/* An integer between 1 and the limit, which must be there. */
d2c_status d2c_config_size(int *value, const cJSON *json, const char *key, int limit, d2c_error *err);
/* The same, or `otherwise` when the key is not there or null. */
d2c_status d2c_config_size_or(int *value, const cJSON *json, const char *key, int limit, int otherwise,
                              d2c_error *err);
/* A number of at least 0 and less than 1, or `otherwise`: a norm's eps. */
d2c_status d2c_config_eps(float *eps, const cJSON *json, const char *key, float otherwise, d2c_error *err);
/* An activation by transformers' names, or `otherwise`. */
d2c_status d2c_config_act(d2c_act *act, const cJSON *json, const char *key, d2c_act otherwise,
                          d2c_error *err);
/* An optional text must be `wanted`; other networks share the layout and compute something else. */
d2c_status d2c_config_require(const cJSON *json, const char *key, const char *wanted, d2c_error *err);
/* A text, or NULL. */
const char *d2c_config_text(const cJSON *json, const char *key);

#endif
