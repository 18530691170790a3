/*
 * engine_start.c: starting the engine from a backend.
 *
 * The engine must not be the postmaster's child in any sense: a child that dies by a signal makes the postmaster
 * restart the database, one that keeps the backend's sockets and pipes open hangs clients and pg_ctl, and one that
 * outlives the server keeps its files.  So: all signals blocked, two forks with a session of its own between, every file
 * closed but the postmaster's death pipe and a pipe for the report, an environment of little more than what CUDA looks
 * for, then exec.  Between fork and exec only async-signal-safe functions are called.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pg/engine_client.h"
#include "pg/engine_start.h"
#include "pg/settings.h"
#include "pgstat.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define FIRST_FREE_FD (D2C_REPORT_FD + 1)
#define REPORT_LIMIT 4096
#define MAX_ARGUMENTS 24

/* The command line, made before the fork. */
typedef struct EngineCommand
{
	char	   *argv[MAX_ARGUMENTS];
	int			argc;
	char	  **environment;
	long		open_max;
} EngineCommand;

static void
AddOption(EngineCommand *command, const char *name, const char *value)
{
	Assert(command->argc + 3 < MAX_ARGUMENTS);
	command->argv[command->argc++] = pstrdup(name);
	command->argv[command->argc++] = pstrdup(value);
}

static void
AddNumber(EngineCommand *command, const char *name, int64 value)
{
	AddOption(command, name, psprintf(INT64_FORMAT, value));
}

/*
 * Whether the engine gets a variable of the server's: the driver's library may lie where LD_LIBRARY_PATH says, it
 * keeps compiled kernels under HOME, and CUDA_VISIBLE_DEVICES and its like say which GPU may be used.
 */
static bool
IsKeptVariable(const char *variable)
{
	static const char *const kept[] = {"CUDA_", "HOME=", "LD_LIBRARY_PATH="};

	for (int i = 0; i < lengthof(kept); i++)
	{
		if (strncmp(variable, kept[i], strlen(kept[i])) == 0)
			return true;
	}
	return false;
}

static char **
BuildEnvironment(void)
{
	char	  **environment;
	int			count = 0;

	for (char **variable = environ; *variable != NULL; variable++)
		count += IsKeptVariable(*variable);
	environment = palloc((count + 3) * sizeof(*environment));
	count = 0;
	environment[count++] = "PATH=/usr/bin:/bin";
	environment[count++] = "LC_ALL=C";
	for (char **variable = environ; *variable != NULL; variable++)
	{
		if (IsKeptVariable(*variable))
			environment[count++] = *variable;
	}
	environment[count] = NULL;
	return environment;
}

static void
BuildCommand(EngineCommand *command)
{
	d2c_settings settings;

	memset(command, 0, sizeof(*command));
	D2cCurrentSettings(&settings);
	command->argv[command->argc++] = psprintf("%s/d2c-engine", pkglib_path);
	command->argv[command->argc++] = "engine";
	command->argv[command->argc++] = "--server-pipes";
	AddOption(command, "--socket", D2C_SOCKET_PATH);
	AddOption(command, "--data-directory", DataDir);
	AddOption(command, "--model-directory", settings.model_directory);
	AddOption(command, "--device", settings.device);
	AddOption(command, "--precision", settings.precision);
	AddNumber(command, "--threads", settings.threads);
	AddNumber(command, "--idle-timeout", settings.idle_timeout);
	AddNumber(command, "--memory-limit", settings.memory_limit);
	AddNumber(command, "--max-image-pixels", settings.max_image_pixels);
	command->environment = BuildEnvironment();
	command->open_max = sysconf(_SC_OPEN_MAX);
}

/*
 * Close every descriptor from FIRST_FREE_FD on.
 */
static void
CloseOthers(long open_max)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, FIRST_FREE_FD, ~0U, 0) == 0)
		return;
#endif
	for (long fd = FIRST_FREE_FD; fd < open_max; fd++)
		close(fd);
}

/*
 * Put the two pipes at their places, whatever numbers they have now, and /dev/null at 0 to 2.
 */
static bool
ArrangeFiles(int death_fd, int report_fd, long open_max)
{
	int			null_fd = open("/dev/null", O_RDWR);
	int			death = fcntl(death_fd, F_DUPFD, FIRST_FREE_FD);
	int			report = fcntl(report_fd, F_DUPFD, FIRST_FREE_FD);

	if (null_fd < 0 || death < 0 || report < 0)
		return false;
	for (int fd = 0; fd < 3; fd++)
	{
		if (dup2(null_fd, fd) < 0)
			return false;
	}
	if (dup2(death, D2C_DEATH_FD) < 0 || dup2(report, D2C_REPORT_FD) < 0)
		return false;
	CloseOthers(open_max);
	return true;
}

static void
ResetSignals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t	none;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * The second child: becomes the engine, or reports errno.
 */
