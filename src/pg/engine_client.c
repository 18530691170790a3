/*
 * engine_client.c: a backend's side of the engine's socket.
 *
 * One connection a backend, kept between calls.  A batch's frames are written and its replies read as the socket allows,
 * whichever comes first, so that neither end can block the other.  While a batch is under way the connection belongs to
 * a memory context of its own; when an error ends the batch, that context's callback closes the connection: the engine
 * drops the queued work, and stray replies cannot reach the next batch.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/xlog.h"
#include "build_id.h"
#include "catalog/pg_extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pg/engine_client.h"
#include "pg/engine_start.h"
#include "pg/settings.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#define CONNECT_TIMEOUT_MS 30000
#define CONNECT_PAUSE_MS 10
#define TRIAL_LOCK 0xd2c		/* the sub-ID, of no extension in particular, that sessions lock */

static struct
{
	int			fd;				/* -1: not connected */
	uint64		connection;		/* counts connections */
	bool		busy;			/* an exchange is under way, or was ended by an error */
	uint64		next_id;
	char		settings[D2C_SETTINGS_SIZE];	/* those of its hello; "" before it succeeded */
	D2cEngineInfo info;
}			engine = {.fd = -1};

/* Requests under way. */
typedef struct Exchange
{
	d2c_request kind;
	StringInfo *payloads;
	D2cReply  **replies;
	int			n;
	uint64		first_id;
	int			sent;			/* frames written whole */
	size_t		sent_bytes;		/* of the frame after them, header included */
	int			received;
	d2c_frame	head;			/* of the reply being read */
	size_t		head_bytes;
	char	   *body;
	size_t		body_bytes;
	MemoryContext result_context;
	bool		write_closed;
	bool		goodbye;
	bool		device_failed;	/* a reply says so: the engine may be about to end */
} Exchange;

typedef enum ExchangeResult
{
	EXCHANGE_DONE,
	EXCHANGE_LEFT,				/* the engine left in good order: the rest may be sent to another */
	EXCHANGE_LOST				/* it crashed or was stopped */
} ExchangeResult;

static void
Disconnect(void)
{
	engine.settings[0] = '\0';
	if (engine.fd < 0)
		return;
	close(engine.fd);
	ReleaseExternalFD();
	engine.fd = -1;
}

/*
 * An exchange's context ends.  Depending on where an error was caught, that may be late: the connection is then another.
 */
static void
EndExchange(void *arg)
{
	if (engine.busy && engine.connection == *(uint64 *) arg)
		Disconnect();
}

/*
 * Whether the two ends of the socket trust each other: it must belong to the server's user, or to the one configured.
 */
static void
CheckPeer(int fd)
{
	uid_t		uid,
				wanted = geteuid();
	gid_t		gid;

	if (d2c_engine_user[0] != '\0')
	{
		struct passwd *user = getpwnam(d2c_engine_user);

		if (user == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("operating system user \"%s\" of d2c.engine_user does not exist", d2c_engine_user)));
		wanted = user->pw_uid;
	}
	if (getpeereid(fd, &uid, &gid) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not get the peer of the d2c engine's socket: %m")));
	if (uid != wanted)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the d2c engine is run by another user"),
				 errdetail("The process at \"%s\" has user ID %d, expected was %d.", D2C_SOCKET_PATH, (int) uid,
						   (int) wanted),
				 errhint("Set d2c.engine_user when an engine under that user is wanted.")));
}

/*
 * Connect to an engine that listens; -1 with errno when there is none.
 */
static int
OpenSocket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);
	int			reason;

	if (fd < 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not create a socket for the d2c engine: %m")));
	strlcpy(address.sun_path, D2C_SOCKET_PATH, sizeof(address.sun_path));
	if (fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
		connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0)
		return fd;
	reason = errno;
	close(fd);
	errno = reason;
	return -1;
}

/*
 * Make a connection the session's own.
 */
static void
AdoptSocket(int fd)
{
	Assert(engine.fd < 0);
	ReserveExternalFD();
	engine.fd = fd;
	engine.connection++;
	engine.busy = false;
	engine.next_id = 1;
}

/*
 * Write until the socket takes no more.
 */
