// SPDX-License-Identifier: GPL-2.0
/*
 * Starting Linux: the 64-bit boot protocol of x86 (the kernel's Documentation/arch/x86/boot.rst).
 *
 * A bzImage is a real-mode part, whose header says what the rest needs, and a protected-mode part.
 * The latter goes to the address that it prefers; 0x200 bytes into it is its 64-bit entry. It finds
 * in RSI the "zero page": a copy of the header with our answers, the memory map, the address of the
 * ACPI tables. It must be entered in long mode with memory mapped one to one: the page tables here
 * map the first 4 GiB by 2 MiB pages, and nothing that the kernel needs at first lies higher.
 *
 * The header is a file's contents, so nothing in it is trusted: each size is checked against the
 * file and against the guest's memory before it is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <asm/bootparam.h>

#include "runner.h"

#define HEADER_OFFSET offsetof(struct boot_params, hdr)
#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448		/* "HdrS" */
#define MIN_PROTOCOL 0x020c		/* the first with xloadflags */
#define LOADER_UNKNOWN 0xff
#define ENTRY_64 0x200
#define PAGE 4096

#define CS_SELECTOR 0x10
#define DS_SELECTOR 0x18
#define TR_SELECTOR 0x20

#define CR0_PE 0x1
#define CR0_ET 0x10
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define EFER_LME 0x100
#define EFER_LMA 0x400
#define PTE_TABLE 0x3			/* present, writable */
#define PTE_HUGE 0x83

static int open_file(const char *path, const char *what, uint64_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return say_errno("cannot open the %s %s", what, path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return say("the %s %s is not a regular file", what, path);
	}
	*size = st.st_size;
	return fd;
}

/* 0 if all of @len bytes were there. */
static int read_at(int fd, void *buf, uint64_t len, uint64_t offset)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		p += n;
		len -= n;
		offset += n;
	}
	return 0;
}

/* Copy the header out of @fd: it ends where its own jump instruction at 0x200 leads. */
static int read_header(int fd, const char *path, uint64_t size, struct setup_header *hdr)
{
	uint8_t first[HEADER_OFFSET + sizeof(*hdr)];
	size_t len;

	if (size < sizeof(first))
		return say("%s is not a Linux kernel: it is too short", path);
	if (read_at(fd, first, sizeof(first), 0) < 0)
		return say_errno("cannot read the kernel %s", path);
	memset(hdr, 0, sizeof(*hdr));
	memcpy(hdr, first + HEADER_OFFSET, sizeof(*hdr));
	if (hdr->boot_flag != BOOT_FLAG || hdr->header != HEADER_MAGIC)
		return say("%s is not a Linux kernel: a bzImage is wanted", path);
	if (hdr->version < MIN_PROTOCOL || !(hdr->xloadflags & XLF_KERNEL_64))
		return say("the kernel %s cannot be started in 64-bit mode", path);
	len = 0x202 + (hdr->jump >> 8) - HEADER_OFFSET;
	if (len < sizeof(*hdr))
		memset((uint8_t *)hdr + len, 0, sizeof(*hdr) - len);
	return 0;
}

static int too_little(const char *what, uint64_t need)
{
	return say("too little memory: %s needs at least %llu MiB", what,
		   (unsigned long long)((need + MIB - 1) / MIB));
}

/* Load the protected-mode part. Sets *end to where the memory that it wants for itself ends. */
static int load_kernel(struct vm *vm, const char *path, struct setup_header *hdr, uint64_t *end)
{
	uint64_t size, offset, len, addr, room;
	int fd = open_file(path, "kernel", &size);
	int ret = -1;
	void *to;

	if (fd < 0)
		return -1;
	if (read_header(fd, path, size, hdr) < 0)
		goto out;
	/* No number of sectors is an old way to say four. */
	offset = 512ULL * (1 + (hdr->setup_sects ? hdr->setup_sects : 4));
	len = 16ULL * hdr->syssize;
	if (size < offset || size - offset < len || len <= ENTRY_64) {
		say("the kernel %s is truncated", path);
		goto out;
	}
	addr = hdr->pref_address;
	room = hdr->init_size > len ? hdr->init_size : len;
	*end = addr + room;
	if (addr < MIB || addr >= GPA_HOLE) {
		say("the kernel %s wants to be loaded at an impossible address", path);
		goto out;
	}
	to = vm_ram(vm, addr, room);
	if (!to) {
		too_little("this kernel", *end);
		goto out;
	}
	if (read_at(fd, to, len, offset) < 0) {
		say_errno("cannot read the kernel %s", path);
		goto out;
	}
	vm->entry = addr + ENTRY_64;
	hdr->code32_start = addr;
	ret = 0;
out:
	close(fd);
	return ret;
}

/* The initial ramdisk goes as high as the kernel can reach, out of the way of @kernel_end. */
static int load_initrd(struct vm *vm, const char *path, struct setup_header *hdr,
		       uint64_t kernel_end)
{
	uint64_t size, addr, top = vm_low_ram(vm);
	int fd = open_file(path, "initrd", &size);
	int ret = -1;

	if (fd < 0)
		return -1;
	if (top > (uint64_t)hdr->initrd_addr_max + 1)
		top = (uint64_t)hdr->initrd_addr_max + 1;
	if (!size) {
		say("the initrd %s is empty", path);
		goto out;
	}
	if (size > top || ((top - size) & ~(PAGE - 1ULL)) < kernel_end) {
		too_little("this kernel with this initrd", kernel_end + size);
		goto out;
	}
	addr = (top - size) & ~(PAGE - 1ULL);
	if (read_at(fd, vm_ram(vm, addr, size), size, 0) < 0) {
		say_errno("cannot read the initrd %s", path);
		goto out;
	}
	hdr->ramdisk_image = addr;
	hdr->ramdisk_size = size;
	ret = 0;
out:
	close(fd);
	return ret;
}

