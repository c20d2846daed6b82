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
#include <sys/types.h>
#include <sys/uio.h>
#include <linux/kvm.h>
#include <linux/virtio_ring.h>

#define VERSION "0.1"

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define MAX_CPUS 64
#define MAX_DISKS 8
#define MAX_MEM (1024 * GIB)

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
#define GPA_ACPI_END 0xff000ULL
#define GPA_GENERATION 0xff000ULL	/* 16 bytes by which a guest learns that it is another's copy */
#define GPA_HOLE 0xc0000000ULL
#define GPA_VIRTIO 0xd0000000ULL
#define GPA_IOAPIC 0xfec00000ULL
#define GPA_LAPIC 0xfee00000ULL
#define GPA_IDENTITY_MAP 0xfffbc000ULL
#define GPA_TSS 0xfffbd000ULL
#define GPA_HIGH (4 * GIB)

/*
 * One page for each virtio device. The disks' interrupts are the IOAPIC's pins that no ISA device has, the
 * network's is a pin of an ISA device that there is not.
 */
#define VIRTIO_STRIDE 0x1000
#define VIRTIO_SIZE 0x200
#define VIRTIO_GSI 16
#define NET_INDEX MAX_DISKS
#define GSI_NET 11
#define GPA_NET (GPA_VIRTIO + NET_INDEX * VIRTIO_STRIDE)

/* I/O ports, and the interrupts that go with them. */
#define PORT_RTC 0x70
#define PORT_KBD 0x64
#define PORT_COM1 0x3f8
#define GSI_COM1 4
#define PORT_COM2 0x2f8
#define GSI_COM2 3
#define GSI_GENERATION 5
#define PORT_PM1_EVENT 0x600
#define PORT_PM1_CONTROL 0x604
#define GSI_SCI 9
#define PORT_RESET 0xcf9
#define RESET_VALUE 6
/* With --template: the guest writes READY_VALUE when guests may be made of it. lodge-run.1 has both. */
#define PORT_READY 0x620
#define READY_VALUE 'R'
#define SLEEP_TYPE_S5 5

/* How a run ended; the value is lodge-run's exit status. */
enum end {
	END_OFF = 0,		/* the guest powered itself off or rebooted */
	END_SETUP = 1,		/* it never started: a file, the device, too little memory */
	END_USAGE = 2,
	END_CRASH = 3,		/* the guest or the hypervisor gave up; registers were printed */
	END_ESCAPE = 4,		/* the user left by the escape key */
	END_SAVE = 5,		/* its state is in a file, to go on from */
	END_READY = -2,		/* it is a template now */
	END_NONE = -1,
};

/*
 * The state of a VM, by class: what a saved VM's file consists of. The numbers are those of the
 * file. A class whose layout changes gets a new version in state.c's table.
 */
enum state_class {
	STATE_END = 0,
	STATE_MACHINE = 1,	/* struct machine_state */
	STATE_RAM = 2,		/* struct ram_state, then pages */
	STATE_CLOCK = 3,	/* struct clock_state */
	STATE_IRQCHIP = 4,	/* struct kvm_irqchip; the instance is the chip's number */
	STATE_PIT = 5,		/* struct kvm_pit_state2 */
	STATE_SERIAL = 6,	/* struct serial_state */
	STATE_PORTS = 7,	/* struct ports_state */
	STATE_DISK = 8,		/* struct virtio_state; the instance is the disk */
	/* Of a vCPU, which is the instance. */
	STATE_CPUID = 16,	/* struct kvm_cpuid2 */
	STATE_MP = 17,
	STATE_EVENTS = 18,
	STATE_REGS = 19,
	STATE_SREGS = 20,
	STATE_XSAVE = 21,
	STATE_XCRS = 22,
	STATE_DEBUGREGS = 23,
	STATE_MSRS = 24,	/* struct kvm_msr_entry, many */
	STATE_TSC = 25,		/* struct tsc_state */
	STATE_LAPIC = 26,
};

struct machine_state {
	uint64_t mem;
	uint32_t cpus, disks;
};