static void
SendSome(Exchange *x)
{
	while (x->sent < x->n && !x->write_closed)
	{
		StringInfo	payload = x->payloads[x->sent];
		d2c_frame	frame = {D2C_PROTOCOL_MAGIC, payload->len, x->kind, 0, x->first_id + x->sent};
		size_t		in_frame = Min(x->sent_bytes, sizeof(frame));
		struct iovec part[2] = {
			{(char *) &frame + in_frame, sizeof(frame) - in_frame},
			{payload->data + (x->sent_bytes - in_frame), payload->len - (x->sent_bytes - in_frame)}
		};
		struct msghdr message = {.msg_iov = part, .msg_iovlen = 2};
		ssize_t		n = sendmsg(engine.fd, &message, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0)
			x->write_closed = true; /* what the engine still said is read to the end */
		else
			x->sent_bytes += n;
		if (x->sent_bytes == sizeof(frame) + payload->len)
		{
			x->sent++;
			x->sent_bytes = 0;
		}
	}
}

/*
 * Where the next bytes of the reply go, and how many are missing there.
 */
static char *
ReceiveTarget(Exchange *x, size_t *wanted)
{
	if (x->head_bytes < sizeof(x->head))
	{
		*wanted = sizeof(x->head) - x->head_bytes;
		return (char *) &x->head + x->head_bytes;
	}
	*wanted = x->head.length - x->body_bytes;
	return x->body + x->body_bytes;
}

static void
ProtocolViolation(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the d2c engine sent an invalid reply")));
}

/*
 * A header is complete: check it and make room for what follows.
 */
static void
ReceiveHead(Exchange *x)
{
	uint64		index = x->head.id - x->first_id;

	if (x->head.magic != D2C_PROTOCOL_MAGIC || x->head.length > D2C_FRAME_LIMIT)
		ProtocolViolation();
	if (x->head.kind == D2C_GOODBYE && x->head.length == 0)
	{
		x->goodbye = true;
		x->head_bytes = 0;
		return;
	}
	if (x->head.kind != x->kind || index >= (uint64) x->n || x->replies[index]->answered)
		ProtocolViolation();
	x->body = MemoryContextAlloc(x->result_context, x->head.length + 1);
	x->body_bytes = 0;
}

/*
 * A reply is complete: hand it to its request.
 */
static void
ReceiveBody(Exchange *x)
{
	D2cReply   *reply = x->replies[x->head.id - x->first_id];

	reply->answered = true;
	reply->status = x->head.status;
	x->device_failed |= reply->status == D2C_DEVICE;
	reply->payload = x->body;
	reply->length = x->head.length;
	if (reply->status != D2C_OK)
	{
		MemoryContext old = MemoryContextSwitchTo(x->result_context);
		d2c_reader	reader = {x->body, x->body + x->head.length, 0};

		reply->message = D2cReadText(&reader);
		reply->detail = D2cReadText(&reader);
		reply->hint = D2cReadText(&reader);
		MemoryContextSwitchTo(old);
	}
	x->received++;
	x->head_bytes = 0;
	x->body = NULL;
}

/*
 * Read until the socket has no more; false at its end.
 */
static bool
ReceiveSome(Exchange *x)
{
	while (x->received < x->n)
	{
		size_t		wanted;
		char	   *target = ReceiveTarget(x, &wanted);
		ssize_t		n = recv(engine.fd, target, wanted, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
		if (n <= 0)
			return false;
		if (x->head_bytes < sizeof(x->head))
		{
			x->head_bytes += n;
			if (x->head_bytes == sizeof(x->head))
				ReceiveHead(x);
		}
		else
			x->body_bytes += n;
		if (x->head_bytes == sizeof(x->head) && x->body_bytes == x->head.length)
			ReceiveBody(x);
	}
	return true;
}

uint32
D2cWaitEvent(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("D2cEngine");
	return event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

static void
WaitForEngine(int events)
{
	WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | events, engine.fd, -1L, D2cWaitEvent());
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Send n requests on the open connection and read their replies.  The connection is closed unless all were answered, and
 * by an engine whose device works.
 */
static ExchangeResult
RunExchange(d2c_request kind, StringInfo *payloads, int n, D2cReply **replies)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "d2c exchange", ALLOCSET_SMALL_SIZES);
	MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(*callback));
	uint64	   *connection = MemoryContextAlloc(context, sizeof(uint64));
	bool		open = true;
	Exchange	x = {
		.kind = kind, .payloads = payloads, .n = n, .replies = replies,
		.first_id = engine.next_id, .result_context = CurrentMemoryContext
	};

	*connection = engine.connection;
	callback->func = EndExchange;
	callback->arg = connection;
	MemoryContextRegisterResetCallback(context, callback);
	engine.busy = true;
	engine.next_id += n;
	while (open && x.received < n)
	{
		SendSome(&x);
		open = ReceiveSome(&x);
		if (open && x.received < n)
			WaitForEngine(WL_SOCKET_READABLE |
						  (x.sent < n && !x.write_closed ? WL_SOCKET_WRITEABLE : 0));
	}
	engine.busy = x.received < n || x.device_failed;
	MemoryContextDelete(context);
	if (x.received == n)
		return EXCHANGE_DONE;
	return x.goodbye ? EXCHANGE_LEFT : EXCHANGE_LOST;
}

