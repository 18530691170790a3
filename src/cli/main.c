/* main.c: the program d2c: one name, several subcommands. */
#define _GNU_SOURCE /* program_invocation_short_name */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "build_id.h"
#include "cli/command.h"

/* Each subcommand lives in the file of its name. */
static const struct {
    const char *name;
    d2c_command run;
    const char *help;
} commands[] = {
    {"engine", d2c_command_engine, "compute for a PostgreSQL server (the extension starts it)"},
    {"eval", d2c_command_eval, "measure samples against real and training images"},
    {"export", d2c_command_export, "write a network for the public SiT, DiT and REPA codes"},
    {"import", d2c_command_import, "load images into a table"},
    {"models", d2c_command_models, "list the models of a directory"},
    {"sheet", d2c_command_sheet, "draw a contact sheet of images"},
    {"train", d2c_command_train, "train a SiT, DiT or REPA on a table"},
    {"sample", d2c_command_sample, "draw images from a trained model"},
    {NULL, NULL, NULL},
};

/*
 * By default a waiting OpenMP thread spins for milliseconds.  Where anything else wants the processors, its partner is
 * then kept from running: a training step took ten times as long beside two busy processes.  The library reads its
 * setting before main, so the program starts itself again with a short spin, unless the user has chosen.
 */
static void
limit_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL)
        return;
    setenv("GOMP_SPINCOUNT", "2000", 1);
    execv("/proc/self/exe", argv);
}

/* Products of f32 are of f32 throughout (README), whatever a job's script says to NVIDIA's libraries. */
static void
forbid_tf32(void)
{
    setenv("NVIDIA_TF32_OVERRIDE", "0", 1);
}

static int
usage(FILE *to)
{
    int i;

    fprintf(to, "Usage: d2c COMMAND [--option value]...\n\nCommands:\n");
    for (i = 0; commands[i].name != NULL; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "\nd2c COMMAND --help lists a command's options.\n");
    return to == stderr ? 2 : 0;
}

static int
run(int argc, char **argv)
{
    int i;

    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--help") == 0)
        return usage(stdout);
    if (strcmp(argv[1], "--version") == 0) {
        printf("d2c %s\n", D2C_BUILD_ID);
        return 0;
    }
    for (i = 0; commands[i].name != NULL; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "d2c: unknown command \"%s\"\n", argv[1]);
    return usage(stderr);
}

/* What was to be read and is not there, on a full disk say, is no success. */
static int
check_output(int code)
{
    if ((fflush(stdout) == 0 && !ferror(stdout)) || code != 0)
        return code;
    fprintf(stderr, "d2c: could not write to the standard output\n");
    return 1;
}

int
main(int argc, char **argv)
{
    limit_spinning(argv);
    forbid_tf32();
    prctl(PR_SET_NAME, program_invocation_short_name); /* otherwise ps says "exe" */
    return check_output(run(argc, argv));
}
