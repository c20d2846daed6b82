// SPDX-License-Identifier: GPL-2.0
/*
 * lodge-run --template: a Linux guest says that it is ready, and each connection to a socket is a
 * guest of its own from then on. Only where LODGE_SERVER=1 says that /guest has a guest that is
 * made for it (selftests/lab/guest-init): it does what comes over its second serial port, line by
 * line. LODGE_GUESTS is how many are made one after the other (100).
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "group.h"
#include "tap.h"

#define NAME "/tmp/server"
#define DISK NAME ".disk"
#define RESEEDED "crng reseeded due to virtual machine fork"
#define WORDS "console=ttyS0 panic=-1 quiet random.trust_cpu=on lodge.template"

enum { SECTOR = 512, TEN = 10, MARK = 40 };

static pid_t server;
static u8 image[8 << 20];

static u64 now_ms(void)
{
	struct timespec t;

	OK(clock_gettime(CLOCK_MONOTONIC, &t));
	return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

/* A disk with one sector that is not zeros; only this program writes to it. */
static void make_disk(void)
{
	int fd = OK(open(DISK, O_RDWR | O_CREAT | O_TRUNC, 0600));

	memset(image, 0, sizeof(image));
	strcpy((char *)image + MARK * SECTOR, "image\n");
	EQ(write(fd, image, sizeof(image)), sizeof(image));
	OK(close(fd));
}

static void same_disk(void)
{
	static u8 now[sizeof(image)];
	int fd = OK(open(DISK, O_RDONLY));

	EQ(read(fd, now, sizeof(now)), sizeof(now));
	TRUE(!memcmp(now, image, sizeof(now)));
	OK(close(fd));
}

static void needs_guest(void)
{
	const char *allowed = getenv("LODGE_SERVER");

	if (!allowed || strcmp(allowed, "1"))
		test_skip("it wants a guest that is made for it: LODGE_SERVER=1 says that /guest has it");
}

static struct memory_group group(const char *name)
{
	needs_guest();
	return group_new(name, 1000000000);
}

/* Boot the guest, and wait until it is ready; with a limit for each, in the group, or by a server that is in it. */
static void start_limited(const char *max, const char *cpus, const char *words, const char *memory,
			  const struct memory_group *g, bool inside)
{
	struct stat st;

	needs_guest();
	time_limit(600);
	unlink(NAME);
	make_disk();
	server = OK(fork());
	if (!server) {
		if (inside && !group_join(g))
			_exit(126);
		execl("/guest/lodge-run", "lodge-run", "--device", device_path(), "--kernel", "/guest/bzImage",
		      "--initrd", "/guest/initrd", "--mem", "192M", "--cpus", cpus, "--disk", DISK,
		      "--append", words, "--template", NAME, "--template-max", max,
		      memory ? "--template-memory" : NULL, memory, inside ? NULL : "--template-cgroup", g ? g->dir : NULL,
		      NULL);
		_exit(127);
	}
	while (stat(NAME, &st) < 0) {
		EQ(waitpid(server, NULL, WNOHANG), 0);
		usleep(20000);
	}
	EQ(st.st_mode & 0777, 0600);
}

static void start(const char *max, const char *cpus, const char *words)
{
	start_limited(max, cpus, words, NULL, NULL, false);
}

static int guest(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = NAME };
	int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));

	/* bind(2) comes a moment before listen(2). */
	while (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		EQ(errno, ECONNREFUSED);
		usleep(1000);
	}
	return fd;
}

static void tell(int fd, const char *command)
{
	EQ(send(fd, command, strlen(command), MSG_NOSIGNAL), strlen(command));
	EQ(send(fd, "\n", 1, MSG_NOSIGNAL), 1);
}

/* What a command prints, without its last newline. Its status has to be 0. */
static const char *answer(int fd)
{
	static char text[4096];
	size_t len = 0;
	char *end;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		EQ(poll(&p, 1, 60000 * slowness()), 1);
		n = read(fd, text + len, sizeof(text) - 1 - len);
		TRUE(n > 0);
		len += n;
		text[len] = 0;
		end = strstr(text, "status ");
		if (end && strchr(end, '\n'))
			break;
	}
	if (strcmp(end, "status 0\n"))
		FAIL("the guest said: %s", text);
	if (end > text)
		end--;
	*end = 0;
	return text;
}

static const char *ask(int fd, const char *command)
{
	tell(fd, command);
	return answer(fd);
}

#define SAYS(fd, command, wanted) do {								\
	const char *said_ = ask(fd, command);							\
												\
	count_check();										\
	if (strcmp(said_, wanted))								\
		FAIL("%s: '%s', wanted '%s'", command, said_, wanted);				\
} while (0)

