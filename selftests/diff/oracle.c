// SPDX-License-Identifier: GPL-2.0
/*
 * The oracle: stock KVM and Lodge run the same programs on the same host, one after the other, and say what they saw
 * in lines of facts (fact.h). A fact that differs is a failure, unless `expected` has it with its reason; and with
 * --whole, which goes with the cases of everyday, what is expected there and does not come is a failure too, so that the
 * file tells the truth. Of other cases, or fewer, a line may have none that it is about.
 *
 *	oracle [--whole] HOST:KERNEL PROGRAM[:ARGUMENT]...
 *
 * `expected` has a line for each kind of difference: where | program | case | stock | Lodge | reason. The first five
 * are patterns of the shell (the first one or several), and the reason is a row of docs/differences.md; "NAME, seldom"
 * is for what few cases show, which need not come. Values are compared by their parts: each `field=value` for itself
 * (missing on one side: "-"), and what is left, together; the value of a line that is missing on one side is "(none)".
 *
 * The facts of `ioctls` and `guests` come in sequences, `12.3 ...` is step 3 of number 12. When a call has said
 * something else, what follows in its sequence is neither compared nor counted; a field that has differed is left out.
 */
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <stdarg.h>

#include "oracle.h"

enum { FIELDS = 6, PROGRAM_LIMIT = 3000, SHOWN = 60, SHRUNK = 3, MAX_SEQUENCES = 1 << 20 };

static const char *const device[SIDES] = { "/dev/kvm", "/dev/lodge" };
static const char *const side_name[SIDES] = { "stock", "lodge" };
static const char *where;
static int results, failures;

static struct expectation {
	char *field[FIELDS];	/* where, program, case, stock, lodge, reason ("NAME, seldom": need not come) */
	u32 line, used;
} *expected;
static u32 expectations;

__attribute__((format(printf, 2, 3))) static void result(bool ok, const char *fmt, ...)
{
	va_list args;

	printf("%sok %d - ", ok ? "" : "not ", ++results);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	failures += !ok;
}

static char *read_text(const char *path, size_t *size)
{
	struct stat st;
	char *text = NULL;
	int fd = open(path, O_RDONLY);

	if (fd >= 0 && !fstat(fd, &st)) {
		text = calloc(1, st.st_size + 1);
		if (text && read(fd, text, st.st_size) == st.st_size && size)
			*size = st.st_size;
	}
	if (fd >= 0)
		close(fd);
	return text;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct fact *)a)->name, ((const struct fact *)b)->name);
}

static struct facts parse(char *text)
{
	struct facts facts = { .text = text };
	u32 room = 0, line = 0;
	char *next;

	for (char *p = text; p && *p; p = next, line++) {
		char *value = strstr(p, ": ");

		next = strchrnul(p, '\n');
		if (*next)
			*next++ = 0;
		if (*p == '#')
			puts(p);
		if (*p == '#' || !value || value > next)
			continue;
		*value = 0;
		if (facts.n == room) {
			room = room * 2 + 1024;
			facts.f = realloc(facts.f, room * sizeof(*facts.f));
		}
		facts.f[facts.n++] = (struct fact) { p, value + 2, line };
	}
	facts.lines = line;
	qsort(facts.f, facts.n, sizeof(*facts.f), by_name);
	return facts;
}

void free_facts(struct facts *facts)
{
	free(facts->f);
	free(facts->text);
}

const struct fact *find_fact(const struct facts *facts, const char *name)
{
	struct fact key = { .name = (char *)name };

	return bsearch(&key, facts->f, facts->n, sizeof(key), by_name);
}

bool load_module(enum side side)
{
	char command[64];

	snprintf(command, sizeof(command), "sh ./module %s", side_name[side]);
	return !system(command);
}

