// SPDX-License-Identifier: GPL-2.0
/*
 * The DSDT's code: the devices that a kernel cannot find by looking, in ACPI machine language.
 *
 * Stock kernels take virtio-mmio devices from ACPI alone (Debian's have no virtio_mmio.device= on
 * the command line), by the hardware id LNRO0005. The serial port is described too, for its
 * interrupt. \_S5 tells what to write to power off. A template has a second port, and what tells
 * its guests that they are copies: a device with the address of a generation ID, and one whose
 * interrupt notifies the former.
 *
 * The encoding is that of the ACPI specification 6.5, chapter 20; resources, section 6.4. A package
 * starts with its length, which is known at its end: open() leaves the two-byte form and close()
 * fills it in. That form holds 4095 bytes, and the largest package here, \_SB, stays below 1000.
 */
#include <string.h>

#include "runner.h"

#define OP_ZERO 0x00
#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_METHOD 0x14
#define OP_EXT 0x5b
#define OP_NOTIFY 0x86
#define OP_EXT_DEVICE 0x82

static void put(struct aml *a, const void *data, size_t len)
{
	if (len > a->size - a->len) {
		a->full = true;
		return;
	}
	memcpy(a->data + a->len, data, len);
	a->len += len;
}

static void put8(struct aml *a, uint8_t value)
{
	put(a, &value, 1);
}

static void put16(struct aml *a, uint16_t value)
{
	put(a, &value, 2);
}

static void put32(struct aml *a, uint32_t value)
{
	put(a, &value, 4);
}

/* The place of a package length, to be given to close(). */
static size_t open_package(struct aml *a)
{
	put16(a, 0);
	return a->len - 2;
}

/* Two bytes: how many follow the first, the low four bits of the length, the next eight. */
static void close_package(struct aml *a, size_t at)
{
	size_t len = a->len - at;

	if (a->full)
		return;
	a->data[at] = 0x40 | (len & 0xf);
	a->data[at + 1] = len >> 4;
}

static void name(struct aml *a, const char *segment)
{
	put8(a, OP_NAME);
	put(a, segment, strlen(segment));
}

static void number(struct aml *a, uint8_t value)
{
	put8(a, OP_BYTE);
	put8(a, value);
}

static size_t open_device(struct aml *a, const char *segment)
{
	size_t at;

	put8(a, OP_EXT);
	put8(a, OP_EXT_DEVICE);
	at = open_package(a);
	put(a, segment, 4);
	return at;
}

/* _CRS: a buffer whose own size comes as a byte after the package length. */
static void resources(struct aml *a, const struct aml *list)
{
	static const uint8_t end_tag[] = { 0x79, 0 };
	size_t at;

	name(a, "_CRS");
	put8(a, OP_BUFFER);
	at = open_package(a);
	number(a, list->len + sizeof(end_tag));
	put(a, list->data, list->len);
	put(a, end_tag, sizeof(end_tag));
	close_package(a, at);
}

static void serial_device(struct aml *a, const char *segment, uint8_t uid, uint16_t port, uint8_t gsi)
{
	uint8_t room[32];
	struct aml list = { .data = room, .size = sizeof(room) };
	size_t at = open_device(a, segment);

	name(a, "_HID");
	put8(a, OP_DWORD);
	put32(a, 0x0105d041);		/* EISA id PNP0501 */
	name(a, "_UID");
	number(a, uid);
	put8(&list, 0x47);		/* I/O ports, 16-bit decode */
	put8(&list, 1);
	put16(&list, port);
	put16(&list, port);
	put8(&list, 1);
	put8(&list, 8);
	put8(&list, 0x22);		/* ISA interrupt, edge */
	put16(&list, 1 << gsi);
	resources(a, &list);
	close_package(a, at);
}

static void string(struct aml *a, const char *text)
{
	put8(a, OP_STRING);
	put(a, text, strlen(text) + 1);
}

