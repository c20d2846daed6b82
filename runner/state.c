// SPDX-License-Identifier: GPL-2.0
/*
 * The state of a VM as a list of sections, each with a class, a version and an instance, and the
 * file that holds it. What is in a section is save.c's and vcpu_state.c's; here is what every one
 * must satisfy: the table of classes says how large it may be, in which version and how many there
 * may be, and nothing that it does not allow gets further. A file is input like any other.
 *
 * The file: eight bytes of magic, a version, then sections. Each has a header, whose sum covers
 * header and contents, so that a file that was damaged is told from one that was not; it is no
 * protection against one that was made up, whose values are checked where they are used. The first
 * section describes the machine, by which the VM is made; memory is in many sections of up to
 * 1 MiB, in order, without the pages that are zero; the last is an empty one, STATE_END.
 * Numbers are as the processor has them: little-endian.
 *
 * A file is written under another name and then renamed, so that what has its name is whole. Only
 * its owner can read it: it has the guest's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runner.h"

#define MAGIC "LODGEVM\n"
#define FILE_VERSION 1
#define PAGE 4096ULL
#define CHUNK (1 * MIB)
#define MAX_SECTIONS (16 * MAX_CPUS + 32)

struct file_head {
	char magic[8];
	uint32_t version, reserved;
};

struct head {
	uint32_t class, version, instance, reserved;
	uint64_t size;		/* of what follows; a multiple of 8 */
	uint64_t sum;		/* of both, with 0 here */
};

struct section {
	struct head h;
	void *data;
};

struct state {
	int fd;			/* of the file that is read; -1 */
	const char *path;
	unsigned int n;
	struct section section[MAX_SECTIONS];
};

static const struct class {
	uint32_t class, version;
	uint32_t instances;
	uint64_t min, max;
	const char *name;
} classes[] = {
	{ STATE_END, 1, 1, 0, 0, "end" },
	{ STATE_MACHINE, 1, 1, sizeof(struct machine_state), sizeof(struct machine_state), "machine" },
	{ STATE_RAM, 1, 1, sizeof(struct ram_state) + PAGE, sizeof(struct ram_state) + CHUNK, "memory" },
	{ STATE_CLOCK, 1, 1, sizeof(struct clock_state), sizeof(struct clock_state), "clock" },
	{ STATE_IRQCHIP, 1, 3, sizeof(struct kvm_irqchip), sizeof(struct kvm_irqchip),
	  "interrupt controller" },
	{ STATE_PIT, 1, 1, sizeof(struct kvm_pit_state2), sizeof(struct kvm_pit_state2), "timer" },
	{ STATE_SERIAL, 1, 1, sizeof(struct serial_state), sizeof(struct serial_state), "serial port" },
	{ STATE_PORTS, 1, 1, sizeof(struct ports_state), sizeof(struct ports_state), "ports" },
	{ STATE_DISK, 1, MAX_DISKS, sizeof(struct virtio_state), sizeof(struct virtio_state), "disk" },
	{ STATE_CPUID, 1, MAX_CPUS, sizeof(struct kvm_cpuid2), 1 * MIB, "CPUID" },
	{ STATE_MP, 1, MAX_CPUS, 4, 8, "processor's run state" },
	{ STATE_EVENTS, 1, MAX_CPUS, sizeof(struct kvm_vcpu_events), sizeof(struct kvm_vcpu_events),
	  "events" },
	{ STATE_REGS, 1, MAX_CPUS, sizeof(struct kvm_regs), sizeof(struct kvm_regs), "registers" },
	{ STATE_SREGS, 1, MAX_CPUS, sizeof(struct kvm_sregs), sizeof(struct kvm_sregs),
	  "system registers" },
	{ STATE_XSAVE, 1, MAX_CPUS, sizeof(struct kvm_xsave), sizeof(struct kvm_xsave),
	  "extended state" },
	{ STATE_XCRS, 1, MAX_CPUS, sizeof(struct kvm_xcrs), sizeof(struct kvm_xcrs), "XCR0" },
	{ STATE_DEBUGREGS, 1, MAX_CPUS, sizeof(struct kvm_debugregs), sizeof(struct kvm_debugregs),
	  "debug registers" },
	{ STATE_MSRS, 1, MAX_CPUS, 0, 1 * MIB, "MSRs" },
	{ STATE_TSC, 1, MAX_CPUS, sizeof(struct tsc_state), sizeof(struct tsc_state), "TSC" },
	{ STATE_LAPIC, 1, MAX_CPUS, sizeof(struct kvm_lapic_state), sizeof(struct kvm_lapic_state),
	  "local APIC" },
};

