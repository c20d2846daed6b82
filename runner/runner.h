/* SPDX-License-Identifier: GPL-2.0 */
/*
 * lodge-run: what its files share.
 *
 * struct vm owns everything else. It is built by the main thread, in the order in which main.c
 * calls the *_init and *_create functions, before any other thread exists; what changes after
 * that names its lock or is atomic.
 *
 * Functions that can fail return -1 after say() has told the user why, in one sentence.
 */
#ifndef LODGE_RUNNER_H
#define LODGE_RUNNER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <linux/kvm.h>
#include <linux/virtio_ring.h>

#define VERSION "0.1"

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define MAX_CPUS 64
#define MAX_DISKS 8

/*
 * The guest's physical memory. RAM fills [0, HOLE) and goes on at 4 GiB; the hole has the devices.
 * KVM wants three pages for real mode on processors without unrestricted guests, and one more for
 * its identity map: they lie under the reset vector, as in every VMM.
 */
#define GPA_GDT 0x500ULL
#define GPA_ZERO_PAGE 0x7000ULL
#define GPA_PML4 0x9000ULL
#define GPA_CMDLINE 0x20000ULL
#define GPA_EBDA 0x9fc00ULL
#define GPA_ACPI 0xe0000ULL
#define GPA_ACPI_END 0x100000ULL
#define GPA_HOLE 0xc0000000ULL
#define GPA_VIRTIO 0xd0000000ULL
#define GPA_IOAPIC 0xfec00000ULL
#define GPA_LAPIC 0xfee00000ULL
#define GPA_IDENTITY_MAP 0xfffbc000ULL
#define GPA_TSS 0xfffbd000ULL
#define GPA_HIGH (4 * GIB)

/* One page for each virtio device; its interrupts are the IOAPIC's pins that no ISA device has. */
#define VIRTIO_STRIDE 0x1000
#define VIRTIO_SIZE 0x200
#define VIRTIO_GSI 16

/* I/O ports, and the interrupts that go with them. */
#define PORT_RTC 0x70
#define PORT_KBD 0x64
#define PORT_COM1 0x3f8
#define GSI_COM1 4
#define PORT_PM1_EVENT 0x600
#define PORT_PM1_CONTROL 0x604
#define GSI_SCI 9
#define PORT_RESET 0xcf9
#define RESET_VALUE 6
#define SLEEP_TYPE_S5 5

/* How a run ended; the value is lodge-run's exit status. */
enum end {
	END_OFF = 0,		/* the guest powered itself off or rebooted */
	END_SETUP = 1,		/* it never started: a file, the device, too little memory */
	END_USAGE = 2,
	END_CRASH = 3,		/* the guest or the hypervisor gave up; registers were printed */
	END_ESCAPE = 4,		/* the user left by the escape key */
	END_NONE = -1,
};

struct options {
	const char *device;
	const char *kernel;
	const char *initrd;
	const char *append;
	uint64_t mem;		/* bytes */
	unsigned int cpus;
	const char *disks[MAX_DISKS];
	unsigned int ndisks;
};

#define RX_SIZE 4096

/* A 16550A. @lock guards all of it; the guest's accesses and the main thread's input take it. */
struct serial {
	pthread_mutex_t lock;
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	bool thre_pending;
	bool line;		/* the level of its interrupt line */
	uint8_t rx[RX_SIZE];
	unsigned int rx_head, rx_count;
	int room_fd;		/* eventfd: the guest took input, there is room again */
};

#define QUEUE_MAX 128

/* A split virtqueue. The pointers are into guest RAM, checked when the driver made it ready. */
struct queue {
	uint32_t size;
	bool ready;
	bool broken;		/* the driver broke the rules; nothing more until a reset */
	uint64_t desc_gpa, avail_gpa, used_gpa;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used;
};

/* One request: what the device reads comes first, then what it writes. */
struct chain {
	uint16_t head;
	unsigned int nread, nwrite;
	struct iovec iov[QUEUE_MAX];
};

struct vm;

/*
 * A virtio device on the MMIO transport, version 2, with one queue, and the thread that serves it.
 * @lock guards the queue and the driver's side of the negotiation; @isr and @status may be read
 * without it, so that the guest's interrupt handler does not wait for I/O.
 */