struct ram_state {
	uint64_t offset;	/* into the memory that there is; whole pages follow */
};

/* Clocks go on from here: the time since @realtime (ns since 1970) has passed for them too. */
struct clock_state {
	uint64_t ns, realtime;
};

struct tsc_state {
	uint64_t tsc, realtime;
	uint64_t deadline;
	uint64_t khz;
};

struct ports_state {
	uint8_t rtc_index, reserved[3];
	uint16_t pm1_enable, pm1_control;
};

struct serial_state {
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm, thre_pending;
	uint32_t rx_count, reserved;
	uint8_t rx[4096];
};

struct virtio_state {
	uint64_t sectors, features;		/* of the device: it must be the same again */
	uint64_t driver_features;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint32_t status, isr, device_sel, driver_sel, queue_sel, queue_size;
	uint16_t next_avail, next_used;
	uint8_t ready, broken, reserved[2];
};

/* What guests are made of: the fd of LODGE_TEMPLATE, and when it was made. */
struct template {
	int fd;
	struct kvm_clock_data clock;
};

/* Where each guest of a template has a cgroup of its own, by which its memory is limited. */
struct cgroup {
	int dir;
	uint64_t limit;		/* bytes; 0: they have none */
	uint64_t last;		/* the number of the newest */
	pid_t server;
};

struct state;

#define TAP_NAME_MAX 15		/* characters of the name of an interface */
#define MAC_SIZE 6

struct net_options {
	char tap[TAP_NAME_MAX + 1];	/* empty: there is no network */
	uint8_t mac[MAC_SIZE];
	bool has_mac;
};

struct options {
	const char *device;
	const char *kernel;
	const char *initrd;
	const char *append;
	const char *save;
	const char *restore;
	const char *template;	/* the socket's name */
	unsigned int template_max;	/* guests at once; 0: not given */
	uint64_t template_memory;	/* of each, bytes; 0: not given */
	const char *template_cgroup;
	uint64_t mem;		/* bytes; 0: not given */
	unsigned int cpus;	/* 0: not given */
	const char *disks[MAX_DISKS];
	unsigned int ndisks;
	struct net_options net;
};

#define RX_SIZE 4096		/* also in struct serial_state */

struct vm;

/* A 16550A. @lock guards all of it; the guest's accesses and the main thread's input take it. */
struct serial {
	struct vm *vm;
	uint32_t gsi;
	int out_fd;		/* where its output goes; -1: nowhere */
	pthread_mutex_t lock;
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	bool thre_pending;
	bool line;		/* the level of its interrupt line */
	uint8_t rx[RX_SIZE];
	unsigned int rx_head, rx_count;
	int room_fd;		/* eventfd: the guest took input, there is room again */
};

#define QUEUE_MAX 128		/* descriptors of a queue that is served here: a chain has no more */
#define MAX_QUEUES 2

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

/*
 * A virtio device on the MMIO transport, version 2, and the thread that serves its only queue, if it is
 * served here and not in the kernel.
 * @lock guards the queues and the driver's side of the negotiation; @isr and @status may be read
 * without it, so that the guest's interrupt handler does not wait for I/O.
 */
struct virtio {
	struct vm *vm;
	unsigned int index;	/* which page */
	uint32_t gsi;
	pthread_mutex_t lock;
	atomic_uint status;
	atomic_uint isr;
	uint32_t device_sel, driver_sel, queue_sel;
	uint64_t driver_features;
	uint32_t generation;	/* of the configuration */
	struct queue queues[MAX_QUEUES];
	int notify_fds[MAX_QUEUES];	/* ioeventfds: the guest wrote QueueNotify */
	int irq_fd;		/* irqfd: raises the device's interrupt */
	int ack_fd;		/* ioeventfd with @page: the guest acknowledged a used buffer; nothing reads it */
	uint32_t *page;		/* the registers as the guest reads them, in its memory; NULL: its reads come here */
	pthread_t thread;
	bool running;
	/* The device behind the transport. */
	uint32_t device_id;
	uint64_t features;
	unsigned int nqueues;
	uint32_t queue_max;
	const void *config;
	size_t config_len;
	uint32_t (*serve)(struct virtio *v, const struct chain *c);
	/* Of a device that is served elsewhere: begin, or end, also what has not begun. Called with the lock held. */
	void (*turn)(struct virtio *v, bool on);
};

