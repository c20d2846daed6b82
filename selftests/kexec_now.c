// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_now [--crash] VMLINUX BZIMAGE INITRD COMMAND-LINE: start another kernel at once, whatever runs;
 * with --crash, by a crash, in the memory reserved for that (crashkernel=). For the test that guests
 * which run meanwhile leave no CPU in a state the next kernel cannot use.
 *
 * The kernel is given uncompressed, for an emulator takes minutes to unpack one: this program is the
 * boot loader, by the 64-bit boot protocol (Documentation/arch/x86/boot.rst). The bzImage is only asked
 * for the parameters that the kernel was built with; the memory map is that of the running kernel.
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORDS = 0x1000, START = 0x2000, KERNEL = 0x200000, LINKED_AT = 0x1000000, MEGABYTE = 0x100000 };

/*
 * Where the parameters go, with the words and the code that begins behind them: in the first megabyte,
 * which the next kernel does not use before it has read them. After a crash it is the reserved
 * memory's beginning, and the kernel follows there.
 */
static uint64_t low = 0x10000, shift, crash_start, crash_end;
static struct boot_params params;
static struct kexec_segment segments[KEXEC_SEGMENT_MAX];
static unsigned long count;

static void fail(const char *what)
{
	fprintf(stderr, "kexec_now: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *map(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st))
		fail(path);
	p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		fail(path);
	*size = st.st_size;
	return p;
}

static void place(uint64_t where, const void *what, size_t size, size_t room)
{
	if (count == KEXEC_SEGMENT_MAX) {
		errno = E2BIG;
		fail("segments");
	}
	segments[count++] = (struct kexec_segment) {
		.buf = what, .bufsz = size, .mem = (void *)where, .memsz = (room + 4095) & ~4095ul,
	};
}

/* Its loadable parts; where it begins. */
static uint64_t place_kernel(const void *vmlinux)
{
	const Elf64_Ehdr *e = vmlinux;
	const Elf64_Phdr *p = vmlinux + e->e_phoff;

	for (int i = 0; i < e->e_phnum; i++)
		if (p[i].p_type == PT_LOAD)
			place(p[i].p_paddr + shift, vmlinux + p[i].p_offset, p[i].p_filesz, p[i].p_memsz);
	return e->e_entry + shift;
}

/* A file of the firmware's memory map, and whether there is one. */
static int map_word(int n, const char *name, char *word)
{
	char path[64];
	FILE *f;
	int found;

	snprintf(path, sizeof(path), "/sys/firmware/memmap/%d/%s", n, name);
	f = fopen(path, "r");
	if (!f)
		return 0;
	found = fscanf(f, "%31[^\n]", word) == 1;
	fclose(f);
	return found;
}

static void add_map(uint64_t start, uint64_t end, uint32_t type)
{
	params.e820_table[params.e820_entries++] = (struct boot_e820_entry) { start, end - start, type };
}

/* Copies the memory map, after a crash with no more RAM than is reserved; the end of RAM below 4 GiB. */
static uint64_t copy_memory_map(void)
{
	uint64_t start, end, top = 0;
	char word[32];

	for (int n = 0; n < E820_MAX_ENTRIES_ZEROPAGE - 1 && map_word(n, "start", word); n++) {
		start = strtoull(word, NULL, 16);
		end = map_word(n, "end", word) ? strtoull(word, NULL, 16) + 1 : start;
		if (!map_word(n, "type", word) || strcmp(word, "System RAM")) {
			add_map(start, end, strcmp(word, "ACPI Tables") ? 2 : 3);
			continue;
		}
		if (crash_end && start >= MEGABYTE)
			continue;
		add_map(start, end, 1);
		if (end > top && end <= 1ull << 32)
			top = end;
	}
	if (!crash_end)
		return top;
	add_map(crash_start, crash_end, 1);
	return crash_end;
}

/* The memory that was reserved for this. */
static void find_crash_memory(void)
{
	FILE *f = fopen("/proc/iomem", "r");
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "Crash kernel"))
			sscanf(line, "%lx-%lx", &crash_start, &crash_end);
	if (!crash_end) {
		errno = ENOMEM;
		fail("crashkernel=");
	}
	fclose(f);
	crash_end++;
	low = crash_start;
	shift = crash_start + KERNEL - LINKED_AT;
}

/* Does not come back. */
static void go(void)
{
	int trigger = open("/proc/sysrq-trigger", O_WRONLY);
	unsigned long flags = KEXEC_ARCH_DEFAULT | (crash_end ? KEXEC_ON_CRASH : 0);

	if (syscall(SYS_kexec_load, low + START, count, segments, flags))
		fail("kexec_load");
	if (!crash_end)
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	else if (write(trigger, "c", 1) != 1)
		fail("sysrq-trigger");
	fail("reboot");
}

int main(int argc, char **argv)
{
	/* mov $low, %esi; mov $entry, %eax; jmp *%rax */
	static uint8_t start[] = { 0xbe, 0, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xff, 0xe0 };
	const uint8_t *vmlinux, *image, *initrd;
	uint64_t initrd_at;
	uint32_t entry;
	size_t size;

	if (argc == 6 && !strcmp(argv[1], "--crash")) {
		find_crash_memory();
		argc--;
		argv++;
	}
	if (argc != 5) {
		fprintf(stderr, "usage: kexec_now [--crash] VMLINUX BZIMAGE INITRD COMMAND-LINE\n");
		return 2;
	}
	vmlinux = map(argv[1], &size);
	image = map(argv[2], &size);
	initrd = map(argv[3], &size);
	memcpy(&params.hdr, image + 0x1f1, 0x202 + image[0x201] - 0x1f1);
	initrd_at = (copy_memory_map() - size) & ~4095ul;
	params.hdr.type_of_loader = 0xff;
	params.hdr.ramdisk_image = initrd_at;
	params.hdr.ramdisk_size = size;
	params.hdr.cmd_line_ptr = low + WORDS;
	entry = place_kernel(vmlinux);
	memcpy(start + 1, &low, 4);
	memcpy(start + 6, &entry, 4);
	place(low, &params, sizeof(params), sizeof(params));
	place(low + WORDS, argv[4], strlen(argv[4]) + 1, strlen(argv[4]) + 1);
	place(low + START, start, sizeof(start), sizeof(start));
	place(initrd_at, initrd, size, size);
	go();
}
