/* models.c: d2c models: the table of what a model directory holds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "nn/model.h"

/* "28x28x1", or "" for an encoder of text. */
static void
format_image(char *text, size_t size, const d2c_model_info *info)
{
    text[0] = '\0';
    if (info->channels > 0 && info->width == 0)
        snprintf(text, size, "any x %d", info->channels);
    else if (info->channels > 0)
        snprintf(text, size, "%dx%dx%d", info->width, info->height, info->channels);
}

static void
print_row(const d2c_model_info *info, int name_width)
{
    char image[48], classes[16] = "";

    format_image(image, sizeof image, info);
    if (info->classes > 0)
        snprintf(classes, sizeof classes, "%d", info->classes);
    printf("%-*s  %-7s  %12" PRId64 "  %-12s  %7s  %9d  %-64s  %s\n", name_width, info->name, info->kind,
           info->parameters, image, classes, info->embedding, info->sha256, info->problem);
}

static void
print_table(const d2c_model_info *list, int count)
{
    int width = 4, i;

    for (i = 0; i < count; i++)
        if ((int)strlen(list[i].name) > width)
            width = (int)strlen(list[i].name);
    printf("%-*s  %-7s  %12s  %-12s  %7s  %9s  %-64s  %s\n", width, "name", "kind", "parameters", "image",
           "classes", "embedding", "sha256", "problem");
    for (i = 0; i < count; i++)
        print_row(&list[i], width);
}

int
d2c_command_models(int argc, char **argv)
{
    const char *directory = NULL;
    int checksum = 1, help, count;
    const d2c_option options[] = {
        {"model-directory", D2C_OPTION_TEXT, &directory, 0, 0, "the folder that holds the models"},
        {"sha256", D2C_OPTION_FLAG, &checksum, 0, 0,
         "read every file for its sha256; --sha256=off is quicker"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    d2c_model_info *list;
    d2c_error err;

    if (d2c_options_parse(options, "models --model-directory DIR", argc, argv, &help, &err) != D2C_OK)
        return d2c_command_failed(&err);
    if (help)
        return 0;
    if (directory == NULL) {
        d2c_fail(&err, D2C_INVALID_ARGUMENT, "--model-directory is required");
        return d2c_command_failed(&err);
    }
    if (d2c_model_list(&list, &count, directory, checksum, &err) != D2C_OK)
        return d2c_command_failed(&err);
    print_table(list, count);
    free(list);
    return 0;
}
