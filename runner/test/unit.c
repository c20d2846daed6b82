// SPDX-License-Identifier: GPL-2.0
/*
 * Unit tests of lodge-run's devices, without a hypervisor (state.c has those of saved VMs, acpi.c
 * that of the tables, page.c that of registers on a page): a queue of a virtio disk in the hands of a good
 * driver, of each kind of bad one and of a random one; the serial ports; the escape key. Built with the address and
 * undefined-behaviour sanitizers; guest RAM is a block of malloc's, so that an access outside it is
 * found.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <linux/serial_reg.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "runner.h"
#include "../../selftests/lib/tap.h"

#define RAM_SIZE (2 * MIB)
#define DISK_SECTORS 64
#define RING_SIZE 16

/* Where the driver of these tests has its rings and buffers. */
#define DESC 0x10000
#define AVAIL 0x11000
#define USED 0x12000
#define HEADER 0x20000
#define DATA 0x21000
#define STATUS 0x30000

static struct vm vm;
static struct virtio *dev;
static int disk_fd;
static uint16_t avail_idx;

/* A VM of memory and one disk, whose sector n is filled with n. */
static void make_vm(bool read_only)
{
	char path[64];
	uint8_t sector[512];
	unsigned int i;

	vm.fd = -1;
	vm.save_fd = -1;
	vm.ram_fd = -1;
	vm.end = END_NONE;
	vm.end_fd = OK(eventfd(0, EFD_NONBLOCK));
	vm.ram = calloc(1, RAM_SIZE);
	vm.ram_size = RAM_SIZE;
	vm.ncpus = 2;
	TRUE(vm.ram);
	OK(serial_init(&vm.serial, &vm, GSI_COM1, STDOUT_FILENO));
	disk_fd = OK(memfd_create("disk", 0));
	for (i = 0; i < DISK_SECTORS; i++) {
		memset(sector, i, sizeof(sector));
		EQ(pwrite(disk_fd, sector, sizeof(sector), i * 512), 512);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d%s", disk_fd, read_only ? ",ro" : "");
	vm.disks[0] = disk_open(&vm, path, 0);
	TRUE(vm.disks[0]);
	vm.ndisks = 1;
	dev = disk_virtio(vm.disks[0]);
}

static uint32_t get(uint32_t offset)
{
	uint32_t value = 0;

	io_mmio(&vm, false, GPA_VIRTIO + offset, (uint8_t *)&value, 4);
	return value;
}

static void set(uint32_t offset, uint32_t value)
{
	io_mmio(&vm, true, GPA_VIRTIO + offset, (uint8_t *)&value, 4);
}

static void negotiate(uint64_t features)
{
	set(VIRTIO_MMIO_STATUS, 0);
	set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set(VIRTIO_MMIO_DRIVER_FEATURES, features);
	set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(VIRTIO_MMIO_DRIVER_FEATURES, features >> 32);
	set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
	    VIRTIO_CONFIG_S_FEATURES_OK);
}

#define GOOD_FEATURES (1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_BLK_F_FLUSH)