/* Does the command line have a word that starts with @word? */
static bool has_word(const char *line, const char *word)
{
	size_t len = strlen(word);
	const char *p;

	for (p = line; *p; p++) {
		if ((p == line || p[-1] == ' ') && !strncmp(p, word, len))
			return true;
	}
	return false;
}

/*
 * The user's words, after defaults for what they do not mention. The time-stamp counter and the
 * timer's interrupt are the hypervisor's: for the guest to doubt and measure them only takes time.
 */
static int put_cmdline(struct vm *vm, const char *append, const struct setup_header *hdr)
{
	static const char * const defaults[][2] = {
		{ "console=", "console=ttyS0" },
		{ "tsc=", "tsc=reliable" },
		{ "no_timer_check", "no_timer_check" },
	};
	size_t i, room = (size_t)hdr->cmdline_size + 1;
	char *line, *p;

	if (room > GPA_EBDA - GPA_CMDLINE)
		room = GPA_EBDA - GPA_CMDLINE;
	line = vm_ram(vm, GPA_CMDLINE, room);
	p = line;
	if (strlen(append) + 64 > room)
		return say("the kernel's command line may have at most %zu characters", room - 64);
	for (i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
		if (!has_word(append, defaults[i][0]))
			p += sprintf(p, "%s ", defaults[i][1]);
	}
	strcpy(p, append);
	return 0;
}

static void add_range(struct boot_params *bp, uint64_t start, uint64_t end, uint32_t type)
{
	struct boot_e820_entry *e = &bp->e820_table[bp->e820_entries];

	if (start >= end)
		return;
	e->addr = start;
	e->size = end - start;
	e->type = type;
	bp->e820_entries++;
}

#define E820_RAM 1
#define E820_RESERVED 2

static void put_zero_page(struct vm *vm, const struct setup_header *hdr)
{
	struct boot_params *bp = vm_ram(vm, GPA_ZERO_PAGE, sizeof(*bp));
	uint64_t low = vm_low_ram(vm);

	memset(bp, 0, sizeof(*bp));
	bp->hdr = *hdr;
	bp->hdr.type_of_loader = LOADER_UNKNOWN;
	bp->hdr.loadflags |= LOADED_HIGH;
	bp->hdr.cmd_line_ptr = GPA_CMDLINE;
	bp->acpi_rsdp_addr = GPA_ACPI;
	add_range(bp, 0, GPA_EBDA, E820_RAM);
	add_range(bp, GPA_EBDA, MIB, E820_RESERVED);
	add_range(bp, MIB, low, E820_RAM);
	add_range(bp, GPA_HIGH, GPA_HIGH + (vm->ram_size - low), E820_RAM);
}

static void put_tables(struct vm *vm)
{
	/* Null, unused, 64-bit code, data, and a task-state segment in two entries. */
	static const uint64_t gdt[] = {
		0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00008b000000ffff, 0,
	};
	uint64_t *table = vm_ram(vm, GPA_PML4, 6 * PAGE);
	unsigned int i;

	memcpy(vm_ram(vm, GPA_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	memset(table, 0, 6 * PAGE);
	table[0] = (GPA_PML4 + PAGE) | PTE_TABLE;
	for (i = 0; i < 4; i++)
		table[512 + i] = (GPA_PML4 + (2 + i) * PAGE) | PTE_TABLE;
	for (i = 0; i < 4 * 512; i++)
		table[1024 + i] = i * 2 * MIB | PTE_HUGE;
}

/**
 * boot_load() - put the kernel, its initrd and what they need at first into guest memory.
 * @vm: the VM, with its memory; gets the entry point.
 * @opt: the files and the command line.
 *
 * Return: 0, or -1.
 */
int boot_load(struct vm *vm, const struct options *opt)
{
	struct setup_header hdr;
	uint64_t end;

	if (load_kernel(vm, opt->kernel, &hdr, &end) < 0)
		return -1;
	if (opt->initrd && load_initrd(vm, opt->initrd, &hdr, end) < 0)
		return -1;
	if (put_cmdline(vm, opt->append, &hdr) < 0)
		return -1;
	put_tables(vm);
	put_zero_page(vm, &hdr);
	return 0;
}

/**
 * boot_sregs() - the state in which the boot processor enters the kernel: long mode.
 * @sregs: its state after reset; changed in place.
 */
void boot_sregs(struct kvm_sregs *sregs)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff, .selector = CS_SELECTOR, .type = 11, .present = 1, .s = 1,
		.l = 1, .g = 1,
	};
	const struct kvm_segment data = {
		.limit = 0xffffffff, .selector = DS_SELECTOR, .type = 3, .present = 1, .s = 1,
		.db = 1, .g = 1,
	};
	const struct kvm_segment task = {
		.limit = 0xffff, .selector = TR_SELECTOR, .type = 11, .present = 1,
	};

	sregs->cs = code;
	sregs->ds = data;
	sregs->es = data;
	sregs->fs = data;
	sregs->gs = data;
	sregs->ss = data;
	sregs->tr = task;
	sregs->gdt.base = GPA_GDT;
	sregs->gdt.limit = 6 * 8 - 1;
	sregs->idt.base = 0;
	sregs->idt.limit = 0;
	sregs->cr3 = GPA_PML4;
	sregs->cr4 = CR4_PAE;
	sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs->efer = EFER_LME | EFER_LMA;
}