struct virtio {
	struct vm *vm;
	unsigned int index;
	pthread_mutex_t lock;
	atomic_uint status;
	atomic_uint isr;
	uint32_t device_sel, driver_sel, queue_sel;
	uint64_t driver_features;
	struct queue queue;
	int notify_fd;		/* ioeventfd: the guest wrote QueueNotify */
	int irq_fd;		/* irqfd: raises the device's interrupt */
	pthread_t thread;
	bool running;
	/* The device behind the transport. */
	uint32_t device_id;
	uint64_t features;
	const void *config;
	size_t config_len;
	uint32_t (*serve)(struct virtio *v, const struct chain *c);
};

struct disk;

struct vcpu {
	struct vm *vm;
	unsigned int id;	/* also its APIC id */
	int fd;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	bool running;
};

struct vm {
	int dev_fd, fd;
	uint8_t *ram;
	uint64_t ram_size;
	void *ram_map;		/* what was mapped: a little more, so that @ram is aligned */
	size_t ram_map_size;
	struct kvm_cpuid2 *cpuid;
	uint64_t entry;		/* where the kernel starts, 64-bit */
	unsigned int ncpus;
	struct vcpu vcpus[MAX_CPUS];
	unsigned int ndisks;
	struct disk *disks[MAX_DISKS];
	struct serial serial;
	uint8_t rtc_index;
	uint16_t pm1_enable, pm1_control;
	atomic_int end;	/* enum end; set once */
	atomic_bool stopping;	/* threads leave what they wait for */
	int end_fd;		/* eventfd: @end was set */
};

/* say.c */
int say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int say_errno(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* vm.c */
int vm_init(struct vm *vm, const struct options *opt);
int vm_create(struct vm *vm, const struct options *opt);
void vm_destroy(struct vm *vm);
void *vm_ram(const struct vm *vm, uint64_t gpa, uint64_t len);
uint64_t vm_low_ram(const struct vm *vm);
bool vm_end(struct vm *vm, enum end end);
void event_signal(int fd);
int vm_extension(const struct vm *vm, int cap);

/* boot.c */
int boot_load(struct vm *vm, const struct options *opt);
void boot_sregs(struct kvm_sregs *sregs);

/* acpi.c */
int acpi_build(struct vm *vm);

/* aml.c: the DSDT's code */
struct aml {
	uint8_t *data;
	size_t len, size;
	bool full;		/* something did not fit */
};
void aml_dsdt(struct aml *aml, unsigned int nvirtio);

/* cpuid.c */
int cpuid_init(struct vm *vm);
int cpuid_set(struct vcpu *vcpu);

/* vcpu.c */
int vcpus_create(struct vm *vm);
int vcpus_start(struct vm *vm);
void vcpus_stop(struct vm *vm);
void vcpus_destroy(struct vm *vm);

/* dump.c */
void dump_vcpu(const struct vcpu *vcpu);

/* io.c */
void io_port(struct vm *vm, bool out, uint16_t port, uint8_t *data, unsigned int size);
void io_mmio(struct vm *vm, bool write, uint64_t addr, uint8_t *data, unsigned int len);

/* serial.c */
int serial_init(struct serial *s);
void serial_destroy(struct serial *s);
void serial_io(struct vm *vm, bool out, uint16_t reg, uint8_t *value);
unsigned int serial_room(struct serial *s);
void serial_input(struct vm *vm, const uint8_t *data, size_t len);

/* term.c */
int term_raw(void);
void term_restore(void);
enum end term_loop(struct vm *vm);
size_t term_escape(struct vm *vm, uint8_t *data, size_t len);

/* virtio.c */
int virtio_init(struct virtio *v, struct vm *vm, unsigned int index);
void virtio_destroy(struct virtio *v);
int virtio_start(struct virtio *v);
void virtio_stop(struct virtio *v);
void virtio_mmio(struct virtio *v, bool write, uint32_t offset, uint8_t *data, unsigned int len);
void virtio_serve_queue(struct virtio *v);

/* blk.c */
struct disk *disk_open(struct vm *vm, const char *spec, unsigned int index);
struct virtio *disk_virtio(struct disk *d);
void disk_close(struct disk *d);

#endif