static bool wait_for(pid_t pid, const char *program)
{
	int status = 0;

	for (int tick = 0; waitpid(pid, &status, WNOHANG) != pid; tick++) {
		if (tick == PROGRAM_LIMIT * 100)
			kill(pid, SIGKILL);
		usleep(10000);
	}
	if (status)
		printf("# %s: ended with %s %d\n", program, WIFSIGNALED(status) ? "signal" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return !status;
}

struct facts collect(enum side side, const char *program, const char *arg)
{
	char path[64], run[64];
	struct facts facts;
	bool good;
	pid_t pid;

	snprintf(path, sizeof(path), "/tmp/facts.%s", side_name[side]);
	snprintf(run, sizeof(run), "./%s", program);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

		if (fd < 0 || dup2(fd, 1) < 0 || setenv("LODGE_DEV", device[side], 1))
			_exit(126);
		execl(run, program, arg, NULL);
		_exit(127);
	}
	good = wait_for(pid, program);
	facts = parse(read_text(path, NULL));
	facts.failed = !good;
	/* The last line that it printed tells where. */
	for (u32 i = 0; !good && i < facts.n; i++)
		if (facts.f[i].line + 3 > facts.lines)
			printf("# near the end: %s: %s\n", facts.f[i].name, facts.f[i].value);
	unlink(path);
	return facts;
}

static char *trim(char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	for (char *e = s + strlen(s); e > s && (e[-1] == ' ' || e[-1] == '\t'); )
		*--e = 0;
	return s;
}

static bool read_expected(void)
{
	char *text = read_text("expected", NULL), *line, *save, *part;
	u32 number = 0;

	/* An empty file is read too: the stock KVM differs from itself in nothing. */
	for (char *next = text; next && *next; ) {
		struct expectation e = { .line = ++number };
		int n = 0;

		line = next;
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = 0;
		line = trim(line);
		if (!*line || *line == '#')
			continue;
		for (part = strtok_r(line, "|", &save); part && n < FIELDS; part = strtok_r(NULL, "|", &save))
			e.field[n++] = trim(part);
		if (n != FIELDS) {
			result(false, "expected: line %u has not %d fields", number, FIELDS);
			return false;
		}
		expected = realloc(expected, (expectations + 1) * sizeof(*expected));
		expected[expectations++] = e;
	}
	return text;
}

/* The first field of an expectation has one pattern or several, with blanks between. */
static bool is_here(const char *patterns)
{
	char text[256], *save, *p;

	snprintf(text, sizeof(text), "%s", patterns);
	for (p = strtok_r(text, " ", &save); p; p = strtok_r(NULL, " ", &save))
		if (!fnmatch(p, where, 0))
			return true;
	return false;
}

static bool is_expected(const char *program, const char *name, const char *stock, const char *lodge)
{
	const char *const text[] = { NULL, program, name, stock, lodge };
	bool found = false;

	/* Each line that applies is used: two that say the same are both true. */
	for (u32 i = 0; i < expectations; i++) {
		bool fits = is_here(expected[i].field[0]);

		for (int f = 1; fits && f < FIELDS - 1; f++)
			fits = !fnmatch(expected[i].field[f], text[f], 0);
		expected[i].used += fits;
		found |= fits;
	}
	return found;
}

struct tally {
	u64 compared, allowed, differing, after;
	u32 shown, shrunk;
};

/* A sequence's number, or -1; and the step. */
static s64 sequence_of(const char *name, u32 *step)
{
	unsigned int a, b;

	if (sscanf(name, "%u.%u", &a, &b) != 2)
		return -1;
	*step = b;
	return a;
}

/*
 * The parts of a value in which two differ: each `field=value` for itself, and all that has no field together, which
 * is what the call said.
 */
struct pair {
	char stock[2048], lodge[2048];
};

struct cursor {
	const char *at;
	int side, head;
};

static void head_of(const char *value, char *head, size_t size)
{
	size_t used = 0;

	*head = 0;
	for (const char *p = value, *e; *p; p = e + (*e == ' ')) {
		e = strchrnul(p, ' ');
		if (!memchr(p, '=', e - p) && used + (e - p) + 2 < size)
			used += snprintf(head + used, size - used, "%s%.*s", used ? " " : "", (int)(e - p), p);
	}
}

/* The part of this field (the text up to '='), or "-". */
static void field_of(const char *value, const char *field, size_t len, char *out, size_t size)
{
	for (const char *p = value, *e; *p; p = e + (*e == ' ')) {
		e = strchrnul(p, ' ');
		if ((size_t)(e - p) > len && p[len] == '=' && !memcmp(p, field, len)) {
			snprintf(out, size, "%.*s", (int)(e - p), p);
			return;
		}
	}
	snprintf(out, size, "-");
}