static const struct class *find_class(uint32_t class)
{
	size_t i;

	for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (classes[i].class == class)
			return &classes[i];
	}
	return NULL;
}

static uint64_t padded(uint64_t size)
{
	return (size + 7) & ~7ULL;
}

/* Two sums of 64 bits, of the words and of their partial sums, so that their order counts. */
static uint64_t sum(uint64_t seed, const void *data, size_t size)
{
	const uint64_t *word = data;
	uint64_t a = seed, b = seed >> 32;
	size_t i;

	for (i = 0; i < size / 8; i++) {
		a += word[i];
		b += a;
	}
	return a ^ (b << 32 | b >> 32);
}

static uint64_t head_sum(struct head h)
{
	h.sum = 0;
	return sum(1, &h, sizeof(h));
}

/**
 * state_new() - a state without a section.
 *
 * Return: the state, or NULL after telling why; state_free() gives it back.
 */
struct state *state_new(void)
{
	struct state *st = calloc(1, sizeof(*st));

	if (st)
		st->fd = -1;
	else
		say("out of memory");
	return st;
}

/**
 * state_free() - give a state back.
 * @st: the state, or NULL.
 */
void state_free(struct state *st)
{
	unsigned int i;

	if (!st)
		return;
	for (i = 0; i < st->n; i++)
		free(st->section[i].data);
	if (st->fd >= 0)
		close(st->fd);
	free(st);
}

/* A new section with room for its contents, which are zero. */
static struct section *add(struct state *st, const struct head *h)
{
	struct section *s = &st->section[st->n];

	if (st->n == MAX_SECTIONS) {
		say("too many sections");
		return NULL;
	}
	s->h = *h;
	s->data = calloc(1, h->size + 8);
	if (!s->data) {
		say("out of memory");
		return NULL;
	}
	st->n++;
	return s;
}

/**
 * state_put() - add a section.
 * @st: the state.
 * @class: the class.
 * @instance: which of its instances.
 * @data: the contents; they are copied, and filled up with zeros to a multiple of 8 bytes.
 * @size: their size.
 *
 * Return: 0, or -1.
 */
int state_put(struct state *st, enum state_class class, uint32_t instance, const void *data,
	      size_t size)
{
	const struct head h = {
		.class = class, .version = find_class(class)->version, .instance = instance,
		.size = padded(size),
	};
	struct section *s = add(st, &h);

	if (!s)
		return -1;
	memcpy(s->data, data, size);
	return 0;
}

/**
 * state_get() - find a section.
 * @st: the state.
 * @class: the class.
 * @instance: which of its instances.
 * @size: where its size goes, or NULL. It is as its class allows, rounded up to 8.
 *
 * Return: the contents, or NULL after telling that the section is missing.
 */
const void *state_get(const struct state *st, enum state_class class, uint32_t instance,
		      size_t *size)
{
	unsigned int i;

	for (i = 0; i < st->n; i++) {
		const struct section *s = &st->section[i];

		if (s->h.class != class || s->h.instance != instance)
			continue;
		if (size)
			*size = s->h.size;
		return s->data;
	}
	say("%s lacks a section: %s %u", st->path ? st->path : "the state",
	    find_class(class)->name, instance);
	return NULL;
}

/* -- writing -- */

