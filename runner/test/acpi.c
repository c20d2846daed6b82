// SPDX-License-Identifier: GPL-2.0
/*
 * The test of the ACPI tables, without a guest that reads them: what a reader checks first, and
 * that the code's packages hold what they say. One thread, no locks.
 */
#include "runner.h"
#include "../../selftests/lib/tap.h"

#define RAM_SIZE (2 * MIB)

static struct vm vm;

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t total = 0;

	while (len--)
		total += *p++;
	return total;
}

static const uint8_t *table(uint64_t gpa, const char *signature)
{
	const uint8_t *p = vm_ram(&vm, gpa, 36);
	uint32_t len;

	TRUE(p);
	memcpy(&len, p + 4, 4);
	SAME(p, signature, 4);
	TRUE(vm_ram(&vm, gpa, len));
	EQ(sum(p, len), 0);
	return p;
}

/* Lengths of the packages that a decoder would meet in @code: what they hold, they hold exactly. */
static void check_aml(const uint8_t *code, size_t len)
{
	size_t i = 0;

	while (i < len) {
		bool device = code[i] == 0x5b && code[i + 1] == 0x82;
		size_t at = i + 1 + device, size;

		if (code[i] == 0x08) {			/* a name; the root's prefix, or not */
			i += code[i + 1] == '\\' ? 6 : 5;
		} else if (code[i] == 0x0a) {
			i += 2;
		} else if (code[i] == 0x0c) {
			i += 5;
		} else if (code[i] == 0x0d) {
			i += 1 + strlen((const char *)code + i + 1) + 1;
		} else if (code[i] == 0x86) {		/* a notification of a device of four letters */
			i += 5;
		} else if (code[i] == 0x10 || code[i] == 0x14 || code[i] == 0x11 || code[i] == 0x12 || device) {
			EQ(code[at] >> 6, 1);
			size = (code[at] & 0xf) | code[at + 1] << 4;
			LE(at + size, len);
			if (code[i] == 0x10)
				check_aml(code + at + 2 + 5, size - 2 - 5);
			else if (code[i] == 0x14)
				check_aml(code + at + 2 + 5, size - 2 - 5);
			else if (device)
				check_aml(code + at + 2 + 4, size - 2 - 4);
			else if (code[i] == 0x11)
				EQ(code[at + 3] + 4, size);
			i = at + size;
		} else {
			FAIL("unknown operator 0x%02x at %zu", code[i], i);
		}
	}
	EQ(i, len);
}

TEST(acpi, "ACPI tables: checksums, processors, the code's structure")
{
	const uint8_t *rsdp, *xsdt, *fadt, *madt, *dsdt;
	uint64_t address;
	uint32_t len;

	vm.fd = -1;
	vm.ram = calloc(1, RAM_SIZE);
	vm.ram_size = RAM_SIZE;
	TRUE(vm.ram);
	for (vm.ncpus = 1; vm.ncpus <= MAX_CPUS; vm.ncpus += 9) {
		vm.template = !vm.template;
		for (vm.ndisks = 0; vm.ndisks <= MAX_DISKS; vm.ndisks++) {
			/* Whether there is one counts, not what it is. */
			vm.net = vm.ndisks & 1 ? (struct net *)&vm : NULL;
			OK(acpi_build(&vm));
			rsdp = vm_ram(&vm, GPA_ACPI, 36);
			SAME(rsdp, "RSD PTR ", 8);
			EQ(sum(rsdp, 20), 0);
			EQ(sum(rsdp, 36), 0);
			memcpy(&address, rsdp + 24, 8);
			xsdt = table(address, "XSDT");
			memcpy(&address, xsdt + 36, 8);
			fadt = table(address, "FACP");
			memcpy(&address, xsdt + 44, 8);
			madt = table(address, "APIC");
			memcpy(&len, madt + 4, 4);
			EQ(len, 44 + 8 * vm.ncpus + 12 + 10 + 6);
			memcpy(&address, fadt + 140, 8);
			dsdt = table(address, "DSDT");
			memcpy(&len, dsdt + 4, 4);
			check_aml(dsdt + 36, len - 36);
		}
	}
	free(vm.ram);
}