struct disk;
struct net;

struct vcpu {
	struct vm *vm;
	unsigned int id;	/* also its APIC id */
	int fd;
	struct kvm_run *run;
	size_t run_size;
	int stats_fd;		/* nothing here reads it: it is for lodge-stat, which can get no fd of its own; -1: none */
	struct kvm_cpuid2 *cpuid;	/* what the guest sees */
	pthread_t thread;
	bool running;
};

struct vm {
	int dev_fd, fd;
	uint8_t *ram;
	uint64_t ram_size;
	void *ram_map;		/* what was mapped: a little more, so that @ram is aligned */
	size_t ram_map_size;
	int ram_fd;		/* the memfd that @ram is mapped from, shared; -1: anonymous memory */
	bool template;		/* --template: the devices of one */
	struct cgroup cgroup;	/* of its guests */
	struct kvm_cpuid2 *cpuid;
	uint64_t entry;		/* where the kernel starts, 64-bit */
	unsigned int ncpus;
	struct vcpu vcpus[MAX_CPUS];
	unsigned int ndisks;
	struct disk *disks[MAX_DISKS];
	struct net *net;	/* NULL: there is none */
	struct serial serial, second;	/* the second only with @template */
	uint8_t rtc_index;
	uint16_t pm1_enable, pm1_control;
	int save_fd;		/* signalfd: the VM is to be saved; -1 without --save */
	atomic_int end;		/* enum end; set once, but END_SAVE and END_READY give way to others */
	atomic_bool stopping;	/* threads leave what they wait for */
	int end_fd;		/* eventfd: @end was set */
};

/* tty.c */
int tty_raw(void);
void tty_restore(void);

