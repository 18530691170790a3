/* library.c: where the libraries of library.h lie. */
#include "base/library.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

d2c_status
d2c_library_path(char path[PATH_MAX], const char *name, d2c_error *err)
{
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
    char *slash;

    path[length > 0 ? length : 0] = '\0';
    slash = strrchr(path, '/');
    if (slash == NULL || (size_t)(slash + 1 - path) + strlen(name) >= PATH_MAX)
        return d2c_fail(err, D2C_IO, "could not find the folder of the running program");
    strcpy(slash + 1, name);
    return D2C_OK;
}
