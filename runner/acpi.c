// SPDX-License-Identifier: GPL-2.0
/*
 * The ACPI tables: which processors and interrupt controllers there are, how to power off and
 * how to reboot.
 *
 * ACPI rather than the older MP table, because kernels can be built without the latter (Debian's
 * cloud kernel is). The fixed hardware is the least that a kernel accepts outside the
 * hardware-reduced profile: an event block that never has an event and a control register. That
 * profile was not chosen, as in it a kernel uses neither the PIC nor the PIT, and so has no timer
 * when the hypervisor offers no TSC deadline.
 *
 * Layout: the RSDP at GPA_ACPI, where the zero page says and where a kernel would search as well;
 * then each table on a 64-byte border. ACPI specification 6.5, chapter 5.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>

#include "runner.h"

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem[6];
	char oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct gas {
	uint8_t space;
	uint8_t bits;
	uint8_t offset;
	uint8_t access;
	uint64_t address;
} __attribute__((packed));

#define SPACE_IO 1
#define ACCESS_BYTE 1

struct fadt {
	struct header h;
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, timer, gpe0, gpe1;
	uint8_t pm1_event_len, pm1_control_len, pm2_control_len, timer_len, gpe0_len, gpe1_len;
	uint8_t gpe1_base, cst;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct gas reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	struct gas x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control;
	struct gas x_timer, x_gpe0, x_gpe1, sleep_control, sleep_status;
	uint64_t hypervisor;
} __attribute__((packed));

_Static_assert(sizeof(struct fadt) == 276, "the FADT of ACPI 6");

/* Neither button is fixed hardware, nor is the RTC's wake-up; the reset register works. */
#define FADT_WBINVD 0x1
#define FADT_PROC_C1 0x4
#define FADT_PWR_BUTTON 0x10
#define FADT_SLP_BUTTON 0x20
#define FADT_FIX_RTC 0x40
#define FADT_RESET_REG 0x400
/* There is no VGA. That the bit for a keyboard controller is 0 means that there is none. */
#define BOOT_NO_VGA 0x4
/* Latencies above these limits mean that the processor lacks C2 and C3. */
#define NO_C2 101
#define NO_C3 1001

struct facs {
	char signature[4];
	uint32_t length;
	uint8_t rest[56];
} __attribute__((packed));

struct madt {
	struct header h;
	uint32_t lapic;
	uint32_t flags;
	uint8_t entries[];
} __attribute__((packed));

#define MADT_PCAT 1		/* there are PICs as well */

struct madt_lapic {
	uint8_t type, length;	/* 0, 8 */
	uint8_t processor, apic;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type, length;	/* 1, 12 */
	uint8_t id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));

struct madt_override {
	uint8_t type, length;	/* 2, 10 */
	uint8_t bus, source;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));

#define LEVEL_HIGH 0xd

struct madt_nmi {
	uint8_t type, length;	/* 4, 6 */
	uint8_t processor;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

/* Where the next table goes. All of them together take a few KiB of the 128 that there are. */
struct area {
	struct vm *vm;
	uint64_t gpa;
	uint8_t *data;
	size_t room;
};

static void area_next(struct area *a, uint64_t gpa)
{
	a->gpa = (gpa + 63) & ~63ULL;
	a->room = GPA_ACPI_END - a->gpa;
	a->data = vm_ram(a->vm, a->gpa, a->room);
}

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

/* Fill in the header of the table at @a, step over it, and return its address. */
static uint64_t finish(struct area *a, const char *signature, uint8_t revision, size_t len)
{
	struct header *h = (struct header *)a->data;
	uint64_t gpa = a->gpa;

	memcpy(h->signature, signature, 4);
	h->length = len;
	h->revision = revision;
	memcpy(h->oem, "LODGE ", 6);
	memcpy(h->oem_table, "LODGERUN", 8);
	h->oem_revision = 1;
	memcpy(h->creator, "LODG", 4);
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(h, len);
	area_next(a, a->gpa + len);
	return gpa;
}

static uint64_t build_dsdt(struct area *a)
{
	struct aml aml = {
		.data = a->data + sizeof(struct header),
		.size = a->room - sizeof(struct header),
	};

	aml_dsdt(&aml, a->vm->ndisks, a->vm->net, a->vm->template);
	return aml.full ? 0 : finish(a, "DSDT", 2, sizeof(struct header) + aml.len);
}

static uint64_t build_facs(struct area *a)
{
	struct facs *facs = (struct facs *)a->data;
	uint64_t gpa = a->gpa;

	memcpy(facs->signature, "FACS", 4);
	facs->length = sizeof(*facs);
	area_next(a, a->gpa + sizeof(*facs));
	return gpa;
}

static struct gas io_register(uint16_t port, uint8_t bytes)
{
	const struct gas gas = {
		.space = SPACE_IO, .bits = bytes * 8, .access = bytes == 1 ? ACCESS_BYTE : 0,
		.address = port,
	};