/*
 * One request on the open connection.
 */
static ExchangeResult
RunSingle(d2c_request kind, StringInfo payload, D2cReply *reply)
{
	memset(reply, 0, sizeof(*reply));
	return RunExchange(kind, &payload, 1, &reply);
}

/*
 * Introduce ourselves.  False: the engine left, or gives its place to one with our settings.
 */
static bool
SayHello(const char *settings, int *refused)
{
	StringInfoData payload;
	D2cReply	reply;
	d2c_reader	reader;

	initStringInfo(&payload);
	D2cPutBytes(&payload, D2C_BUILD_ID, strlen(D2C_BUILD_ID));
	D2cPutBytes(&payload, settings, strlen(settings));	/* as the engine's command line has them */
	if (RunSingle(D2C_REQUEST_HELLO, &payload, &reply) != EXCHANGE_DONE)
		return false;
	if (reply.status != D2C_OK)
	{
		Disconnect();
		if (reply.status != D2C_UNSUPPORTED || ++*refused > 1)
			D2cEngineRaise(&reply);
		return false;
	}
	reader = (d2c_reader) {reply.payload, reply.payload + reply.length, 0};
	strlcpy(engine.info.build, D2cReadText(&reader), sizeof(engine.info.build));
	strlcpy(engine.info.device, D2cReadText(&reader), sizeof(engine.info.device));
	strlcpy(engine.info.precision, D2cReadText(&reader), sizeof(engine.info.precision));
	engine.info.pid = d2c_read_i64(&reader);
	return true;
}

/*
 * Wait a moment for an engine that is starting, or is about to leave.
 */
static void
Pause(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	if (INSTR_TIME_GET_MILLISEC(now) > CONNECT_TIMEOUT_MS)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the d2c engine does not answer"),
				 errhint("See its log \"%s\" in the data directory.", D2C_LOG_PATH)));
	WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, CONNECT_PAUSE_MS, D2cWaitEvent());
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Nothing listens: start an engine, unless it is somebody else's to run.
 */
static void
StartEngine(instr_time start)
{
	if (errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not connect to the d2c engine at \"%s\": %m", D2C_SOCKET_PATH)));
	if (errno == EAGAIN)		/* its queue of connections is full */
		Pause(start);
	else if (d2c_engine_user[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the d2c engine does not run"),
				 errdetail("d2c.engine_user says that user \"%s\" runs it as a service.", d2c_engine_user),
				 errhint("Start that service, or reset d2c.engine_user so that the server starts the engine itself.")));
	else if (!D2cStartEngine())
		Pause(start);
}

/*
 * An idle connection must be quiet; a word on it is a goodbye, its end a crash.
 */
static bool
ConnectionIsQuiet(void)
{
	char		byte;

	return recv(engine.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

const D2cEngineInfo *
D2cEngineConnect(void)
{
	d2c_settings settings;
	char		wanted[D2C_SETTINGS_SIZE];
	instr_time	start;
	int			refused = 0;

	D2cCurrentSettings(&settings);
	d2c_settings_text(wanted, &settings);
	if (engine.fd >= 0 && !engine.busy && strcmp(wanted, engine.settings) == 0 && ConnectionIsQuiet())
		return &engine.info;
	Disconnect();
	INSTR_TIME_SET_CURRENT(start);
	for (;;)
	{
		int			fd = OpenSocket();

		if (fd < 0)
		{
			StartEngine(start);
			continue;
		}
		AdoptSocket(fd);
		CheckPeer(fd);
		if (SayHello(wanted, &refused))
		{
			strcpy(engine.settings, wanted);
			return &engine.info;
		}
		Pause(start);
	}
}

bool
D2cEngineAsk(d2c_request kind, D2cReply *reply)
{
	StringInfoData payload;
	int			fd;
	bool		answered;

	Disconnect();
	fd = OpenSocket();
	if (fd < 0)
		return false;
	AdoptSocket(fd);
	CheckPeer(fd);
	initStringInfo(&payload);
	answered = RunSingle(kind, &payload, reply) == EXCHANGE_DONE;
	Disconnect();
	return answered;
}

/*
 * An exchange was not finished.  When the engine still said that its device failed, that is the reason, and what it had
 * not answered must not go to its successor: it may be what the device failed of.
 */
static void
RaiseDeviceFailure(const D2cReply *replies, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (replies[i].answered && replies[i].status == D2C_DEVICE)
			D2cEngineRaise(&replies[i]);
	}
}

static void
RaiseLost(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("the d2c engine ended while it worked for this query"),
			 errdetail("It crashed, was killed or was stopped; the database is not affected."),
			 errhint("The next call starts it again. Its log is \"%s\" in the data directory.", D2C_LOG_PATH)));
}