static int put(int fd, struct iovec *iov, int n)
{
	while (n) {
		ssize_t done = writev(fd, iov, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -1;
		while (n && (size_t)done >= iov->iov_len) {
			done -= iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (uint8_t *)iov->iov_base + done;
			iov->iov_len -= done;
		}
	}
	return 0;
}

static int put_section(int fd, struct head h, const void *data)
{
	struct iovec iov[] = { { &h, sizeof(h) }, { (void *)data, h.size } };

	h.sum = sum(head_sum(h), data, h.size);
	return put(fd, iov, 2);
}

static int put_ram(int fd, const struct vm *vm, uint64_t offset, uint64_t size)
{
	struct ram_state ram = { .offset = offset };
	struct head h = { .class = STATE_RAM, .version = 1, .size = sizeof(ram) + size };
	struct iovec iov[] = {
		{ &h, sizeof(h) }, { &ram, sizeof(ram) }, { vm->ram + offset, size },
	};

	h.sum = sum(sum(head_sum(h), &ram, sizeof(ram)), vm->ram + offset, size);
	return put(fd, iov, 3);
}

static bool is_zero(const uint8_t *page)
{
	const uint64_t *word = (const uint64_t *)page;
	size_t i;

	for (i = 0; i < PAGE / sizeof(*word); i += 4) {
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3])
			return false;
	}
	return true;
}

/* Every page that is not zero, runs of them together. */
static int put_memory(int fd, const struct vm *vm)
{
	uint64_t at, start = 0;

	for (at = 0; at < vm->ram_size; at += PAGE) {
		bool zero = is_zero(vm->ram + at);

		if (at > start && (zero || at - start == CHUNK)) {
			if (put_ram(fd, vm, start, at - start) < 0)
				return -1;
			start = at;
		}
		if (zero)
			start = at + PAGE;
	}
	return at > start ? put_ram(fd, vm, start, at - start) : 0;
}

static int put_all(int fd, const struct state *st, const struct vm *vm)
{
	struct file_head file = { .magic = MAGIC, .version = FILE_VERSION };
	const struct head end = { .class = STATE_END, .version = 1 };
	struct iovec iov = { &file, sizeof(file) };
	unsigned int i;

	if (put(fd, &iov, 1) < 0)
		return -1;
	for (i = 0; i < st->n; i++) {
		if (put_section(fd, st->section[i].h, st->section[i].data) < 0)
			return -1;
	}
	if (put_memory(fd, vm) < 0 || put_section(fd, end, NULL) < 0)
		return -1;
	return fdatasync(fd);
}

/**
 * state_write() - write a state and the guest's memory to a file.
 * @st: the state, its first section the machine.
 * @vm: the VM, which is not running.
 * @path: the file, which is replaced once the new one is complete.
 *
 * Return: 0, or -1.
 */
int state_write(const struct state *st, const struct vm *vm, const char *path)
{
	char part[PATH_MAX];
	int fd, ret;

	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return say("the name %s is too long", path);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return say_errno("cannot write %s", part);
	ret = put_all(fd, st, vm);
	if (close(fd) < 0 || ret < 0 || rename(part, path) < 0) {
		say_errno("cannot write %s", path);
		unlink(part);
		return -1;
	}
	return 0;
}

/* -- reading -- */

