/*
 * settings.c: the configuration parameters of d2c.
 *
 * What belongs to the engine is the same for every session, so it can be set in the configuration file only; after a
 * reload the next call replaces an engine that runs with other settings.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "pg/settings.h"
#include "utils/guc.h"

int			d2c_batch_memory;
int			d2c_select_memory;
char	   *d2c_engine_user;

static char *model_directory;
static char *device;
static int	precision;
static int	threads;
static int	idle_timeout;
static int	engine_memory;
static int	max_image_pixels;

static const struct config_enum_entry precision_options[] = {
	{"auto", 0, false},
	{"f32", 1, false},
	{"bf16", 2, false},
	{"fp8", 3, false},
	{NULL, 0, false}
};

/*
 * "auto", "cpu", "cuda" or "cuda:" and digits.
 */
static bool
CheckDevice(char **newval, void **extra, GucSource source)
{
	const char *value = *newval;

	if (strcmp(value, "auto") == 0 || strcmp(value, "cpu") == 0 || strcmp(value, "cuda") == 0)
		return true;
	if (strncmp(value, "cuda:", 5) == 0 && value[5] != '\0' && strlen(value) <= 8 &&
		strspn(value + 5, "0123456789") == strlen(value + 5))
		return true;
	GUC_check_errhint("Available values: auto, cpu, cuda, cuda:0, cuda:1, ...");
	return false;
}

/*
 * A directory's name must fit the engine's command line.
 */
static bool
CheckModelDirectory(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] != '\0' && strlen(*newval) < MAXPGPATH)
		return true;
	GUC_check_errdetail("The name of the directory is empty or too long.");
	return false;
}

static void
DefineEngineNumber(const char *name, const char *description, const char *more, int *variable, int value,
				   int minimum, int maximum, int flags)
{
	DefineCustomIntVariable(name, description, more, variable, value, minimum, maximum, PGC_SIGHUP, flags,
							NULL, NULL, NULL);
}

static void
DefineEngineSettings(void)
{
	static char default_directory[MAXPGPATH + 16];	/* the parameter keeps its address */
	char		share[MAXPGPATH];

	get_share_path(my_exec_path, share);
	snprintf(default_directory, sizeof(default_directory), "%s/d2c/models", share);
	DefineCustomStringVariable("d2c.model_directory", "Directory that holds the models.",
							   "NAME.safetensors, NAME.pt or NAME.pth, or a folder NAME in the Hugging Face layout.",
							   &model_directory, default_directory, PGC_SIGHUP, 0,
							   CheckModelDirectory, NULL, NULL);
	DefineCustomStringVariable("d2c.device", "Device that the engine computes on.",
							   "auto takes a GPU where there is one; the engine's log says why it did not.",
							   &device, "auto", PGC_SIGHUP, 0, CheckDevice, NULL, NULL);
	DefineCustomEnumVariable("d2c.precision", "Number format of the engine's matrix products.",
							 "auto is f32 on the CPU and bf16 on a GPU; fp8 has e4m3 operands in the large products.",
							 &precision, 0, precision_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineEngineNumber("d2c.threads", "Number of the engine's computing threads.",
					   "0 means the machine's cores less one, on a GPU at most 8.", &threads, 0, 0, 1024, 0);
	DefineEngineNumber("d2c.idle_timeout", "Time without work after which the engine leaves.",
					   "0 means that it stays until the server stops.", &idle_timeout, 600, 0, INT_MAX / 1000,
					   GUC_UNIT_S);
	DefineEngineNumber("d2c.engine_memory", "Memory that the engine keeps models in.",
					   "0 means half of the machine's memory, or 80 % of the GPU's.", &engine_memory, 0, 0, INT_MAX, GUC_UNIT_MB);
	DefineEngineNumber("d2c.max_image_pixels", "Largest image, in pixels, that the engine decodes.",
					   NULL, &max_image_pixels, 64 * 1024 * 1024, 1, 256 * 1024 * 1024, 0);
	DefineCustomStringVariable("d2c.engine_user",
							   "Operating system user who runs the engine as a service.",
							   "Empty means that the server starts the engine itself, under its own user.",
							   &d2c_engine_user, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
D2cDefineSettings(void)
{
	DefineEngineSettings();
	DefineCustomIntVariable("d2c.batch_memory", "Memory for the values of one batch of a window function.",
							NULL, &d2c_batch_memory, 64 * 1024, 64, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("d2c.select_memory", "Largest features of a group that a selection is made of in the session.",
							"Those of larger groups are sent to the engine, which picks the same rows.", &d2c_select_memory, 64 * 1024, 0,
							MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	MarkGUCPrefixReserved("d2c");
}

void
D2cCurrentSettings(d2c_settings *settings)
{
	settings->model_directory = model_directory;
	settings->device = device;
	settings->precision = precision_options[precision].name;
	settings->threads = threads;
	settings->idle_timeout = idle_timeout;
	settings->memory_limit = engine_memory;
	settings->max_image_pixels = max_image_pixels;
}