static void set_rings(uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	set(VIRTIO_MMIO_QUEUE_SEL, 0);
	set(VIRTIO_MMIO_QUEUE_NUM, size);
	set(VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
	set(VIRTIO_MMIO_QUEUE_DESC_HIGH, desc >> 32);
	set(VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail);
	set(VIRTIO_MMIO_QUEUE_AVAIL_HIGH, avail >> 32);
	set(VIRTIO_MMIO_QUEUE_USED_LOW, used);
	set(VIRTIO_MMIO_QUEUE_USED_HIGH, used >> 32);
	set(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void drive(uint64_t features)
{
	negotiate(features);
	set_rings(RING_SIZE, DESC, AVAIL, USED);
	set(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
	avail_idx = 0;
}

static void good_driver(bool read_only)
{
	make_vm(read_only);
	drive(GOOD_FEATURES);
	EQ(get(VIRTIO_MMIO_QUEUE_READY), 1);
	EQ(get(VIRTIO_MMIO_STATUS), 15);
}

static struct vring_desc *desc(unsigned int i)
{
	return (struct vring_desc *)(vm.ram + DESC) + i;
}

static void put_desc(unsigned int i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	*desc(i) = (struct vring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

static struct vring_avail *avail(void)
{
	return (struct vring_avail *)(vm.ram + AVAIL);
}

static struct vring_used *used(void)
{
	return (struct vring_used *)(vm.ram + USED);
}

static void kick(uint16_t head)
{
	avail()->ring[avail_idx % RING_SIZE] = head;
	avail()->idx = ++avail_idx;
	virtio_serve_queue(dev);
}

/* The usual request: three descriptors. Return the status byte; 0xee if it was not written. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t len)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint16_t flags = type == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE;

	memcpy(vm.ram + HEADER, &header, sizeof(header));
	vm.ram[STATUS] = 0xee;
	put_desc(0, HEADER, sizeof(header), VRING_DESC_F_NEXT, 1);
	put_desc(1, DATA, len, VRING_DESC_F_NEXT | flags, 2);
	put_desc(2, STATUS, 1, VRING_DESC_F_WRITE, 0);
	kick(0);
	return vm.ram[STATUS];
}

static bool broken(void)
{
	return get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

TEST(ram, "guest addresses: RAM below and above the hole, nothing else")
{
	vm.ram = (uint8_t *)0x100000;
	vm.ram_size = 4 * GIB;
	EQ((uintptr_t)vm_ram(&vm, 0, 1), 0x100000);
	EQ((uintptr_t)vm_ram(&vm, GPA_HOLE - 1, 1), 0x100000 + GPA_HOLE - 1);
	EQ((uintptr_t)vm_ram(&vm, GPA_HOLE - 1, 2), 0);
	EQ((uintptr_t)vm_ram(&vm, GPA_HOLE, 1), 0);
	EQ((uintptr_t)vm_ram(&vm, GPA_HIGH - 1, 1), 0);
	EQ((uintptr_t)vm_ram(&vm, GPA_HIGH, 1), 0x100000 + GPA_HOLE);
	EQ((uintptr_t)vm_ram(&vm, GPA_HIGH, GIB), 0x100000 + GPA_HOLE);
	EQ((uintptr_t)vm_ram(&vm, GPA_HIGH, GIB + 1), 0);
	EQ((uintptr_t)vm_ram(&vm, GPA_HIGH + GIB, 0), 0);
	EQ((uintptr_t)vm_ram(&vm, 0, UINT64_MAX), 0);
	EQ((uintptr_t)vm_ram(&vm, UINT64_MAX, 2), 0);
	vm.ram_size = GIB;
	EQ((uintptr_t)vm_ram(&vm, GPA_HIGH, 1), 0);
	EQ((uintptr_t)vm_ram(&vm, GIB - 1, 1), 0x100000 + GIB - 1);
	EQ((uintptr_t)vm_ram(&vm, GIB, 1), 0);
}

TEST(negotiation, "a disk's registers, and features accepted and refused")
{
	uint64_t capacity = 0;

	make_vm(true);
	EQ(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	EQ(get(VIRTIO_MMIO_VERSION), 2);
	EQ(get(VIRTIO_MMIO_DEVICE_ID), 2);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	TRUE(get(VIRTIO_MMIO_DEVICE_FEATURES) & 1 << VIRTIO_BLK_F_RO);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	EQ(get(VIRTIO_MMIO_DEVICE_FEATURES), 1);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	EQ(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	io_mmio(&vm, false, GPA_VIRTIO + VIRTIO_MMIO_CONFIG, (uint8_t *)&capacity, 8);
	EQ(capacity, DISK_SECTORS);
	negotiate(GOOD_FEATURES);
	EQ(get(VIRTIO_MMIO_STATUS), 11);
	negotiate(1ULL << VIRTIO_BLK_F_FLUSH);
	EQ(get(VIRTIO_MMIO_STATUS), 3);
	negotiate(GOOD_FEATURES | 1ULL << 34);
	EQ(get(VIRTIO_MMIO_STATUS), 3);
	set(VIRTIO_MMIO_QUEUE_SEL, 1);
	EQ(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	EQ(get(VIRTIO_SIZE + 4), UINT32_MAX);
	EQ(get(VIRTIO_STRIDE), UINT32_MAX);
}

TEST(read, "a read: data, status, used ring, interrupt")
{
	uint64_t count;

	good_driver(false);
	EQ(request(VIRTIO_BLK_T_IN, 5, 1024), VIRTIO_BLK_S_OK);
	EQ(vm.ram[DATA], 5);
	EQ(vm.ram[DATA + 511], 5);
	EQ(vm.ram[DATA + 512], 6);
	EQ(vm.ram[DATA + 1024], 0);
	EQ(used()->idx, 1);
	EQ(used()->ring[0].id, 0);
	EQ(used()->ring[0].len, 1025);
	EQ(used()->flags, 0);
	EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	EQ(read(dev->irq_fd, &count, sizeof(count)), 8);
	set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	avail()->flags = VRING_AVAIL_F_NO_INTERRUPT;
	EQ(request(VIRTIO_BLK_T_IN, 6, 512), VIRTIO_BLK_S_OK);
	EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ERR(read(dev->irq_fd, &count, sizeof(count)), EAGAIN);
}

TEST(write, "a write reaches the file; a flush; a name")
{
	uint8_t sector[512];

	good_driver(false);
	memset(vm.ram + DATA, 0xab, 512);
	EQ(request(VIRTIO_BLK_T_OUT, 63, 512), VIRTIO_BLK_S_OK);
	EQ(used()->ring[0].len, 1);
	EQ(pread(disk_fd, sector, 512, 63 * 512), 512);
	SAME(sector, vm.ram + DATA, 512);
	EQ(request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	EQ(request(VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	SAME(vm.ram + DATA, "lodge-disk-0", 13);
	EQ(request(VIRTIO_BLK_T_DISCARD, 0, 512), VIRTIO_BLK_S_UNSUPP);
}

static void write_byte(uint64_t sector, uint8_t value)
{
	memset(vm.ram + DATA, value, 512);
	EQ(request(VIRTIO_BLK_T_OUT, sector, 512), VIRTIO_BLK_S_OK);
}

TEST(layers, "a disk with layers: what is written is read again, the rest shines through, the file stays as it was")
{
	static const uint8_t wanted[] = { 9, 0xa1, 0xb2, 0xb3, 0xa4, 14 };
	uint8_t sector[512];
	unsigned int i;

	good_driver(false);
	OK(disk_layer(vm.disks[0]));
	for (i = 10; i <= 13; i++)
		write_byte(i, 0xa0 + i - 9);
	OK(disk_layer(vm.disks[0]));
	write_byte(11, 0xb2);
	write_byte(12, 0xb3);
	EQ(request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	memset(vm.ram + DATA, 0, 6 * 512);
	EQ(request(VIRTIO_BLK_T_IN, 9, 6 * 512), VIRTIO_BLK_S_OK);
	for (i = 0; i < 6; i++) {
		EQ(vm.ram[DATA + i * 512], wanted[i]);
		EQ(vm.ram[DATA + i * 512 + 511], wanted[i]);
		EQ(pread(disk_fd, sector, 512, (9 + i) * 512), 512);
		EQ(sector[0], 9 + i);
	}
	EQ(request(VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	EQ(vm.ram[DATA], DISK_SECTORS - 1);
	EQ(disk_layer(vm.disks[0]), -1);
	disk_close(vm.disks[0]);
}

TEST(refusals, "requests that a disk refuses: the end, half a sector, read-only")
{
	uint8_t sector[512];

	good_driver(true);
	EQ(request(VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	EQ(request(VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 1024), VIRTIO_BLK_S_IOERR);
	EQ(request(VIRTIO_BLK_T_IN, DISK_SECTORS, 512), VIRTIO_BLK_S_IOERR);
	EQ(request(VIRTIO_BLK_T_IN, UINT64_MAX, 512), VIRTIO_BLK_S_IOERR);
	EQ(request(VIRTIO_BLK_T_IN, 1ULL << 55, 512), VIRTIO_BLK_S_IOERR);
	EQ(request(VIRTIO_BLK_T_IN, 0, 100), VIRTIO_BLK_S_IOERR);
	memset(vm.ram + DATA, 0xab, 512);
	EQ(request(VIRTIO_BLK_T_OUT, 3, 512), VIRTIO_BLK_S_IOERR);
	EQ(pread(disk_fd, sector, 512, 3 * 512), 512);
	EQ(sector[0], 3);
	TRUE(!broken());
}

TEST(write_end, "a write beyond the end does not make the file longer")
{
	good_driver(false);
	EQ(request(VIRTIO_BLK_T_OUT, DISK_SECTORS - 1, 1024), VIRTIO_BLK_S_IOERR);
	EQ(request(VIRTIO_BLK_T_OUT, DISK_SECTORS, 512), VIRTIO_BLK_S_IOERR);
	EQ(lseek(disk_fd, 0, SEEK_END), DISK_SECTORS * 512);
	EQ(request(VIRTIO_BLK_T_OUT, DISK_SECTORS - 1, 512), VIRTIO_BLK_S_OK);
}

TEST(framing, "a header and data cut into odd pieces")
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN, .sector = 9 };

	good_driver(false);
	memcpy(vm.ram + HEADER, &header, sizeof(header));
	put_desc(3, HEADER, 5, VRING_DESC_F_NEXT, 1);
	put_desc(1, HEADER + 5, 0, VRING_DESC_F_NEXT, 0);
	put_desc(0, HEADER + 5, 11, VRING_DESC_F_NEXT, 4);
	put_desc(4, DATA, 100, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 5);
	put_desc(5, DATA + 200, 413, VRING_DESC_F_WRITE, 0);
	kick(3);
	EQ(used()->ring[0].id, 3);
	EQ(used()->ring[0].len, 513);
	EQ(vm.ram[DATA + 99], 9);
	EQ(vm.ram[DATA + 100], 0);
	EQ(vm.ram[DATA + 200 + 411], 9);
	EQ(vm.ram[DATA + 200 + 412], VIRTIO_BLK_S_OK);
	/* Neither a header nor a place for a status. */
	put_desc(0, HEADER, 5, VRING_DESC_F_NEXT, 1);
	put_desc(1, STATUS, 1, VRING_DESC_F_WRITE, 0);
	kick(0);
	EQ(vm.ram[STATUS], VIRTIO_BLK_S_IOERR);
	put_desc(0, HEADER, 16, 0, 0);
	kick(0);
	EQ(used()->idx, 3);
	EQ(used()->ring[2].len, 0);
	TRUE(!broken());
}

/* One way to break the rules with descriptor 0 (and 1), and a sound queue after a reset. */
static void bad_chain(uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	good_driver(false);
	put_desc(0, addr, len, flags, next);
	put_desc(1, STATUS, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 0);
	kick(0);
	TRUE(broken());
	EQ(used()->idx, 0);
	TRUE(get(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	drive(GOOD_FEATURES);
	TRUE(!broken());
	EQ(request(VIRTIO_BLK_T_IN, 1, 512), VIRTIO_BLK_S_OK);
}

TEST(outside, "a descriptor outside RAM breaks the queue until a reset")
{
	bad_chain(RAM_SIZE, 16, 0, 0);
}

TEST(across, "a descriptor across the end of RAM")
{
	bad_chain(RAM_SIZE - 15, 16, 0, 0);
}

TEST(wrap, "a descriptor that wraps around")
{
	bad_chain(UINT64_MAX - 7, 16, 0, 0);
}

TEST(far_next, "a chain to a descriptor that there is not")
{
	bad_chain(HEADER, 16, VRING_DESC_F_NEXT, RING_SIZE);
}

TEST(loop, "a chain that is a loop")
{
	bad_chain(HEADER, 16, VRING_DESC_F_NEXT, 0);
}

TEST(order, "what the device reads after what it writes")
{
	bad_chain(STATUS, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2);
}

TEST(indirect, "an indirect descriptor, which was not offered")
{
	bad_chain(HEADER, 16, VRING_DESC_F_INDIRECT, 0);
}

TEST(far_head, "a head that there is not, and an index that runs ahead")
{
	good_driver(false);
	kick(RING_SIZE);
	TRUE(broken());
	drive(GOOD_FEATURES);
	avail()->ring[0] = 0;
	avail()->idx = RING_SIZE + 1;
	virtio_serve_queue(dev);
	TRUE(broken());
	EQ(used()->idx, 0);
}

TEST(rings, "rings outside RAM, misaligned, of impossible sizes")
{
	const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{ 0, DESC, AVAIL, USED }, { 3, DESC, AVAIL, USED }, { 256, DESC, AVAIL, USED },
		{ 1u << 31, DESC, AVAIL, USED }, { 16, DESC + 8, AVAIL, USED },
		{ 16, DESC, AVAIL + 1, USED }, { 16, DESC, AVAIL, USED + 2 },
		{ 16, RAM_SIZE - 255, AVAIL, USED }, { 16, RAM_SIZE - 240, AVAIL, USED },
		{ 16, DESC, RAM_SIZE - 36, USED }, { 16, DESC, AVAIL, RAM_SIZE - 132 },
		{ 16, 1ULL << 63, AVAIL, USED }, { 16, DESC, UINT64_MAX - 1, USED },
		{ 16, DESC, AVAIL, GPA_HIGH },
	};
	size_t i;

	make_vm(false);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		note("case %zu", i);
		negotiate(GOOD_FEATURES);
		set_rings(bad[i].size, bad[i].desc, bad[i].avail, bad[i].used);
		EQ(get(VIRTIO_MMIO_QUEUE_READY), 0);
		TRUE(broken());
		virtio_serve_queue(dev);
	}
	/* The last places where they fit. */
	negotiate(GOOD_FEATURES);
	set_rings(16, RAM_SIZE - 256, RAM_SIZE - 256 - 38, RAM_SIZE - 512 - 136);
	EQ(get(VIRTIO_MMIO_QUEUE_READY), 1);
}

TEST(early, "no request is served before the driver is ready, or after it stopped the queue")
{
	make_vm(false);
	negotiate(GOOD_FEATURES);
	set_rings(RING_SIZE, DESC, AVAIL, USED);
	EQ(request(VIRTIO_BLK_T_IN, 1, 512), 0xee);
	set(VIRTIO_MMIO_STATUS, 15);
	virtio_serve_queue(dev);
	EQ(vm.ram[STATUS], VIRTIO_BLK_S_OK);
	set(VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
	EQ(request(VIRTIO_BLK_T_IN, 1, 512), VIRTIO_BLK_S_OK);
	set(VIRTIO_MMIO_QUEUE_READY, 0);
	EQ(get(VIRTIO_MMIO_QUEUE_READY), 0);
	EQ(request(VIRTIO_BLK_T_IN, 1, 512), 0xee);
}

TEST(stopped, "a request that comes when the disk has stopped waits, and is served when it goes on")
{
	good_driver(false);
	vm.stopping = true;
	EQ(request(VIRTIO_BLK_T_IN, 5, 512), 0xee);
	EQ(used()->idx, 0);
	vm.stopping = false;
	virtio_serve_queue(dev);
	EQ(vm.ram[STATUS], VIRTIO_BLK_S_OK);
	EQ(vm.ram[DATA], 5);
	EQ(used()->idx, 1);
}

TEST(disk_state, "a disk's state: goes on as another disk; what cannot be is refused")
{
	struct virtio_state good, bad;
	uint8_t *ram;

	good_driver(false);
	EQ(request(VIRTIO_BLK_T_IN, 5, 512), VIRTIO_BLK_S_OK);
	virtio_save(dev, &good);
	ram = vm.ram;
	make_vm(false);
	vm.ram = ram;
	OK(virtio_restore(dev, &good));
	EQ(get(VIRTIO_MMIO_STATUS), 15);
	EQ(get(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
	EQ(request(VIRTIO_BLK_T_IN, 7, 512), VIRTIO_BLK_S_OK);
	EQ(vm.ram[DATA], 7);
	EQ(used()->idx, 2);
	OK(dup2(open("/dev/null", O_WRONLY), STDERR_FILENO));
#define REFUSES(field, value) do {		\
	bad = good;				\
	bad.field = value;			\
	EQ(virtio_restore(dev, &bad), -1);	\
} while (0)
	REFUSES(features, good.features ^ 1ULL << VIRTIO_BLK_F_RO);
	REFUSES(driver_features, UINT64_MAX);
	REFUSES(desc_gpa, RAM_SIZE);
	REFUSES(avail_gpa, UINT64_MAX - 1);
	REFUSES(used_gpa, 2);
	REFUSES(queue_size, 3);
	REFUSES(queue_size, 4096);
	REFUSES(status, 0x100);
	REFUSES(isr, 4);
	REFUSES(ready, 2);
	REFUSES(broken, 7);
	OK(virtio_restore(dev, &good));
}

TEST(random_driver, "20000 random rings, chains and register accesses")
{
	unsigned int i, j;
	uint64_t served = 0, breaks = 0;

	srandom(1);
	good_driver(false);
	for (i = 0; i < 20000; i++) {
		drive(GOOD_FEATURES);
		for (j = 0; j < RING_SIZE; j++) {
			bool far = random() % 32 == 0;

			put_desc(j, far ? (uint64_t)random() << random() % 33 : random() % RAM_SIZE,
				 random() % 4096, random() % 16 ? random() & 3 : random(),
				 random() % 32 ? random() % RING_SIZE : random());
			avail()->ring[j] = random() % 64 ? random() % RING_SIZE : random();
		}
		memset(vm.ram + USED, 0, 4);
		avail()->idx = random() % (RING_SIZE + 2);
		virtio_serve_queue(dev);
		served += used()->idx;
		breaks += broken();
		for (j = 0; j < 4; j++) {
			uint8_t data[8] = { random(), random(), random(), random() };

			io_mmio(&vm, random() & 1, GPA_VIRTIO + random() % (2 * VIRTIO_STRIDE), data,
				1 << random() % 4);
		}
		if (random() % 4 == 0)
			virtio_serve_queue(dev);
	}
	/* Both kinds came up, or this was no test. */
	GE(served, 1000);
	GE(breaks, 1000);
}

static uint8_t in(uint16_t port)
{
	uint8_t value = 0x55;

	io_port(&vm, false, port, &value, 1);
	return value;
}

static void out(uint16_t port, uint8_t value)
{
	io_port(&vm, true, port, &value, 1);
}

static uint8_t com(unsigned int reg)
{
	return in(PORT_COM1 + reg);
}

static void com_out(unsigned int reg, uint8_t value)
{
	out(PORT_COM1 + reg, value);
}

TEST(uart_output, "the serial port: output, its interrupt, what identifies a 16550A")
{
	int pipes[2];
	char byte;

	make_vm(false);
	OK(pipe(pipes));
	OK(dup2(pipes[1], STDOUT_FILENO));
	EQ(com(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	EQ(com(UART_IIR), UART_IIR_NO_INT);
	com_out(UART_IER, UART_IER_THRI);
	EQ(vm.serial.line, false);
	com_out(UART_MCR, UART_MCR_OUT2);
	EQ(vm.serial.line, true);
	EQ(com(UART_IIR), UART_IIR_THRI);
	EQ(com(UART_IIR), UART_IIR_NO_INT);
	EQ(vm.serial.line, false);
	com_out(UART_TX, 'x');
	EQ(vm.serial.line, true);
	EQ(read(pipes[0], &byte, 1), 1);
	EQ(byte, 'x');
	com_out(UART_IER, 0xff);
	EQ(com(UART_IER), 0xf);
	com_out(UART_FCR, UART_FCR_ENABLE_FIFO);
	EQ(com(UART_IIR) & 0xc0, 0xc0);
	com_out(UART_SCR, 0x5a);
	EQ(com(UART_SCR), 0x5a);
	com_out(UART_LCR, UART_LCR_DLAB);
	com_out(UART_DLL, 1);
	com_out(UART_DLM, 2);
	EQ(com(UART_DLL), 1);
	EQ(com(UART_DLM), 2);
	com_out(UART_LCR, UART_LCR_WLEN8);
	EQ(com(UART_IER), 0xf);
	com_out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	EQ(com(UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
}

TEST(uart_input, "the serial port: input waits for the driver, none is lost, a full one fills up again")
{
	uint8_t bytes[RX_SIZE];
	uint64_t count;
	unsigned int i;

	make_vm(false);
	for (i = 0; i < RX_SIZE; i++)
		bytes[i] = i * 7;
	serial_input(&vm.serial, bytes, RX_SIZE - 1);
	EQ(serial_room(&vm.serial), 1);
	EQ(com(UART_LSR) & UART_LSR_DR, 0);
	EQ(com(UART_RX), 0);
	com_out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	com_out(UART_MCR, UART_MCR_OUT2);
	com_out(UART_IER, UART_IER_RDI);
	EQ(vm.serial.line, true);
	EQ(com(UART_IIR) & 0xf, UART_IIR_RDI);
	EQ(com(UART_RX), bytes[0]);
	ERR(read(vm.serial.room_fd, &count, 8), EAGAIN);
	serial_input(&vm.serial, bytes, 2);
	EQ(serial_room(&vm.serial), 0);
	EQ(com(UART_RX), bytes[1]);
	EQ(read(vm.serial.room_fd, &count, 8), 8);
	for (i = 2; i < RX_SIZE - 1; i++)
		EQ(com(UART_RX), bytes[i]);
	EQ(com(UART_RX), bytes[0]);
	EQ(com(UART_RX), bytes[1]);
	EQ(com(UART_LSR) & UART_LSR_DR, 0);
	EQ(vm.serial.line, false);
}

TEST(second_port, "the second serial port and the port of readiness are there for a template alone, until it is made")
{
	int pipes[2];
	char byte;

	make_vm(false);
	OK(pipe(pipes));
	OK(serial_init(&vm.second, &vm, GSI_COM2, pipes[1]));
	EQ(in(PORT_COM2 + UART_LSR), 0xff);
	out(PORT_READY, READY_VALUE);
	EQ(vm.end, END_NONE);
	vm.template = true;
	EQ(in(PORT_COM2 + UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	out(PORT_COM2 + UART_TX, 'y');
	EQ(read(pipes[0], &byte, 1), 1);
	EQ(byte, 'y');
	out(PORT_READY, READY_VALUE);
	EQ(vm.end, END_NONE);
	vm.ram_fd = 0;
	out(PORT_READY, READY_VALUE + 1);
	EQ(vm.end, END_NONE);
	out(PORT_READY, READY_VALUE);
	EQ(vm.end, END_READY);
	TRUE(!vm_end(&vm, END_SAVE));
	TRUE(vm_end(&vm, END_OFF));
	EQ(vm.end, END_OFF);
}

TEST(escape, "the escape key: leaves, sends itself, waits for its second key")
{
	uint8_t a[257] = "ab", b[257] = { 1, 'a', 1, 1, 'c', 1 }, c[257] = "b", d[257] = { 'q', 1, 'x', 'y' };

	make_vm(false);
	EQ(term_escape(&vm, a, 2), 2);
	SAME(a, "ab", 2);
	EQ(term_escape(&vm, b, 6), 3);
	SAME(b, "\1\1c", 3);
	EQ(term_escape(&vm, c, 1), 2);
	SAME(c, "\1b", 2);
	EQ(vm.end, END_NONE);
	EQ(term_escape(&vm, d, 4), 0);
	EQ(vm.end, END_ESCAPE);
}

/* What a child does with the terminal that is its standard input. */
static void guest_console(void)
{
	int sig;

	make_vm(false);
	/* The sanitizer's own handler would come first; and a job in the background inherits some that are ignored. */
	for (sig = 1; sig < SIGRTMIN; sig++)
		signal(sig, SIG_DFL);
	if (tty_raw() < 0)
		_exit(1);
	/* The test waits for this before it goes on. */
	if (write(STDOUT_FILENO, "raw", 3) != 3)
		_exit(1);
	exit(term_loop(&vm));
}

struct console {
	int master;
	pid_t pid;
	struct termios before;
};

static int open_slave(int master)
{
	return open(ptsname(master), O_RDWR | O_NOCTTY);
}

static void get_settings(int master, struct termios *t)
{
	int slave = OK(open_slave(master));

	OK(tcgetattr(slave, t));
	close(slave);
}

static void start_console(struct console *c)
{
	char ready[3];
	int pipes[2];

	c->master = OK(posix_openpt(O_RDWR | O_NOCTTY));
	OK(grantpt(c->master));
	OK(unlockpt(c->master));
	OK(pipe(pipes));
	get_settings(c->master, &c->before);
	c->pid = OK(fork());
	if (!c->pid) {
		setsid();
		dup2(open(ptsname(c->master), O_RDWR), STDIN_FILENO);
		dup2(pipes[1], STDOUT_FILENO);
		guest_console();
	}
	EQ(read(pipes[0], ready, 3), 3);
}

static void is_raw(struct console *c, bool raw)
{
	struct termios now;

	get_settings(c->master, &now);
	if (raw)
		EQ(now.c_lflag & (ICANON | ECHO | ISIG), 0);
	else
		SAME(&now, &c->before, offsetof(struct termios, c_cc));
}

static int console_end(struct console *c)
{
	int status;

	EQ(waitpid(c->pid, &status, 0), c->pid);
	is_raw(c, false);
	return status;
}

TEST(terminal_escape, "the terminal: raw, and as it was after the escape key")
{
	struct console c;
	int status;

	start_console(&c);
	is_raw(&c, true);
	EQ(write(c.master, "abc\1x", 5), 5);
	status = console_end(&c);
	TRUE(WIFEXITED(status));
	EQ(WEXITSTATUS(status), END_ESCAPE);
}

TEST(terminal_signals, "the terminal: as it was after each signal that ends the program")
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGPIPE,
		SIGALRM, SIGUSR2 };
	struct console c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(signals); i++) {
		int status;

		start_console(&c);
		OK(kill(c.pid, signals[i]));
		status = console_end(&c);
		EQ(WTERMSIG(status), signals[i]);
		close(c.master);
	}
}

TEST(terminal_stop, "the terminal: as it was while the program is stopped, raw again after")
{
	struct console c;
	int status;

	start_console(&c);
	OK(kill(c.pid, SIGTSTP));
	EQ(waitpid(c.pid, &status, WUNTRACED), c.pid);
	TRUE(WIFSTOPPED(status));
	is_raw(&c, false);
	OK(kill(c.pid, SIGCONT));
	EQ(waitpid(c.pid, &status, WCONTINUED), c.pid);
	/* The handler runs at the child's next chance; the key is read after it. */
	EQ(write(c.master, "\1x", 2), 2);
	status = console_end(&c);
	EQ(WEXITSTATUS(status), END_ESCAPE);
}

/* Each port that ends a run, and one value just beside it. */
TEST(endings, "reset and power-off by each port; the first end counts")
{
	uint16_t s5 = 0x2000 | SLEEP_TYPE_S5 << 10, other = 0x2000 | 1 << 10, value = 0;

	make_vm(false);
	out(PORT_RESET, 2);
	out(PORT_KBD, 0xff);
	io_port(&vm, true, PORT_PM1_CONTROL, (uint8_t *)&other, 2);
	EQ(vm.end, END_NONE);
	EQ(vm.stopping, false);
	out(PORT_RESET, 6);
	EQ(vm.end, END_OFF);
	EQ(vm.stopping, true);
	vm.end = END_NONE;
	out(PORT_KBD, 0xfe);
	EQ(vm.end, END_OFF);
	vm.end = END_NONE;
	io_port(&vm, true, PORT_PM1_CONTROL, (uint8_t *)&s5, 2);
	EQ(vm.end, END_OFF);
	io_port(&vm, false, PORT_PM1_CONTROL, (uint8_t *)&value, 2);
	EQ(value, (SLEEP_TYPE_S5 << 10) | 1);
	TRUE(!vm_end(&vm, END_CRASH));
	EQ(vm.end, END_OFF);
}

TEST(random_ports, "a million random port accesses")
{
	unsigned int i;
	int null;

	make_vm(false);
	null = OK(open("/dev/null", O_WRONLY));
	OK(dup2(null, STDOUT_FILENO));
	srandom(2);
	for (i = 0; i < 1000000; i++) {
		uint8_t data[4] = { random(), random(), random(), random() };
		static const uint16_t base[] = { 0x70, 0x3f8, 0x600, 0x64, 0xcf8, 0xfffc };

		io_port(&vm, random() & 1, base[random() % 6] + random() % 8, data,
			1 << random() % 3);
	}
	EQ(in(0xfff0), 0xff);
}

