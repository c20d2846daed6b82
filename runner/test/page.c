// SPDX-License-Identifier: GPL-2.0
/*
 * The test of a virtio device whose registers the guest reads from a page, as the network's are, without a
 * hypervisor and without what serves its queues: what a driver finds there, and when whoever serves them is told.
 * One thread; the tests' processes share nothing.
 */
#define _GNU_SOURCE
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "runner.h"
#include "../../selftests/lib/tap.h"

#define RAM_SIZE (2 * MIB)
#define DESC 0x10000
#define AVAIL 0x11000
#define USED 0x12000

static struct vm vm;
static unsigned int turns_on, turns_off;

static void count_turns(struct virtio *v, bool on)
{
	(void)v;
	turns_on += on;
	turns_off += !on;
}

static uint16_t link_state = 1;

/* Two queues that are served elsewhere; the registers are read from a page. */
static void make_paged(struct virtio *v)
{
	vm.ram = calloc(1, RAM_SIZE);
	vm.ram_size = RAM_SIZE;
	TRUE(vm.ram);
	v->device_id = 1;
	v->nqueues = 2;
	v->queue_max = 256;
	v->config = &link_state;
	v->config_len = sizeof(link_state);
	v->turn = count_turns;
	OK(virtio_init(v, &vm, NET_INDEX, GSI_NET));
	OK(virtio_map_registers(v));
}

static void paged_set(struct virtio *v, uint32_t offset, uint32_t value)
{
	virtio_mmio(v, true, offset, (uint8_t *)&value, 4);
}

static void paged_rings(struct virtio *v, uint32_t i, uint64_t desc)
{
	paged_set(v, VIRTIO_MMIO_QUEUE_SEL, i);
	EQ(v->page[VIRTIO_MMIO_QUEUE_NUM_MAX / 4], 256);
	paged_set(v, VIRTIO_MMIO_QUEUE_NUM, 256);
	paged_set(v, VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
	paged_set(v, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL + 0x10000 * i);
	paged_set(v, VIRTIO_MMIO_QUEUE_USED_LOW, USED + 0x10000 * i);
	paged_set(v, VIRTIO_MMIO_QUEUE_READY, 1);
}

static uint64_t taken(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

TEST(page, "registers on a page say what a read would, after each write")
{
	static struct virtio v;
	uint32_t *page, offset, value;

	make_paged(&v);
	page = v.page;
	EQ(page[VIRTIO_MMIO_MAGIC_VALUE / 4], 0x74726976);
	EQ(page[VIRTIO_MMIO_INTERRUPT_STATUS / 4], 0);
	EQ(page[VIRTIO_MMIO_CONFIG / 4], 1);
	EQ(page[VIRTIO_MMIO_CONFIG / 4 + 1], 0);
	paged_set(&v, VIRTIO_MMIO_STATUS, 3);
	EQ(page[VIRTIO_MMIO_DEVICE_FEATURES / 4], 0);
	paged_set(&v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	EQ(page[VIRTIO_MMIO_DEVICE_FEATURES / 4], 1);
	paged_set(&v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	paged_set(&v, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	paged_set(&v, VIRTIO_MMIO_STATUS, 11);
	EQ(page[VIRTIO_MMIO_STATUS / 4], 11);
	paged_rings(&v, 0, DESC);
	paged_rings(&v, 1, DESC);
	EQ(page[VIRTIO_MMIO_QUEUE_READY / 4], 1);
	paged_set(&v, VIRTIO_MMIO_QUEUE_SEL, 2);
	EQ(page[VIRTIO_MMIO_QUEUE_READY / 4], 0);
	EQ(page[VIRTIO_MMIO_QUEUE_NUM_MAX / 4], 0);
	EQ(turns_on, 0);
	paged_set(&v, VIRTIO_MMIO_STATUS, 15);
	EQ(turns_on, 1);
	/* Said again it is nothing new. */
	paged_set(&v, VIRTIO_MMIO_STATUS, 15);
	EQ(turns_on, 1);
	EQ(page[VIRTIO_MMIO_INTERRUPT_STATUS / 4], 1);
	for (offset = 0; offset < VIRTIO_SIZE; offset += 4) {
		virtio_mmio(&v, false, offset, (uint8_t *)&value, 4);
		EQ(value, page[offset / 4]);
	}
	EQ(taken(v.irq_fd), 0);
	virtio_destroy(&v);
}

TEST(page_changes, "a page: a change of the configuration shows until acknowledged; what ends the service")
{
	static struct virtio v;
	uint32_t *page, generation;

	make_paged(&v);
	page = v.page;
	paged_set(&v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	paged_set(&v, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	paged_set(&v, VIRTIO_MMIO_STATUS, 11);
	paged_rings(&v, 0, DESC);
	paged_rings(&v, 1, DESC);
	paged_set(&v, VIRTIO_MMIO_STATUS, 15);
	generation = page[VIRTIO_MMIO_CONFIG_GENERATION / 4];
	link_state = 0;
	virtio_changed(&v);
	EQ(page[VIRTIO_MMIO_CONFIG / 4], 0);
	EQ(page[VIRTIO_MMIO_INTERRUPT_STATUS / 4], 3);
	TRUE(page[VIRTIO_MMIO_CONFIG_GENERATION / 4] != generation);
	EQ(taken(v.irq_fd), 1);
	paged_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	EQ(page[VIRTIO_MMIO_INTERRUPT_STATUS / 4], 1);
	turns_off = 0;
	paged_set(&v, VIRTIO_MMIO_QUEUE_SEL, 1);
	paged_set(&v, VIRTIO_MMIO_QUEUE_READY, 0);
	EQ(turns_off, 1);
	EQ(page[VIRTIO_MMIO_QUEUE_READY / 4], 0);
	paged_rings(&v, 1, RAM_SIZE);
	EQ(turns_off, 2);
	EQ(page[VIRTIO_MMIO_QUEUE_READY / 4], 0);
	EQ(page[VIRTIO_MMIO_STATUS / 4], 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
	paged_set(&v, VIRTIO_MMIO_STATUS, 0);
	EQ(turns_off, 3);
	EQ(page[VIRTIO_MMIO_STATUS / 4], 0);
	EQ(page[VIRTIO_MMIO_INTERRUPT_STATUS / 4], 0);
	virtio_destroy(&v);
}
