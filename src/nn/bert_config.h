/* bert_config.h: config.json and tokenizer_config.json of a BERT folder. */
#ifndef D2C_NN_BERT_CONFIG_H
#define D2C_NN_BERT_CONFIG_H

#include "nn/bert.h"

/* Reads FOLDER/config.json.  What this implementation does not compute is D2C_UNSUPPORTED, never ignored. */
d2c_status d2c_bert_config_read(d2c_bert_config *config, const char *folder, d2c_error *err);

/* Opens FOLDER/vocab.txt as FOLDER/tokenizer_config.json says; without that file, lower case. */
d2c_status d2c_bert_tokenizer_open(d2c_wordpiece **tokenizer, const char *folder, d2c_error *err);

#endif
