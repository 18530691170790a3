/*
 * command.h: what the subcommands of `d2c` share: the table of options, and how a failure is told.
 *
 * A subcommand states its options once, in a table; parsing, --help and the printed configuration come from it.
 */
#ifndef D2C_CLI_COMMAND_H
#define D2C_CLI_COMMAND_H

#include <stdint.h>

#include "base/status.h"

typedef enum d2c_option_kind { D2C_OPTION_FLAG, D2C_OPTION_INT, D2C_OPTION_REAL, D2C_OPTION_TEXT } d2c_option_kind;

/* One --name.  `target` is an int, int64_t, double or const char * by kind, set to its default beforehand. */
typedef struct d2c_option {
    const char *name; /* without the dashes */
    d2c_option_kind kind;
    void *target;
    double minimum, maximum; /* of numbers; both 0: any */
    const char *help;
} d2c_option;

/* Sets the targets from argv[1..]; "--name value" and "--name=value", and "--name"
 * alone for a flag, whose values are on and off; --help prints the table and sets *help.  The
 * table ends with a NULL name.  Unknown options, stray words and values out of range are D2C_INVALID_ARGUMENT. */
d2c_status d2c_options_parse(const d2c_option *options, const char *usage, int argc, char **argv, int *help,
                             d2c_error *err);

/* Every option with its value, one a line, as "name = value"; and as a JSON object, malloc'd. */
void d2c_options_print(const d2c_option *options);
char *d2c_options_json(const d2c_option *options);

/* Prints "d2c: message", DETAIL and HINT to stderr; returns the exit status 1. */
int d2c_command_failed(const d2c_error *err);

/* The subcommands: argv[0] is the subcommand's name; the result is the exit status. */
typedef int (*d2c_command)(int argc, char **argv);

int d2c_command_engine(int argc, char **argv);
int d2c_command_eval(int argc, char **argv);
int d2c_command_export(int argc, char **argv);
int d2c_command_import(int argc, char **argv);
int d2c_command_models(int argc, char **argv);
int d2c_command_sheet(int argc, char **argv);
int d2c_command_train(int argc, char **argv);
int d2c_command_sample(int argc, char **argv);

#endif