static void
BecomeEngine(const EngineCommand *command, int death_fd, int report_fd)
{
	char		report[1 + sizeof(int)] = {D2C_REPORT_EXEC_FAILED};
	int			out = report_fd;
	int			reason;

	if (ArrangeFiles(death_fd, report_fd, command->open_max))
	{
		out = D2C_REPORT_FD;
		ResetSignals();
		execve(command->argv[0], command->argv, command->environment);
	}
	reason = errno;
	memcpy(report + 1, &reason, sizeof(int));
	if (write(out, report, sizeof(report)) < 0)
		_exit(1);
	_exit(0);
}

/*
 * Fork twice, so that init, or whoever stands for it, adopts the engine.  Returns errno, 0 on success.
 */
static int
ForkEngine(const EngineCommand *command, int report_fd)
{
	sigset_t	all,
				old;
	int			failure = 0;
	pid_t		pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
	{
		setsid();
		if (fork() == 0)
			BecomeEngine(command, postmaster_alive_fds[POSTMASTER_FD_WATCH], report_fd);
		_exit(0);
	}
	if (pid < 0)
		failure = errno;
	else
	{
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return failure;
}

/* The reading end of the report, closed when its context ends. */
static void
CloseReport(void *arg)
{
	close((int) (intptr_t) arg);
	ReleaseExternalFD();
}

/*
 * Read the report to its end; the engine closes it once it listens.
 */
static size_t
ReadReport(char *report, int fd)
{
	size_t		length = 0;

	for (;;)
	{
		ssize_t		n = read(fd, report + length, REPORT_LIMIT - 1 - length);

		if (n > 0)
			length += n;
		else if (n == 0)
			break;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
		{
			WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH, fd, -1L,
							  D2cWaitEvent());
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		else if (errno != EINTR)
			ereport(ERROR,
					(errcode(ERRCODE_SYSTEM_ERROR),
					 errmsg("could not read the start-up report of the d2c engine: %m")));
	}
	report[length] = '\0';
	return length;
}

/*
 * The next string of the report, which ends at report[length] with a terminator at the latest.
 */
static const char *
NextString(const char *report, size_t length, size_t *at)
{
	const char *string = report + Min(*at, length);

	*at += strlen(string) + 1;
	return string;
}

/*
 * What a report says behind its first byte.
 */
typedef struct ReportText
{
	const char *message,
			   *detail,
			   *hint;
} ReportText;

static ReportText
ReadReportText(const char *report, size_t length)
{
	ReportText	text;
	size_t		at = 1;

	text.message = NextString(report, length, &at);
	text.detail = NextString(report, length, &at);
	text.hint = NextString(report, length, &at);
	return text;
}

/*
 * The engine did not start.  The SQLSTATE is the system's: procedures take others for a row's fault.
 */
static void
RaiseReport(const char *report, size_t length, const char *program)
{
	ReportText	text = ReadReportText(report, length);

	if (length == 1 + sizeof(int) && report[0] == D2C_REPORT_EXEC_FAILED)
	{
		memcpy(&errno, report + 1, sizeof(int));
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not start the d2c engine \"%s\": %m", program)));
	}
	if (length == 0 || report[0] != D2C_REPORT_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the d2c engine ended while it started"),
				 errhint("See its log \"%s\" in the data directory.", D2C_LOG_PATH)));
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("could not start the d2c engine: %s", text.message),
			 text.detail[0] != '\0' ? errdetail_internal("%s", text.detail) : 0,
			 text.hint[0] != '\0' ? errhint("%s", text.hint) : 0));
}

/*
 * The engine started, and has something to say about it.
 */
static void
NoticeReport(const char *report, size_t length)
{
	ReportText	text = ReadReportText(report, length);

	ereport(NOTICE,
			(errmsg_internal("%s", text.message),
			 text.detail[0] != '\0' ? errdetail_internal("%s", text.detail) : 0,
			 text.hint[0] != '\0' ? errhint("%s", text.hint) : 0));
}

/*
 * A pipe whose reading end belongs to the context.
 */
static void
OpenReport(int fds[2], MemoryContext context)
{
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(*callback));

	ReserveExternalFD();
	if (pipe(fds) != 0)
	{
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create a pipe to the d2c engine: %m")));
	}
	callback->func = CloseReport;
	callback->arg = (void *) (intptr_t) fds[0];
	MemoryContextRegisterResetCallback(context, callback);
	if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0)
		elog(ERROR, "could not set a pipe to non-blocking mode: %m");
}

bool
D2cStartEngine(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "d2c engine start",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EngineCommand command;
	char		report[REPORT_LIMIT];
	size_t		length;
	int			fds[2];
	int			failure;

	if (!IsUnderPostmaster)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the d2c engine is not available in single-user mode")));
	BuildCommand(&command);
	OpenReport(fds, context);
	failure = ForkEngine(&command, fds[1]);
	close(fds[1]);
	if (failure != 0)
	{
		errno = failure;
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not fork the d2c engine: %m")));
	}
	length = ReadReport(report, fds[0]);
	if (length == 0 || (report[0] != D2C_REPORT_READY && report[0] != D2C_REPORT_BUSY))
		RaiseReport(report, length, command.argv[0]);
	if (length > 1)
		NoticeReport(report, length);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return report[0] == D2C_REPORT_READY;
}
