/* library.h: libraries of ours that are opened at run time: what they need is then needed only where they are used. */
#ifndef D2C_BASE_LIBRARY_H
#define D2C_BASE_LIBRARY_H

#include <limits.h>

#include "base/status.h"

/* Where a library lies: beside the program, in PostgreSQL's library folder when installed, in the build folder otherwise. */
d2c_status d2c_library_path(char path[PATH_MAX], const char *name, d2c_error *err);

#endif