static int processes(void)
{
	char name[64], text[4096];
	int fd, n = 0;
	ssize_t len;

	snprintf(name, sizeof(name), "/proc/%d/task/%d/children", server, server);
	fd = OK(open(name, O_RDONLY));
	len = read(fd, text, sizeof(text));
	TRUE(len >= 0);
	OK(close(fd));
	while (len--)
		n += text[len] == ' ';
	return n;
}

static void wait_processes(int n)
{
	u64 end = now_ms() + 10000 * slowness();

	while (processes() != n && now_ms() < end)
		usleep(1000);
	EQ(processes(), n);
}

/* A signal ends the server as it would any program; the socket goes, and the guests. */
static void end_server(void)
{
	struct stat st;
	int status;

	OK(kill(server, SIGTERM));
	EQ(waitpid(server, &status, 0), server);
	TRUE(WIFSIGNALED(status));
	EQ(WTERMSIG(status), SIGTERM);
	ERR(stat(NAME, &st), ENOENT);
}

static void right_time(int fd)
{
	u64 said = strtoull(ask(fd, "date +%s"), NULL, 10);

	LE(said, (u64)time(NULL) + 1);
	GE(said + 2, time(NULL));
}

/* What it knows is the template's, and the image's; the time is right; it has random numbers of its own. */
static void like_the_template(int fd)
{
	SAYS(fd, "dd if=/dev/vda bs=512 skip=8 count=1 2>/dev/null | head -n 1", "before");
	SAYS(fd, "dd if=/dev/vda bs=512 skip=40 count=1 2>/dev/null | head -n 1", "image");
	right_time(fd);
	for (int i = 0; i < 100 && atoi(ask(fd, "dmesg | grep -c '" RESEEDED "'; true")) < 1; i++)
		usleep(100000);
	SAYS(fd, "dmesg | grep -c '" RESEEDED "'", "1");
}

TEST(ten, "ten connections at once: each is a guest of its own, and the image stays as it was")
{
	char line[256], wanted[64], uuids[TEN][64];
	int fd[TEN], i, j;

	start("20", "1", WORDS);
	sleep(4);
	for (i = 0; i < TEN; i++) {
		fd[i] = guest();
		snprintf(line, sizeof(line), "echo disk %d | dd of=/dev/vda bs=512 seek=16 conv=fsync 2>/dev/null; "
			 "echo file %d >/tmp/mine", i, i);
		tell(fd[i], line);
	}
	wait_processes(TEN);
	for (i = 0; i < TEN; i++) {
		EQ(strlen(answer(fd[i])), 0);
		like_the_template(fd[i]);
		snprintf(uuids[i], sizeof(uuids[i]), "%s", ask(fd[i], "cat /proc/sys/kernel/random/uuid"));
		for (j = 0; j < i; j++)
			TRUE(strcmp(uuids[i], uuids[j]));
	}
	for (i = 0; i < TEN; i++) {
		SAYS(fd[i], "echo 3 >/proc/sys/vm/drop_caches", "");
		snprintf(wanted, sizeof(wanted), "disk %d\nfile %d", i, i);
		SAYS(fd[i], "dd if=/dev/vda bs=512 skip=16 count=1 2>/dev/null | head -n 1; cat /tmp/mine", wanted);
		like_the_template(fd[i]);
		SAYS(fd[i], "dmesg | grep -E 'BUG:|WARNING:|Oops|rcu.*stall|unstable' || echo none", "none");
	}
	for (i = 0; i < TEN; i++) {
		OK(close(fd[i]));
		wait_processes(TEN - 1 - i);
	}
	same_disk();
	end_server();
}

TEST(one_by_one, "guests one after the other, each with an answer: what it takes")
{
	const char *wish = getenv("LODGE_GUESTS");
	int i, n = wish ? atoi(wish) : 100;
	u64 begin, took;
	char line[64], wanted[64];

	start("4", "1", WORDS);
	begin = now_ms();
	for (i = 0; i < n; i++) {
		int fd = guest();

		snprintf(line, sizeof(line), "test ! -e /tmp/was && : >/tmp/was && echo guest %d", i);
		snprintf(wanted, sizeof(wanted), "guest %d", i);
		SAYS(fd, line, wanted);
		OK(close(fd));
	}
	took = now_ms() - begin;
	note("%d guests one after the other: %llu ms", n, (unsigned long long)took);
	wait_processes(0);
	same_disk();
	end_server();
}

