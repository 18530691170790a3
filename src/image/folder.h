/* folder.h: the files of a folder whose sub-folders are classes. */
#ifndef D2C_IMAGE_FOLDER_H
#define D2C_IMAGE_FOLDER_H

#include <stdint.h>

#include "base/status.h"

typedef struct d2c_folder_file {
    char *path;
    int class_index; /* -1: lies in the folder itself */
} d2c_folder_file;

/* Classes in the order of their names' bytes; files by class, then by name.  Names with a leading dot are
 * left out. */
typedef struct d2c_folder {
    int classes;
    char **class_name; /* [classes] */
    int64_t count;
    d2c_folder_file *file; /* [count] */
} d2c_folder;

/* Sub-folders of sub-folders are an error: their files' class would be a guess. */
d2c_status d2c_folder_list(d2c_folder *folder, const char *path, d2c_error *err);
void d2c_folder_free(d2c_folder *folder);

#endif
