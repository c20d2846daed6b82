// SPDX-License-Identifier: GPL-2.0
/*
 * Which device an access is for: a table of ports, and the pages of the virtio devices. Nothing
 * else reads as all ones and swallows what is written, as on a real board.
 *
 * The small devices are here as well: the real-time clock's time of day, the registers by which
 * ACPI switches off, the two old ways to reset. All of them are called from any vCPU's thread; the
 * state that they keep (an index, registers that only read back) is a byte or two that a guest
 * must order itself, as it has to with the real ones.
 */
#include <string.h>
#include <time.h>

#include "runner.h"

#define RTC_SECONDS 0x0
#define RTC_MINUTES 0x2
#define RTC_HOURS 0x4
#define RTC_WEEKDAY 0x6
#define RTC_DAY 0x7
#define RTC_MONTH 0x8
#define RTC_YEAR 0x9
#define RTC_STATUS_A 0xa
#define RTC_STATUS_B 0xb
#define RTC_STATUS_D 0xd
#define RTC_CENTURY 0x32
#define RTC_DIVIDER 0x26		/* status A: 32768 Hz, no update in progress */
#define RTC_24_HOURS 0x02		/* status B: 24 hours, BCD */
#define RTC_VALID 0x80			/* status D: the battery is good */

#define KBD_RESET 0xfe
#define RESET_NOW 0x4
#define PM1_SCI_ENABLE 0x1
#define PM1_SLEEP_TYPE(v) (((v) >> 10) & 7)
#define PM1_SLEEP_ENABLE 0x2000

static uint8_t bcd(int value)
{
	return value / 10 % 10 << 4 | value % 10;
}

static uint8_t rtc_read(uint8_t index)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	switch (index) {
	case RTC_SECONDS:
		return bcd(tm.tm_sec);
	case RTC_MINUTES:
		return bcd(tm.tm_min);
	case RTC_HOURS:
		return bcd(tm.tm_hour);
	case RTC_WEEKDAY:
		return bcd(tm.tm_wday + 1);
	case RTC_DAY:
		return bcd(tm.tm_mday);
	case RTC_MONTH:
		return bcd(tm.tm_mon + 1);
	case RTC_YEAR:
		return bcd(tm.tm_year % 100);
	case RTC_CENTURY:
		return bcd(19 + tm.tm_year / 100);
	case RTC_STATUS_A:
		return RTC_DIVIDER;
	case RTC_STATUS_B:
		return RTC_24_HOURS;
	case RTC_STATUS_D:
		return RTC_VALID;
	default:
		return 0;
	}
}

/* The index, whose top bit is a mask of NMIs, and the data. The time cannot be set. */
static void rtc(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	(void)size;
	if (reg == 0 && out)
		vm->rtc_index = *data & 0x7f;
	else if (reg == 1 && !out)
		*data = rtc_read(vm->rtc_index);
}

/* Nothing but the reset line of a keyboard controller, whose status is that it is idle. */
static void keyboard(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	(void)reg;
	(void)size;
	if (!out)
		*data = 0;
	else if (*data == KBD_RESET)
		vm_end(vm, END_OFF);
}

static void reset(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	(void)reg;
	(void)size;
	if (out && (*data & RESET_NOW))
		vm_end(vm, END_OFF);
}

static void com1(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	(void)size;
	serial_io(&vm->serial, out, reg, data);
}

static void com2(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	(void)size;
	if (vm->template)
		serial_io(&vm->second, out, reg, data);
}

/* In a guest that was made of a template this has happened, and means nothing any more. */
static void ready(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	(void)reg;
	(void)size;
	if (out && *data == READY_VALUE && vm->template && vm->ram_fd >= 0)
		vm_end(vm, END_READY);
}

/* A register of 16 bits; a wider or narrower access reads or writes its low part. */
static void word(bool out, uint16_t *value, uint8_t *data, unsigned int size)
{
	if (size > sizeof(*value))
		size = sizeof(*value);
	if (out)
		memcpy(value, data, size);
	else
		memcpy(data, value, size);
}

/* Status, in which no event ever shows, and enable. */
static void pm1_event(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	uint16_t status = 0;

	word(out, reg < 2 ? &status : &vm->pm1_enable, data, size);
}

static void pm1_control(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size)
{
	uint16_t value = vm->pm1_control | PM1_SCI_ENABLE;

	if (reg)
		return;
	word(out, &value, data, size);
	vm->pm1_control = value & ~PM1_SLEEP_ENABLE;
	if ((value & PM1_SLEEP_ENABLE) && PM1_SLEEP_TYPE(value) == SLEEP_TYPE_S5)
		vm_end(vm, END_OFF);
}

static const struct port_range {
	uint16_t first, count;
	void (*access)(struct vm *vm, bool out, uint16_t reg, uint8_t *data, unsigned int size);
} ports[] = {
	{ PORT_COM1, 8, com1 },
	{ PORT_COM2, 8, com2 },
	{ PORT_READY, 1, ready },
	{ PORT_RTC, 2, rtc },
	{ PORT_PM1_EVENT, 4, pm1_event },
	{ PORT_PM1_CONTROL, 2, pm1_control },
	{ PORT_KBD, 1, keyboard },
	{ PORT_RESET, 1, reset },
};

/**
 * io_port() - one access to an I/O port.
 * @vm: the VM.
 * @out: the guest writes.
 * @port: the port.
 * @data: what it writes, or where what it reads goes.
 * @size: 1, 2 or 4 bytes.
 */
void io_port(struct vm *vm, bool out, uint16_t port, uint8_t *data, unsigned int size)
{
	size_t i;

	if (!out)
		memset(data, 0xff, size);
	for (i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		const struct port_range *r = &ports[i];

		if (port >= r->first && port - r->first < r->count) {
			r->access(vm, out, port - r->first, data, size);
			return;
		}
	}
}

/**
 * io_mmio() - one access to memory that is not RAM.
 * @vm: the VM.
 * @write: the guest writes.
 * @addr: guest physical address.
 * @data: what it writes, or where what it reads goes.
 * @len: 1 to 8 bytes.
 */
void io_mmio(struct vm *vm, bool write, uint64_t addr, uint8_t *data, unsigned int len)
{
	uint64_t offset = addr - GPA_VIRTIO;
	uint64_t index = offset / VIRTIO_STRIDE;

	if (!write)
		memset(data, 0xff, len);
	if (addr < GPA_VIRTIO)
		return;
	if (index < vm->ndisks)
		virtio_mmio(disk_virtio(vm->disks[index]), write, offset % VIRTIO_STRIDE, data, len);
	else if (index == NET_INDEX && vm->net)
		virtio_mmio(net_virtio(vm->net), write, offset % VIRTIO_STRIDE, data, len);
}
