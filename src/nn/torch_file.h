/*
 * torch_file.h: the tensors of what torch.save wrote: the ZIP layout since torch 1.6, and the one before it.
 *
 * A file may be one state_dict or dicts within dicts (a training checkpoint): names are joined with dots, and items of
 * lists have their index as name.  What is no tensor is passed over; nothing is called (pickle.h).  Tensors that lie in
 * their storage in C order are handed out where they are; others are copied into that order once.
 */
#ifndef D2C_NN_TORCH_FILE_H
#define D2C_NN_TORCH_FILE_H

#include "base/safetensors.h"

typedef struct d2c_torch_file d2c_torch_file;

/* Whether the bytes begin as either layout does. */
int d2c_torch_recognizes(const void *bytes, size_t length);

/* The bytes must outlive the result; `name` is for messages. */
d2c_status d2c_torch_parse(d2c_torch_file **file, const char *name, const void *bytes, size_t length,
                           d2c_error *err);
void d2c_torch_close(d2c_torch_file *file);

/* In the file's order.  A dtype without a use here is D2C_ST_OTHER, and its data is NULL. */
int d2c_torch_count(const d2c_torch_file *file);
const d2c_st_tensor *d2c_torch_at(const d2c_torch_file *file, int index);

#endif
