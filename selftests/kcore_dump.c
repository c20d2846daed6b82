// SPDX-License-Identifier: GPL-2.0
/*
 * kcore_dump NAME...: what the kernel's text holds now at each of these symbols, as it was patched for this processor:
 * 768 bytes in hex, from /proc/kcore. A name that there is not is left out. For selftests/lab/mitigations.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES = 768 };

static unsigned long long address_of(const char *name)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	unsigned long long addr, found = 0;
	char line[512], symbol[256];

	while (f && !found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx %*c %255s", &addr, symbol) == 2 && !strcmp(symbol, name))
			found = addr;
	if (f)
		fclose(f);
	return found;
}

/* Where an address lies in the file; 0: nowhere. */
static off_t offset_of(int fd, unsigned long long addr)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh))
		return 0;
	for (int i = 0; i < eh.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)) != sizeof(ph))
			return 0;
		if (ph.p_type == PT_LOAD && addr - ph.p_vaddr < ph.p_memsz)
			return ph.p_offset + (addr - ph.p_vaddr);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int fd = open("/proc/kcore", O_RDONLY);
	unsigned char text[BYTES];

	if (fd < 0) {
		perror("/proc/kcore");
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		unsigned long long addr = address_of(argv[i]);
		off_t at = addr ? offset_of(fd, addr) : 0;

		if (!at || pread(fd, text, BYTES, at) != BYTES)
			continue;
		printf("text %s %llx ", argv[i], addr);
		for (int k = 0; k < BYTES; k++)
			printf("%02x", text[k]);
		printf("\n");
	}
	return 0;
}