/* 0 if all of @size bytes were there. */
static int get(const struct state *st, void *data, uint64_t size)
{
	uint8_t *p = data;

	while (size) {
		ssize_t n = read(st->fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return say_errno("cannot read %s", st->path);
		if (n == 0)
			return say("%s is truncated", st->path);
		p += n;
		size -= n;
	}
	return 0;
}

static int damaged(const struct state *st)
{
	return say("%s is damaged", st->path);
}

/* A header that its class allows. */
static int get_head(const struct state *st, struct head *h)
{
	const struct class *c;

	if (get(st, h, sizeof(*h)) < 0)
		return -1;
	c = find_class(h->class);
	if (!c)
		return say("%s has a section of an unknown class, %u", st->path, h->class);
	if (h->version != c->version)
		return say("%s has the section '%s' in version %u, not %u", st->path, c->name,
			   h->version, c->version);
	if (h->reserved || h->instance >= c->instances || h->size % 8 ||
	    h->size < c->min || h->size > padded(c->max))
		return say("%s has a section '%s' that cannot be", st->path, c->name);
	return 0;
}

static bool has(const struct state *st, const struct head *h)
{
	unsigned int i;

	for (i = 0; i < st->n; i++) {
		if (st->section[i].h.class == h->class && st->section[i].h.instance == h->instance)
			return true;
	}
	return false;
}

static int get_section(struct state *st, const struct head *h)
{
	struct section *s;

	if (has(st, h))
		return say("%s has the section '%s' twice", st->path, find_class(h->class)->name);
	s = add(st, h);
	if (!s || get(st, s->data, h->size) < 0)
		return -1;
	return sum(head_sum(*h), s->data, h->size) == h->sum ? 0 : damaged(st);
}

/* Pages beyond *@next, which moves on. */
static int get_ram(const struct state *st, const struct head *h, struct vm *vm, uint64_t *next)
{
	uint64_t size = h->size - sizeof(struct ram_state);
	struct ram_state ram;

	if (get(st, &ram, sizeof(ram)) < 0)
		return -1;
	if (ram.offset % PAGE || size % PAGE || ram.offset < *next || ram.offset > vm->ram_size ||
	    size > vm->ram_size - ram.offset)
		return say("%s has memory where there can be none", st->path);
	if (get(st, vm->ram + ram.offset, size) < 0)
		return -1;
	*next = ram.offset + size;
	if (sum(sum(head_sum(*h), &ram, sizeof(ram)), vm->ram + ram.offset, size) != h->sum)
		return damaged(st);
	return 0;
}

static int get_first(struct state *st)
{
	struct file_head file;
	struct head h;

	if (get(st, &file, sizeof(file)) < 0)
		return -1;
	if (memcmp(file.magic, MAGIC, sizeof(file.magic)))
		return say("%s is not the state of a VM", st->path);
	if (file.version != FILE_VERSION || file.reserved)
		return say("%s is of version %u, not %u", st->path, file.version, FILE_VERSION);
	if (get_head(st, &h) < 0)
		return -1;
	if (h.class != STATE_MACHINE)
		return say("%s does not begin with the machine", st->path);
	return get_section(st, &h);
}

/**
 * state_open() - open the file of a saved VM and read which machine it needs.
 * @path: the file; must stay there as long as the state.
 *
 * Return: the state, with its section STATE_MACHINE; or NULL after telling why.
 */
struct state *state_open(const char *path)
{
	struct state *st = state_new();

	if (!st)
		return NULL;
	st->path = path;
	st->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (st->fd < 0)
		say_errno("cannot open %s", path);
	else if (get_first(st) == 0)
		return st;
	state_free(st);
	return NULL;
}

/**
 * state_read() - read the rest of the file.
 * @st: the state, from state_open().
 * @vm: the VM, with its memory, which is all zero.
 *
 * Return: 0, or -1: what the VM's memory has is of no use then.
 */
int state_read(struct state *st, struct vm *vm)
{
	uint64_t next = 0;
	struct head h;
	char more;
	int ret;

	do {
		if (get_head(st, &h) < 0)
			return -1;
		switch (h.class) {
		case STATE_END:
			ret = h.sum == sum(head_sum(h), NULL, 0) ? 0 : damaged(st);
			break;
		case STATE_RAM:
			ret = get_ram(st, &h, vm, &next);
			break;
		default:
			ret = get_section(st, &h);
			break;
		}
		if (ret < 0)
			return -1;
	} while (h.class != STATE_END);
	return read(st->fd, &more, 1) == 0 ? 0 : say("%s goes on after its end", st->path);
}
