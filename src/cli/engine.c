/* engine.c: d2c engine: the process that computes for a PostgreSQL server. */
#include "engine/engine.h"

#include <stddef.h>

#include "build_id.h"
#include "cli/command.h"
#include "image/image.h"

int
d2c_command_engine(int argc, char **argv)
{
    d2c_engine_options options = {
        .socket_path = D2C_SOCKET_PATH,
        .build = D2C_BUILD_ID,
        .settings = {.device = "auto",
                     .precision = "auto",
                     .idle_timeout = 600,
                     .max_image_pixels = 64 * 1024 * 1024},
    };
    d2c_settings *settings = &options.settings;
    const d2c_option table[] = {
        {"socket", D2C_OPTION_TEXT, &options.socket_path, 0, 0,
         "where to listen, seen from the data directory"},
        {"data-directory", D2C_OPTION_TEXT, &options.data_directory, 0, 0,
         "the server's data directory (required)"},
        {"model-directory", D2C_OPTION_TEXT, &settings->model_directory, 0, 0,
         "where the models are (required)"},
        {"device", D2C_OPTION_TEXT, &settings->device, 0, 0, "auto, cpu, cuda or cuda:N"},
        {"precision", D2C_OPTION_TEXT, &settings->precision, 0, 0, "auto, f32, bf16 or fp8"},
        {"threads", D2C_OPTION_INT, &settings->threads, 0, 1024,
         "computing threads; 0: the cores less one, on a GPU at most 8"},
        {"idle-timeout", D2C_OPTION_INT, &settings->idle_timeout, 0, 1e9,
         "leave after so many idle seconds; 0: never"},
        {"memory-limit", D2C_OPTION_INT, &settings->memory_limit, 0, 1e9,
         "MiB for models; 0: half of the machine's, or 80 % of the GPU's"},
        {"max-image-pixels", D2C_OPTION_INT, &settings->max_image_pixels, 1, D2C_LARGEST_PIXEL_LIMIT,
         "largest image decoded"},
        {"server-pipes", D2C_OPTION_FLAG, &options.server_pipes, 0, 0,
         "started by a server: its death pipe is descriptor 3, the report goes to 4"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    d2c_status status;
    d2c_error err;
    int help;

    status = d2c_options_parse(table, "engine [OPTION]...", argc, argv, &help, &err);
    if (status == D2C_OK && help)
        return 0;
    if (status == D2C_OK && (options.data_directory == NULL || settings->model_directory == NULL))
        status = d2c_fail(&err, D2C_INVALID_ARGUMENT, "--data-directory and --model-directory are required");
    if (status == D2C_OK && options.server_pipes) {
        d2c_engine_supervise(&options, &err);
        return 0; /* whatever became of the worker: see engine.h */
    }
    if (status == D2C_OK)
        status = d2c_engine_serve(&options, -1, &err);
    return d2c_command_failed(&err);
}