static void interrupt(struct aml *list, uint32_t gsi)
{
	put8(list, 0x89);		/* 6 bytes, consumer, edge, active high */
	put16(list, 6);
	put8(list, 3);
	put8(list, 1);
	put32(list, gsi);
}

/* Where the generation ID is: two halves of an address. The ids are the name it has always had and Linux's. */
static void generation_device(struct aml *a)
{
	size_t at = open_device(a, "VGEN"), list;

	name(a, "_HID");
	string(a, "LODG0001");
	name(a, "_CID");
	put8(a, OP_PACKAGE);
	list = open_package(a);
	put8(a, 2);
	string(a, "VM_Gen_Counter");
	string(a, "VMGENCTR");
	close_package(a, list);
	name(a, "_DDN");
	string(a, "VM_Gen_Counter");
	name(a, "ADDR");
	put8(a, OP_PACKAGE);
	list = open_package(a);
	put8(a, 2);
	put8(a, OP_DWORD);
	put32(a, GPA_GENERATION);
	put8(a, OP_ZERO);
	close_package(a, list);
	close_package(a, at);
}

/* A generic event device: on its interrupt the kernel calls _EVT. */
static void event_device(struct aml *a)
{
	uint8_t room[32];
	struct aml list = { .data = room, .size = sizeof(room) };
	size_t at = open_device(a, "GED_"), method;

	name(a, "_HID");
	string(a, "ACPI0013");
	name(a, "_UID");
	number(a, 0);
	interrupt(&list, GSI_GENERATION);
	resources(a, &list);
	put8(a, OP_METHOD);
	method = open_package(a);
	put(a, "_EVT", 4);
	put8(a, 1);			/* one argument */
	put8(a, OP_NOTIFY);
	put(a, "VGEN", 4);
	number(a, 0x80);
	close_package(a, method);
	close_package(a, at);
}

static void virtio_device(struct aml *a, unsigned int index, uint32_t gsi)
{
	char segment[] = "VIR0";
	uint8_t room[32];
	struct aml list = { .data = room, .size = sizeof(room) };
	size_t at;

	segment[3] += index;
	at = open_device(a, segment);
	name(a, "_HID");
	string(a, "LNRO0005");
	name(a, "_UID");
	number(a, index);
	put8(&list, 0x86);		/* 32-bit fixed memory, 9 bytes, read and write */
	put16(&list, 9);
	put8(&list, 1);
	put32(&list, GPA_VIRTIO + index * VIRTIO_STRIDE);
	put32(&list, VIRTIO_SIZE);
	interrupt(&list, gsi);
	resources(a, &list);
	close_package(a, at);
}

/**
 * aml_dsdt() - write the DSDT's code.
 * @aml: where to; @full tells afterwards whether the room sufficed.
 * @ndisks: how many disks there are, at most MAX_DISKS.
 * @net: with a network.
 * @template: with a template's devices.
 */
void aml_dsdt(struct aml *aml, unsigned int ndisks, bool net, bool template)
{
	unsigned int i;
	size_t at;

	name(aml, "\\_S5_");
	put8(aml, OP_PACKAGE);
	at = open_package(aml);
	put8(aml, 4);
	number(aml, SLEEP_TYPE_S5);
	for (i = 1; i < 4; i++)
		put8(aml, OP_ZERO);
	close_package(aml, at);

	put8(aml, OP_SCOPE);
	at = open_package(aml);
	put(aml, "\\_SB_", 5);
	serial_device(aml, "COM1", 0, PORT_COM1, GSI_COM1);
	if (template) {
		serial_device(aml, "COM2", 1, PORT_COM2, GSI_COM2);
		generation_device(aml);
		event_device(aml);
	}
	for (i = 0; i < ndisks; i++)
		virtio_device(aml, i, VIRTIO_GSI + i);
	if (net)
		virtio_device(aml, NET_INDEX, GSI_NET);
	close_package(aml, at);
}