/* The next pair of fields that differ, from *at in one of the values on. */
static bool next_pair(const char *of, const char **at, const char *stock, const char *lodge, struct pair *pair)
{
	while (**at) {
		const char *p = *at, *e = strchrnul(p, ' '), *eq = memchr(p, '=', e - p);

		*at = e + (*e == ' ');
		if (!eq)
			continue;
		field_of(stock, p, eq - p, pair->stock, sizeof(pair->stock));
		field_of(lodge, p, eq - p, pair->lodge, sizeof(pair->lodge));
		/* From Lodge's side only what stock KVM's has not. */
		if (strcmp(pair->stock, pair->lodge) && (of == stock || !strcmp(pair->stock, "-")))
			return true;
	}
	return false;
}

/* The name of the field that a pair is about. */
static const char *field_name(const struct pair *pair)
{
	static char name[128];
	const char *part = strcmp(pair->stock, "-") ? pair->stock : pair->lodge;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(part, "="), part);
	return name;
}

/*
 * A field that has differed in a sequence is left out of the rest of it: what it is set to next is a change for one
 * side and none for the other. True if it has differed before; a full table forgets nothing, it takes no more.
 */
static bool differed_before(s64 sequence, const char *field)
{
	static u64 seen[1 << 17];
	u64 key = sequence + 1;
	u32 slot;

	if (sequence < 0)
		return false;
	for (; *field; field++)
		key = (key ^ (u8)*field) * 0x100000001b3;
	slot = key >> 40;
	for (u32 i = 0; i < 64; i++, slot++) {
		u64 *s = &seen[slot % ARRAY_SIZE(seen)];

		if (*s == key)
			return true;
		if (!*s) {
			*s = key;
			return false;
		}
	}
	return true;
}

static void show(const char *program, const char *name, const struct pair *pair, struct tally *t)
{
	if (t->shown++ < SHOWN || getenv("ORACLE_ALL"))
		printf("# %s | %s | %s | %s\n", program, name, pair->stock, pair->lodge);
}

/* Walks over the pairs in which two values differ: what the calls said, or where they said the same, the fields. */
static bool differing(const char *stock, const char *lodge, struct cursor *c, struct pair *pair)
{
	const char *const sides[] = { stock, lodge };

	if (!c->at) {
		c->at = sides[0];
		head_of(stock, pair->stock, sizeof(pair->stock));
		head_of(lodge, pair->lodge, sizeof(pair->lodge));
		c->head = strcmp(pair->stock, pair->lodge);
		if (c->head)
			return true;
	}
	for (; !c->head && c->side < 2; c->at = sides[++c->side])
		if (next_pair(sides[c->side], &c->at, stock, lodge, pair))
			return true;
	return false;
}

/* Whether what follows in the sequence can still be compared: the calls said the same. */
static bool judge(const char *program, const char *name, const char *stock, const char *lodge, struct tally *t)
{
	struct cursor c = { 0 };
	struct pair pair;
	bool good = true;
	u32 step = 0;
	s64 sequence = sequence_of(name, &step);

	t->compared++;
	if (!strcmp(stock, lodge))
		return true;
	while (differing(stock, lodge, &c, &pair)) {
		if (!c.head && differed_before(sequence, field_name(&pair)))
			continue;
		if (is_expected(program, name, pair.stock, pair.lodge))
			continue;
		good = false;
		show(program, name, &pair, t);
	}
	t->allowed += good;
	t->differing += !good;
	return !c.head;
}

void surprise(const char *program, const char *name, const char *stock, const char *lodge, char *what, size_t size)
{
	struct cursor c = { 0 };
	struct pair pair;

	*what = 0;
	while (!*what && differing(stock, lodge, &c, &pair)) {
		if (!is_expected(program, name, pair.stock, pair.lodge))
			snprintf(what, size, "%s", c.head ? "call" : field_name(&pair));
	}
}

void print_pairs(const char *stock, const char *lodge)
{
	struct cursor c = { 0 };
	struct pair pair;

	while (differing(stock, lodge, &c, &pair))
		printf("#\tstock: %.300s   Lodge: %.300s\n", pair.stock, pair.lodge);
	if (!c.head) {
		head_of(stock, pair.stock, sizeof(pair.stock));
		printf("#\tboth: %.300s\n", pair.stock);
	}
}

