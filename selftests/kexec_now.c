// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_now VMLINUX BZIMAGE INITRD COMMAND-LINE: start another kernel at once, whatever runs. For the
 * test that guests which run meanwhile leave no CPU in a state the next kernel cannot use.
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

/* In the first megabyte, which the next kernel does not use before it has read them. */
enum { PARAMS = 0x10000, WORDS = 0x11000, START = 0x12000 };

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
			place(p[i].p_paddr, vmlinux + p[i].p_offset, p[i].p_filesz, p[i].p_memsz);
	return e->e_entry;
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

/* Copies the memory map; the end of the highest RAM below 4 GiB. */
static uint64_t copy_memory_map(void)
{
	uint64_t start, end, top = 0;
	char word[32];
	int n;

	for (n = 0; n < E820_MAX_ENTRIES_ZEROPAGE && map_word(n, "start", word); n++) {
		struct boot_e820_entry *e = &params.e820_table[n];

		start = strtoull(word, NULL, 16);
		end = map_word(n, "end", word) ? strtoull(word, NULL, 16) + 1 : start;
		e->addr = start;
		e->size = end - start;
		e->type = 2;
		if (map_word(n, "type", word) && !strcmp(word, "System RAM")) {
			e->type = 1;
			if (end > top && end <= 1ull << 32)
				top = end;
		} else if (!strcmp(word, "ACPI Tables")) {
			e->type = 3;
		}
	}
	params.e820_entries = n;
	return top;
}

int main(int argc, char **argv)
{
	/* mov $PARAMS, %esi; mov $entry, %eax; jmp *%rax */
	static uint8_t start[] = { 0xbe, 0, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xff, 0xe0 };
	const uint8_t *vmlinux, *image, *initrd;
	uint64_t initrd_at;
	uint32_t entry, at = PARAMS;
	size_t size;

	if (argc != 5) {
		fprintf(stderr, "usage: kexec_now VMLINUX BZIMAGE INITRD COMMAND-LINE\n");
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
	params.hdr.cmd_line_ptr = WORDS;
	entry = place_kernel(vmlinux);
	memcpy(start + 1, &at, 4);
	memcpy(start + 6, &entry, 4);
	place(PARAMS, &params, sizeof(params), sizeof(params));
	place(WORDS, argv[4], strlen(argv[4]) + 1, strlen(argv[4]) + 1);
	place(START, start, sizeof(start), sizeof(start));
	place(initrd_at, initrd, size, size);
	if (syscall(SYS_kexec_load, (long)START, count, segments, KEXEC_ARCH_DEFAULT))
		fail("kexec_load");
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	fail("reboot");
}