	return gas;
}

static uint64_t build_fadt(struct area *a, uint64_t dsdt, uint64_t facs)
{
	struct fadt *f = (struct fadt *)a->data;

	f->facs = facs;
	f->dsdt = dsdt;
	f->sci = GSI_SCI;
	f->pm1a_event = PORT_PM1_EVENT;
	f->pm1a_control = PORT_PM1_CONTROL;
	f->pm1_event_len = 4;
	f->pm1_control_len = 2;
	f->c2_latency = NO_C2;
	f->c3_latency = NO_C3;
	f->century = 0x32;
	f->boot_arch = BOOT_NO_VGA;
	f->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_FIX_RTC |
		   FADT_RESET_REG;
	f->reset = io_register(PORT_RESET, 1);
	f->reset_value = RESET_VALUE;
	f->x_dsdt = dsdt;
	f->x_pm1a_event = io_register(PORT_PM1_EVENT, 4);
	f->x_pm1a_control = io_register(PORT_PM1_CONTROL, 2);
	return finish(a, "FACP", 6, sizeof(*f));
}

static uint64_t build_madt(struct area *a)
{
	const struct madt_ioapic ioapic = { .type = 1, .length = 12, .address = GPA_IOAPIC };
	const struct madt_override sci = {
		.type = 2, .length = 10, .source = GSI_SCI, .gsi = GSI_SCI, .flags = LEVEL_HIGH,
	};
	const struct madt_nmi nmi = { .type = 4, .length = 6, .processor = 0xff, .lint = 1 };
	struct madt *m = (struct madt *)a->data;
	uint8_t *p = m->entries;
	unsigned int i;

	m->lapic = GPA_LAPIC;
	m->flags = MADT_PCAT;
	for (i = 0; i < a->vm->ncpus; i++) {
		struct madt_lapic lapic = {
			.length = 8, .processor = i, .apic = i, .flags = 1,
		};

		memcpy(p, &lapic, sizeof(lapic));
		p += sizeof(lapic);
	}
	memcpy(p, &ioapic, sizeof(ioapic));
	p += sizeof(ioapic);
	/* The timer has no override: the kernel's PIT reaches pin 0, not 2 as on most boards. */
	memcpy(p, &sci, sizeof(sci));
	p += sizeof(sci);
	memcpy(p, &nmi, sizeof(nmi));
	p += sizeof(nmi);
	return finish(a, "APIC", 4, p - a->data);
}

static uint64_t build_xsdt(struct area *a, uint64_t fadt, uint64_t madt)
{
	uint64_t tables[] = { fadt, madt };

	memcpy(a->data + sizeof(struct header), tables, sizeof(tables));
	return finish(a, "XSDT", 1, sizeof(struct header) + sizeof(tables));
}

/**
 * acpi_new_generation() - the guest is another's copy from here on, and is told so.
 * @vm: the VM, its memory there. Without a VM behind it yet, nobody is told.
 *
 * The identifier is Microsoft's "virtual machine generation ID": 16 random bytes in memory that is not the guest's to
 * use. Linux mixes it into its random numbers, when the interrupt makes it look.
 *
 * Return: 0, or -1.
 */
int acpi_new_generation(struct vm *vm)
{
	struct kvm_irq_level irq = { .irq = GSI_GENERATION, .level = 1 };

	if (getrandom(vm_ram(vm, GPA_GENERATION, 16), 16, 0) != 16)
		return say_errno("there are no random numbers");
	if (vm->fd < 0)
		return 0;
	if (ioctl(vm->fd, KVM_IRQ_LINE, &irq) < 0)
		return say_errno("KVM_IRQ_LINE");
	irq.level = 0;
	return ioctl(vm->fd, KVM_IRQ_LINE, &irq) < 0 ? say_errno("KVM_IRQ_LINE") : 0;
}

/**
 * acpi_build() - write the ACPI tables into guest memory.
 * @vm: the VM, its number of vCPUs and disks known, and whether it has a network.
 *
 * Return: 0, or -1.
 */
int acpi_build(struct vm *vm)
{
	struct rsdp *rsdp = vm_ram(vm, GPA_ACPI, sizeof(*rsdp));
	struct area area = { .vm = vm };
	uint64_t dsdt, facs;

	memset(vm_ram(vm, GPA_ACPI, GPA_ACPI_END - GPA_ACPI), 0, GPA_ACPI_END - GPA_ACPI);
	area_next(&area, GPA_ACPI + sizeof(*rsdp));
	dsdt = build_dsdt(&area);
	if (!dsdt)
		return say("the ACPI tables do not fit into their place");
	facs = build_facs(&area);
	memcpy(rsdp->signature, "RSD PTR ", 8);
	memcpy(rsdp->oem, "LODGE ", 6);
	rsdp->revision = 2;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = build_xsdt(&area, build_fadt(&area, dsdt, facs), build_madt(&area));
	rsdp->checksum = checksum(rsdp, 20);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
	return vm->template ? acpi_new_generation(vm) : 0;
}