TEST(limit, "more connections than guests may be: they wait; a guest ends with its connection, and the other way round")
{
	struct pollfd p = { .events = POLLIN };
	int a, b, fd;
	char byte;

	start("2", "2", WORDS " clocksource=tsc");
	sleep(4);
	a = guest();
	b = guest();
	SAYS(a, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
	right_time(a);
	SAYS(b, "echo b", "b");
	p.fd = fd = guest();
	tell(fd, "echo third");
	EQ(poll(&p, 1, 1000), 0);
	EQ(processes(), 2);
	/* no more input: as good as closed */
	OK(shutdown(a, SHUT_WR));
	EQ(strcmp(answer(fd), "third"), 0);
	EQ(read(a, &byte, 1), 0);
	EQ(processes(), 2);
	tell(b, "poweroff -f");
	EQ(read(b, &byte, 1), 0);
	wait_processes(1);
	/* a guest that reads no input, and more than its port takes */
	tell(fd, "sleep 1000");
	for (int i = 0; i < 100; i++)
		tell(fd, "echo a line that nobody reads, so that the port is full before the last of them has come");
	OK(close(fd));
	wait_processes(0);
	fd = guest();
	SAYS(fd, "echo still there", "still there");
	end_server();
	EQ(read(fd, &byte, 1), 0);
}

/* How many guests' groups are there, and the name of one of them. */
static int groups(const struct memory_group *g, char name[256])
{
	DIR *d = opendir(g->dir);
	struct dirent *e;
	int n = 0;

	TRUE(d != NULL);
	while ((e = readdir(d))) {
		if (strncmp(e->d_name, "guest.", 6))
			continue;
		n++;
		strcpy(name, e->d_name);
	}
	closedir(d);
	return n;
}

static void wait_groups(const struct memory_group *g, int n)
{
	u64 end = now_ms() + 10000 * slowness();
	char name[256];

	while (groups(g, name) != n && now_ms() < end)
		usleep(1000);
	EQ(groups(g, name), n);
}

/* What the only guest has, in MiB. */
static unsigned long used(const struct memory_group *g)
{
	char name[256], path[384], text[32] = "";
	int fd;

	EQ(groups(g, name), 1);
	snprintf(path, sizeof(path), "%s/%s/memory.current", g->dir, name);
	fd = OK(open(path, O_RDONLY));
	TRUE(read(fd, text, sizeof(text) - 1) > 0);
	OK(close(fd));
	return strtoul(text, NULL, 10) >> 20;
}

/* With 48 MiB for each: what one writes is its own, what it found is not, and one that writes too much is ended. */
static void limited(const struct memory_group *g)
{
	int a = guest(), b;
	char byte;

	SAYS(a, "md5sum /bin/busybox >/dev/null", "");
	LE(used(g), 16);
	SAYS(a, "dd if=/dev/zero of=/tmp/some bs=1M count=30 2>/dev/null", "");
	note("30 MiB of the guest's: %lu MiB of the host's", used(g));
	GE(used(g), 28);
	b = guest();
	SAYS(b, "test ! -e /tmp/some && echo b", "b");
	tell(a, "dd if=/dev/zero of=/tmp/more bs=1M count=40");
	EQ(read(a, &byte, 1), 0);
	wait_processes(1);
	SAYS(b, "echo still there", "still there");
	a = guest();
	SAYS(a, "test ! -e /tmp/more && echo a", "a");
	wait_groups(g, 2);
	OK(close(a));
	OK(close(b));
	wait_groups(g, 0);
	a = guest();
	SAYS(a, "echo a", "a");
	end_server();
	wait_groups(g, 0);
	OK(close(a));
}

TEST(memory, "a guest that takes more memory than each may have is ended; the others live, and the server")
{
	struct memory_group g = group("lodge-memory");

	start_limited("4", "1", WORDS, "48M", &g, false);
	limited(&g);
	OK(rmdir(g.dir));
	group_end(&g);
}

TEST(own_group, "the same in the group that lodge-run was started in, alone")
{
	struct memory_group g = group("lodge-own");
	char path[128];

	start_limited("4", "1", WORDS, "48M", &g, true);
	limited(&g);
	snprintf(path, sizeof(path), "%s/lodge-run", g.dir);
	OK(rmdir(path));
	OK(rmdir(g.dir));
	group_end(&g);
}

TEST(not_alone, "a group with other processes cannot limit guests: a sentence, and status 1")
{
	struct memory_group g = group("lodge-not-alone");
	pid_t pid = OK(fork());
	char path[128];
	int status;

	if (!pid) {
		if (!group_join(&g))
			_exit(126);
		pid = fork();
		if (!pid) {
			execl("/guest/lodge-run", "lodge-run", "--kernel", "/guest/bzImage", "--template", NAME,
			      "--template-memory", "48M", NULL);
			_exit(127);
		}
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 125);
	}
	EQ(waitpid(pid, &status, 0), pid);
	EQ(status, 1 << 8);
	snprintf(path, sizeof(path), "%s/lodge-run", g.dir);
	ERR(rmdir(path), ENOENT);
	OK(rmdir(g.dir));
	group_end(&g);
}