/*
 * Send the requests that have no answer yet, at most `limit`.  Raises nothing about a lost engine.
 */
static ExchangeResult
RunUnanswered(d2c_request kind, StringInfo payloads, int n, D2cReply *replies, int limit, int *first)
{
	StringInfo *pending = palloc(sizeof(StringInfo) * n);
	D2cReply  **targets = palloc(sizeof(D2cReply *) * n);
	ExchangeResult result;
	int			count = 0;

	for (int i = 0; i < n && count < limit; i++)
	{
		if (replies[i].answered)
			continue;
		if (count == 0)
			*first = i;
		pending[count] = &payloads[i];
		targets[count++] = &replies[i];
	}
	if (count == 0)
	{
		*first = -1;
		result = EXCHANGE_DONE;
	}
	else
	{
		(void) D2cEngineConnect();
		result = RunExchange(kind, pending, count, targets);
	}
	pfree(pending);
	pfree(targets);
	return result;
}

void
D2cEngineBatch(d2c_request kind, StringInfo payloads, int n, D2cReply *replies)
{
	ExchangeResult result;
	int			first;

	memset(replies, 0, sizeof(D2cReply) * n);
	do
	{
		result = RunUnanswered(kind, payloads, n, replies, n, &first);
		if (result != EXCHANGE_DONE)
			RaiseDeviceFailure(replies, n);
		if (result == EXCHANGE_LOST)
			RaiseLost();
	} while (result != EXCHANGE_DONE);
}

/*
 * Send the first request that has no answer, while no other session tries one of its own alone: its crash would be taken
 * for this one's.  An error frees the lock with its transaction.
 */
static ExchangeResult
TryAlone(d2c_request kind, StringInfo payloads, int n, D2cReply *replies, int *first)
{
	bool		lock = !RecoveryInProgress();	/* where no such lock is to be had */
	ExchangeResult result;

	if (lock)
		LockSharedObject(ExtensionRelationId, InvalidOid, TRIAL_LOCK, ExclusiveLock);
	result = RunUnanswered(kind, payloads, n, replies, 1, first);
	if (lock)
		UnlockSharedObject(ExtensionRelationId, InvalidOid, TRIAL_LOCK, ExclusiveLock);
	return result;
}

/*
 * Answer for an engine that could not.
 */
static void
AnswerCrashed(D2cReply *reply)
{
	reply->answered = true;
	reply->status = D2C_BAD_DATA;
	reply->message = pstrdup("the d2c engine crashed each time it worked on this row");
	reply->detail = pstrdup("It was tried alone twice, after two crashes among others.");
	reply->hint = pstrdup("Please report the row's data and the model's name.");
}

void
D2cEngineBatchIsolating(d2c_request kind, StringInfo payloads, int n, D2cReply *replies)
{
	int			crashes = 0;
	int			first = 0;
	int			suspect = -1;	/* the engine crashed when it was tried alone */

	memset(replies, 0, sizeof(D2cReply) * n);
	while (first >= 0)
	{
		bool		alone = crashes >= 2;
		ExchangeResult result = alone ? TryAlone(kind, payloads, n, replies, &first)
			: RunUnanswered(kind, payloads, n, replies, n, &first);

		if (result != EXCHANGE_DONE)
			RaiseDeviceFailure(replies, n);
		if (result != EXCHANGE_LOST)
			continue;
		crashes++;
		/* once may be the fault of a session that has not come to trying its rows alone */
		if (alone && first == suspect)
			AnswerCrashed(&replies[first]);
		else if (alone)
			suspect = first;
	}
}

d2c_reader
D2cEngineCall(d2c_request kind, StringInfo payload)
{
	D2cReply	reply;

	D2cEngineBatch(kind, payload, 1, &reply);
	if (reply.status != D2C_OK)
		D2cEngineRaise(&reply);
	return (d2c_reader) {reply.payload, reply.payload + reply.length, 0};
}
