/* png_warning.h: libpng's warnings are not told: a file that it reads is good enough. */
#ifndef D2C_IMAGE_PNG_WARNING_H
#define D2C_IMAGE_PNG_WARNING_H

#include <png.h>

static inline void
d2c_png_ignore_warning(png_structp png, const char *message)
{
    (void)png;
    (void)message;
}

#endif
