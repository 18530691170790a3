/* export.c: d2c export: a trained network for the public SiT, DiT and REPA codes. */
#include <stdio.h>

#include "cli/command.h"
#include "train/export.h"

static d2c_status
run_export(const d2c_export_setting *setting, d2c_error *err)
{
    if (setting->model == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "option \"--model\" is missing");
    if (setting->output == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "option \"--output\" is missing");
    return d2c_export(setting, err);
}

int
d2c_command_export(int argc, char **argv)
{
    d2c_export_setting s = {.weights = "auto", .layout = "public"};
    const d2c_option options[] = {
        {"model", D2C_OPTION_TEXT, &s.model, 0, 0, "a checkpoint of d2c train, or a model's file"},
        {"output", D2C_OPTION_TEXT, &s.output, 0, 0,
         "file to write; .pt and .pth: PyTorch's format, which the public codes read; .safetensors; or the "
         "folder"},
        {"layout", D2C_OPTION_TEXT, &s.layout, 0, 0,
         "public, or diffusers: of a DiT, a folder that DiTTransformer2DModel.from_pretrained loads"},
        {"weights", D2C_OPTION_TEXT, &s.weights, 0, 0,
         "of a checkpoint: ema, model, or auto: ema where there is one"},
        {"learn-sigma", D2C_OPTION_FLAG, &s.learn_sigma, 0, 0,
         "SiT: with the second output, of zeros, that the public code's default expects and drops"},
        {"projectors", D2C_OPTION_FLAG, &s.projectors, 0, 0,
         "keep REPA's projectors, which its generate.py wants"},
        {"replace", D2C_OPTION_FLAG, &s.replace, 0, 0, "write over a file that is there"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    d2c_error err;
    int help;

    if (d2c_options_parse(options, "export --model FILE --output FILE [--option value]...", argc, argv, &help,
                          &err) != D2C_OK)
        return d2c_command_failed(&err);
    if (help)
        return 0;
    if (run_export(&s, &err) != D2C_OK)
        return d2c_command_failed(&err);
    printf("%s\n", s.output);
    return 0;
}