/* say.c */
int say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int say_errno(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say_meanwhile(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* vm.c */
int vm_init(struct vm *vm, const struct options *opt);
int vm_create(struct vm *vm, const struct options *opt);
void vm_close(struct vm *vm);
void vm_destroy(struct vm *vm);
int vm_renew_event(int *fd);
int vm_freeze_ram(struct vm *vm);
int vm_private_ram(struct vm *vm);
void *vm_ram(const struct vm *vm, uint64_t gpa, uint64_t len);
uint64_t vm_low_ram(const struct vm *vm);
bool vm_end(struct vm *vm, enum end end);
void vm_go_on(struct vm *vm);
void event_signal(int fd);
int vm_extension(const struct vm *vm, int cap);
int vm_add_registers(struct vm *vm, uint64_t gpa, void *page);

/* boot.c */
int boot_load(struct vm *vm, const struct options *opt);
void boot_sregs(struct kvm_sregs *sregs);

/* acpi.c */
int acpi_build(struct vm *vm);
int acpi_new_generation(struct vm *vm);

/* aml.c: the DSDT's code */
struct aml {
	uint8_t *data;
	size_t len, size;
	bool full;		/* something did not fit */
};
void aml_dsdt(struct aml *aml, unsigned int ndisks, bool net, bool template);

/* cpuid.c */
int cpuid_init(struct vm *vm);
int cpuid_set(struct vcpu *vcpu);
int cpuid_restore(struct vcpu *vcpu, const struct kvm_cpuid2 *saved);

/* vcpu.c */
int vcpus_create(struct vm *vm);
int vcpus_adopt(struct vm *vm, const int *fds);
int vcpus_boot(struct vm *vm);
int vcpus_settle(struct vm *vm);
int vcpus_start(struct vm *vm);
void vcpus_stop(struct vm *vm);
void vcpus_destroy(struct vm *vm);

/* dump.c */
void dump_vcpu(const struct vcpu *vcpu);

/* state.c */
struct state *state_new(void);
void state_free(struct state *st);
int state_put(struct state *st, enum state_class class, uint32_t instance, const void *data,
	      size_t size);
const void *state_get(const struct state *st, enum state_class class, uint32_t instance,
		      size_t *size);
int state_write(const struct state *st, const struct vm *vm, const char *path);
struct state *state_open(const char *path);
int state_read(struct state *st, struct vm *vm);

/* save.c */
int save_probe(const char *path);
int save_vm(struct vm *vm, const char *path);
int restore_options(const struct state *st, struct options *opt);
int restore_vm(struct vm *vm, struct state *st);

/* vcpu_state.c */
int vcpu_save(struct vcpu *vcpu, struct state *st);
int vcpu_restore(struct vcpu *vcpu, const struct state *st);
int vcpu_go_on(struct vcpu *vcpu, uint64_t ns);
uint64_t state_realtime(void);
uint64_t state_elapsed(uint64_t since);

/* io.c */
void io_port(struct vm *vm, bool out, uint16_t port, uint8_t *data, unsigned int size);
void io_mmio(struct vm *vm, bool write, uint64_t addr, uint8_t *data, unsigned int len);

/* serial.c */
int serial_init(struct serial *s, struct vm *vm, uint32_t gsi, int out_fd);
void serial_destroy(struct serial *s);
void serial_io(struct serial *s, bool out, uint16_t reg, uint8_t *value);
unsigned int serial_room(struct serial *s);
void serial_input(struct serial *s, const uint8_t *data, size_t len);
void serial_save(struct serial *s, struct serial_state *out);
int serial_restore(struct serial *s, const struct serial_state *in);
void serial_go_on(struct serial *s);
int serial_renew(struct serial *s, int out_fd);

/* term.c */
int term_save_signal(void);
enum end term_loop(struct vm *vm);
size_t term_escape(struct vm *vm, uint8_t *data, size_t len);

/* virtio.c */
int virtio_init(struct virtio *v, struct vm *vm, unsigned int index, uint32_t gsi);
int virtio_map_registers(struct virtio *v);
void virtio_changed(struct virtio *v);
void virtio_break(struct virtio *v);
void virtio_destroy(struct virtio *v);
int virtio_connect(struct virtio *v);
int virtio_renew(struct virtio *v);
int virtio_start(struct virtio *v);
void virtio_stop(struct virtio *v);
void virtio_mmio(struct virtio *v, bool write, uint32_t offset, uint8_t *data, unsigned int len);
void virtio_serve_queue(struct virtio *v);
void virtio_save(const struct virtio *v, struct virtio_state *out);
int virtio_restore(struct virtio *v, const struct virtio_state *in);

/* blk.c */
uint64_t disk_sectors(const struct disk *d);
struct disk *disk_open(struct vm *vm, const char *spec, unsigned int index);
int disk_layer(struct disk *d);
struct virtio *disk_virtio(struct disk *d);
void disk_close(struct disk *d);

/* disks.c: all of them at once */
int disks_open(struct vm *vm, const struct options *opt);
int disks_renew(struct vm *vm);
int disks_connect(struct vm *vm);
int disks_start(struct vm *vm);
void disks_stop(struct vm *vm);
void disks_close(struct vm *vm);

/* net.c */
int net_parse(struct net_options *net, const char *spec);
int net_open(struct vm *vm, const struct options *opt);
struct virtio *net_virtio(struct net *net);
int net_connect(struct vm *vm);
int net_start(struct vm *vm);
void net_stop(struct vm *vm);
void net_close(struct vm *vm);

/* born.c: a guest of a template, in a process of its own */
int template_make(struct vm *vm, struct template *t);
enum end template_guest(struct vm *vm, const struct template *t, int connection);

/* cgroup.c */
int cgroup_init(struct cgroup *g, const struct options *opt);
uint64_t cgroup_new(struct cgroup *g);
int cgroup_join(const struct cgroup *g, uint64_t id);
bool cgroup_killed(const struct cgroup *g, uint64_t id);
void cgroup_remove(const struct cgroup *g, uint64_t id);

/* server.c */
int server_probe(struct vm *vm, const struct options *opt);
int server_run(struct vm *vm, const struct options *opt);

#endif