int by_line(const void *a, const void *b)
{
	return (int)((const struct fact *)a)->line - (int)((const struct fact *)b)->line;
}

/* In the order of the stock module's lines, and then those that only Lodge has. */
static struct tally compare(const char *program, struct facts *stock, struct facts *lodge)
{
	struct fact *lines = malloc((stock->n + lodge->n + 1) * sizeof(*lines));
	struct tally t = {};
	static bool apart[MAX_SEQUENCES];	/* from their first difference on */
	u64 was;
	u32 n = stock->n, step = 0;

	memset(apart, 0, sizeof(apart));
	memcpy(lines, stock->f, n * sizeof(*lines));
	for (u32 i = 0; i < lodge->n; i++)
		if (!find_fact(stock, lodge->f[i].name))
			lines[n++] = lodge->f[i];
	qsort(lines, n, sizeof(*lines), by_line);
	for (u32 i = 0; i < n; i++) {
		const struct fact *s = find_fact(stock, lines[i].name), *l = find_fact(lodge, lines[i].name);
		s64 of = sequence_of(lines[i].name, &step);
		bool in_sequence = of >= 0 && of < MAX_SEQUENCES, together;

		if (in_sequence && apart[of]) {
			t.after++;
			continue;
		}
		was = t.differing;
		together = judge(program, lines[i].name, s ? s->value : "(none)", l ? l->value : "(none)", &t);
		if (in_sequence && !together)
			apart[of] = true;
		if (in_sequence && t.differing > was && !strcmp(program,
			"ioctls") && t.shrunk++ < SHRUNK && !getenv("ORACLE_ALL"))
			shrink(of, step, lines[i].name, s ? s->value : "(none)", l ? l->value : "(none)");
	}
	free(lines);
	return t;
}

static void run_program(char *word)
{
	char *colon = strchr(word, ':'), *arg = NULL;
	struct facts facts[SIDES];
	struct tally t;

	if (colon) {
		*colon = 0;
		arg = colon + 1;
	}
	for (enum side side = STOCK; side < SIDES; side++) {
		if (!load_module(side)) {
			result(false, "%s: the %s module cannot be loaded", word, side_name[side]);
			return;
		}
		printf("# %s: on %s\n", word, side_name[side]);
		facts[side] = collect(side, word, arg);
	}
	t = compare(word, &facts[STOCK], &facts[LODGE]);
	printf("# %s: %llu facts compared, %llu differ as expected, %llu differ; %llu behind a difference\n", word,
	       (unsigned long long)t.compared, (unsigned long long)t.allowed, (unsigned long long)t.differing,
	       (unsigned long long)t.after);
	result(!facts[STOCK].failed && facts[STOCK].n, "%s: comes to its end on stock KVM", word);
	result(!facts[LODGE].failed && facts[LODGE].n, "%s: comes to its end on Lodge", word);
	result(!t.differing, "%s: the same facts but for the expected ones", word);
	free_facts(&facts[STOCK]);
	free_facts(&facts[LODGE]);
}

static void expected_came(const char *word)
{
	bool all = true;

	for (u32 i = 0; i < expectations; i++) {
		struct expectation *e = &expected[i];

		if (!is_here(e->field[0]) || strcmp(e->field[1], word) || strstr(e->field[5], ", seldom"))
			continue;
		if (e->used) {
			if (getenv("ORACLE_ALL"))
				printf("# expected, line %u comes\n", e->line);
			continue;
		}
		printf("# expected, line %u: %s | %s | %s does not come\n", e->line, e->field[2], e->field[3], e->field[4]);
		all = false;
	}
	result(all, "%s: every expected difference is there", word);
}

int main(int argc, char **argv)
{
	bool whole = argc > 1 && !strcmp(argv[1], "--whole");

	argv += whole;
	argc -= whole;
	if (argc < 3 || !read_expected()) {
		fprintf(stderr, "usage: oracle [--whole] HOST:KERNEL PROGRAM[:ARGUMENT]...\n");
		return 2;
	}
	where = argv[1];
	printf("TAP version 13\n");
	for (int i = 2; i < argc; i++) {
		run_program(argv[i]);
		if (whole)
			expected_came(argv[i]);
	}
	printf("1..%d\n", results);
	return failures != 0;
}
