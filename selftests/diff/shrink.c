// SPDX-License-Identifier: GPL-2.0
/*
 * Makes a sequence of `ioctls` that differs shorter. Each atom of a sequence (a call, or one change that is made
 * before a call) is made of its own number and can be left out; all the sequences that lack one part more are run on
 * one module and then on the other, so that a round costs two loads of a module however many there are.
 */
#include "oracle.h"

enum { MAX_ATOMS = 512, MAX_ROUNDS = 40 };

struct subset {
	u32 n;
	u16 atom[MAX_ATOMS];
};

static bool write_list(u32 sequence, const struct subset *sets, u32 n)
{
	FILE *f = fopen("/tmp/list", "w");

	if (!f)
		return false;
	for (u32 i = 0; i < n; i++) {
		fprintf(f, "%u", sequence);
		for (u32 k = 0; k < sets[i].n; k++)
			fprintf(f, " %u", sets[i].atom[k]);
		fputc('\n', f);
	}
	return !fclose(f);
}

static char wanted[64];

/* Whether the step of candidate number c differs in what it is about, so that one fault does not turn into another. */
static bool differs(const struct facts *facts, u32 c, u32 step)
{
	char head[32], what[64];

	snprintf(head, sizeof(head), "%u.%u ", c, step);
	for (u32 i = 0; i < facts[STOCK].n; i++) {
		const struct fact *s = &facts[STOCK].f[i], *l;

		if (strncmp(s->name, head, strlen(head)))
			continue;
		l = find_fact(&facts[LODGE], s->name);
		if (!l)
			continue;
		surprise("ioctls", s->name, s->value, l->value, what, sizeof(what));
		if (!strcmp(what, wanted))
			return true;
	}
	return false;
}

static bool collect_both(struct facts *facts)
{
	for (enum side side = STOCK; side < SIDES; side++) {
		if (!load_module(side))
			return false;
		facts[side] = collect(side, "ioctls", "@/tmp/list");
	}
	return true;
}

/* The first of the candidates that still differs, or -1. */
static int first_that_differs(u32 sequence, u32 step, const struct subset *sets, u32 n)
{
	struct facts facts[SIDES];
	int found = -1;

	if (!write_list(sequence, sets, n) || !collect_both(facts))
		return -1;
	for (u32 c = 0; c < n && found < 0; c++)
		if (differs(facts, c, step))
			found = c;
	free_facts(&facts[STOCK]);
	free_facts(&facts[LODGE]);
	return found;
}

/* All of @from but @size atoms from @start. */
static struct subset without(const struct subset *from, u32 start, u32 size)
{
	struct subset s = { 0 };

	for (u32 i = 0; i < from->n; i++)
		if (i < start || i >= start + size)
			s.atom[s.n++] = from->atom[i];
	return s;
}

/* The steps that are left, which are named by the C that does them, and what each module says of them. */
static void print_as_c(u32 sequence, const struct subset *set)
{
	struct facts facts[SIDES];

	if (!write_list(sequence, set, 1) || !collect_both(facts))
		return;
	qsort(facts[STOCK].f, facts[STOCK].n, sizeof(struct fact), by_line);
	for (u32 i = 0; i < facts[STOCK].n; i++) {
		const struct fact *s = &facts[STOCK].f[i], *l = find_fact(&facts[LODGE], s->name);

		printf("#   %s\n", strchr(s->name, ' ') ?: s->name);
		print_pairs(s->value, l ? l->value : "(none)");
	}
	free_facts(&facts[STOCK]);
	free_facts(&facts[LODGE]);
}

void shrink(u32 sequence, u32 step, const char *name, const char *stock, const char *lodge)
{
	static struct subset sets[MAX_ATOMS];
	struct subset now = { .n = (step + 1) * 4 };
	int found = 0;

	surprise("ioctls", name, stock, lodge, wanted, sizeof(wanted));
	for (u32 i = 0; i < now.n && i < MAX_ATOMS; i++)
		now.atom[i] = i;
	for (u32 size = now.n / 2, n, round = 0; size && now.n > 1 && round < MAX_ROUNDS; round++) {
		n = 0;
		for (u32 start = 0; start < now.n; start += size)
			sets[n++] = without(&now, start, size);
		found = first_that_differs(sequence, step, sets, n);
		if (found >= 0)
			now = sets[found];
		else
			size /= 2;
		if (size > now.n)
			size = now.n;
	}
	printf("# shrunk to %u parts:\n", now.n);
	print_as_c(sequence, &now);
}
