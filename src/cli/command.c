/* command.c: the option table of command.h. */
#include "cli/command.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
format_value(char *text, size_t size, const d2c_option *option)
{
    switch (option->kind) {
    case D2C_OPTION_FLAG:
        snprintf(text, size, "%s", *(const int *)option->target ? "on" : "off");
        break;
    case D2C_OPTION_INT:
        snprintf(text, size, "%lld", (long long)*(const int64_t *)option->target);
        break;
    case D2C_OPTION_REAL:
        snprintf(text, size, "%g", *(const double *)option->target);
        break;
    case D2C_OPTION_TEXT: {
        const char *value = *(const char *const *)option->target;
        snprintf(text, size, "%s", value != NULL ? value : "");
        break;
    }
    }
}

static void
print_help(const d2c_option *options, const char *usage)
{
    char value[256];

    printf("Usage: d2c %s\n\nOptions:\n", usage);
    for (; options->name != NULL; options++) {
        format_value(value, sizeof value, options);
        printf("  --%-22s %s%s%s%s\n", options->name, options->help, value[0] ? " [" : "", value,
               value[0] ? "]" : "");
    }
}

static const d2c_option *
find_option(const d2c_option *options, const char *name, size_t length)
{
    for (; options->name != NULL; options++)
        if (strlen(options->name) == length && memcmp(options->name, name, length) == 0)
            return options;
    return NULL;
}

static d2c_status
check_range(const d2c_option *option, double value, d2c_error *err)
{
    if ((option->minimum == 0 && option->maximum == 0) ||
        (value >= option->minimum && value <= option->maximum))
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "--%s is out of range", option->name);
    d2c_detail(err, "It must lie between %g and %g.", option->minimum, option->maximum);
    return D2C_INVALID_ARGUMENT;
}

static int
is_switch(const char *text)
{
    return strcmp(text, "on") == 0 || strcmp(text, "off") == 0;
}

static d2c_status
set_value(const d2c_option *option, const char *text, d2c_error *err)
{
    char *end = NULL;

    errno = 0;
    switch (option->kind) {
    case D2C_OPTION_FLAG:
        if (is_switch(text)) {
            *(int *)option->target = text[1] == 'n';
            return D2C_OK;
        }
        break;
    case D2C_OPTION_INT: {
        long long value = strtoll(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0)
            break;
        *(int64_t *)option->target = value;
        return check_range(option, (double)value, err);
    }
    case D2C_OPTION_REAL: {
        double value = strtod(text, &end);
        if (end == text || *end != '\0' || errno != 0)
            break;
        *(double *)option->target = value;
        return check_range(option, value, err);
    }
    case D2C_OPTION_TEXT:
        *(const char **)option->target = text;
        return D2C_OK;
    }
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --%s: \"%s\"", option->name, text);
}

d2c_status
d2c_options_parse(const d2c_option *options, const char *usage, int argc, char **argv, int *help,
                  d2c_error *err)
{
    int i;

    *help = 0;
    for (i = 1; i < argc; i++) {
        const char *word = argv[i], *equals;
        const d2c_option *option;
        size_t length;

        if (strcmp(word, "--help") == 0) {
            print_help(options, usage);
            *help = 1;
            return D2C_OK;
        }
        if (strncmp(word, "--", 2) != 0)
            return d2c_fail(err, D2C_INVALID_ARGUMENT, "unexpected argument \"%s\"", word);
        word += 2;
        equals = strchr(word, '=');
        length = equals != NULL ? (size_t)(equals - word) : strlen(word);
        option = find_option(options, word, length);
        if (option == NULL) {
            d2c_fail(err, D2C_INVALID_ARGUMENT, "unrecognized option \"--%.*s\"", (int)length, word);
            d2c_hint(err, "d2c %s --help lists the options.", argv[0]);
            return D2C_INVALID_ARGUMENT;
        }
        if (equals != NULL)
            D2C_TRY(set_value(option, equals + 1, err));
        else if (option->kind == D2C_OPTION_FLAG && (i + 1 == argc || !is_switch(argv[i + 1])))
            *(int *)option->target = 1;
        else if (i + 1 < argc)
            D2C_TRY(set_value(option, argv[++i], err));
        else
            return d2c_fail(err, D2C_INVALID_ARGUMENT, "option \"--%s\" requires a value", option->name);
    }
    return D2C_OK;
}

void
d2c_options_print(const d2c_option *options)
{
    char value[1024];

    for (; options->name != NULL; options++) {
        format_value(value, sizeof value, options);
        printf("%s = %s\n", options->name, value);
    }
}

char *
d2c_options_json(const d2c_option *options)
{
    cJSON *object = cJSON_CreateObject();
    char *text;

    for (; options->name != NULL && object != NULL; options++) {
        switch (options->kind) {
        case D2C_OPTION_FLAG:
            cJSON_AddBoolToObject(object, options->name, *(const int *)options->target);
            break;
        case D2C_OPTION_INT:
            cJSON_AddNumberToObject(object, options->name, (double)*(const int64_t *)options->target);
            break;
        case D2C_OPTION_REAL:
            cJSON_AddNumberToObject(object, options->name, *(const double *)options->target);
            break;
        case D2C_OPTION_TEXT: {
            const char *value = *(const char *const *)options->target;
            cJSON_AddStringToObject(object, options->name, value != NULL ? value : "");
            break;
        }
        }
    }
    text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    return text;
}

int
d2c_command_failed(const d2c_error *err)
{
    fprintf(stderr, "d2c: %s\n", err->message);
    if (err->detail[0] != '\0')
        fprintf(stderr, "DETAIL:  %s\n", err->detail);
    if (err->hint[0] != '\0')
        fprintf(stderr, "HINT:  %s\n", err->hint);
    return 1;
}
