/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What Lodge adds to KVM's interface.
 *
 * Everything else is KVM's own: the numbers and structures of <linux/kvm.h>, API version 12. A
 * program that opens the node below instead of /dev/kvm needs nothing from this file.
 */
#ifndef _UAPI_LINUX_LODGE_H
#define _UAPI_LINUX_LODGE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LODGE_NODE	"/dev/lodge"

/* Ioctls of Lodge's own have a type of their own ("L"), so that no number of KVM's (0xAE) is ever one of them. */
#define LODGE_IOC	0x4c

/*
 * Capabilities of Lodge's own, for KVM_CHECK_EXTENSION and KVM_ENABLE_CAP on a VM's fd. KVM counts its own up from
 * 0; these begin far above ("LO").
 *
 * LODGE_CAP_BATCH_OUTS: args[0] 1: KVM_EXIT_IO of a repeated OUTS has all elements that lie in one page of memory,
 * kvm_run.io.count of them, as that of INS always has. 0, the default: one element for each exit, as with KVM.
 */
#define LODGE_CAP_BATCH_OUTS	0x4c4f0000

/*
 * LODGE_CAP_SEAL: the bits that LODGE_SEAL takes.
 *
 * LODGE_SEAL, on a VM's fd: what it names this VM and its vCPUs never do again, for anybody: EPERM from now on. What is
 * sealed stays so; the argument comes back with all that is. An ioctl that another thread had begun before may still end.
 */
#define LODGE_CAP_SEAL		0x4c4f0001

#define LODGE_SEAL_MEMORY	(1 << 0)	/* changes of the memory slots */
#define LODGE_SEAL_VCPUS	(1 << 1)	/* more vCPUs */
#define LODGE_SEAL_DEVICES	(1 << 2)	/* interrupt controllers, routes, eventfds, coalesced zones: made or changed */
#define LODGE_SEAL_STATE	(1 << 3)	/* registers and devices set, also by kvm_run.s */
#define LODGE_SEAL_DEBUG	(1 << 4)	/* KVM_SET_GUEST_DEBUG */
#define LODGE_SEAL_CONFIG	(1 << 5)	/* capabilities, CPUID, frequency, filters, attributes */
#define LODGE_SEAL_ALL		((1 << 6) - 1)

#define LODGE_SEAL		_IOWR(LODGE_IOC, 0x00, __u64)

/*
 * LODGE_CAP_STATE: 1, the version of the stream. The whole state of a VM as one object: LODGE_GET_STATE, LODGE_SET_STATE
 * and LODGE_FREEZE_STATE on the VM's fd. No vCPU may be in an ioctl meanwhile (EBUSY), nor can it begin one (EBUSY).
 *
 * The argument of Lodge's own ioctls may be shorter than it is here: what is missing is 0; or longer: what is
 * unknown must be 0, else E2BIG.
 */
#define LODGE_CAP_STATE		0x4c4f0002

struct lodge_state_arg {
	__u32 flags;		/* LODGE_STATE_FROZEN */
	__u32 reserved;
	__u64 data;		/* where the stream is, or goes; or the fd */
	__u64 len;		/* its bytes; LODGE_GET_STATE: what fits there, and comes back as what it takes */
};

#define LODGE_STATE_FROZEN	(1 << 0)	/* LODGE_SET_STATE: data is an fd of LODGE_FREEZE_STATE, len 0 */

#define LODGE_GET_STATE		_IOWR(LODGE_IOC, 0x01, struct lodge_state_arg)
#define LODGE_SET_STATE		_IOW(LODGE_IOC, 0x02, struct lodge_state_arg)
#define LODGE_FREEZE_STATE	_IO(LODGE_IOC, 0x03)	/* the fd; the argument is 0 */

/*
 * The stream: this head, then records, each with its own head and padded with zeros to a multiple of 8 bytes. First
 * each vCPU's, in the order in which they were made, then the VM's; of each by rising class, which is the order in
 * which they can be set. Records may be left out: what they are about stays as it is.
 */
#define LODGE_STATE_MAGIC	0x5453474c	/* "LGST" */

struct lodge_state_head {
	__u32 magic;
	__u32 version;		/* 1 */
	__u64 len;		/* of all, with this */
	__u32 count;		/* records */
	__u32 reserved;
};

struct lodge_state_record {
	__u16 class;		/* LODGE_STATE_* */
	__u16 version;		/* of the class: 1 */
	__u32 flags;		/* LODGE_STATE_OPTIONAL: who does not know the class skips it */
	__u32 id;		/* the vCPU's, or LODGE_STATE_VM */
	__u32 len;		/* of what follows, without the padding */
};

#define LODGE_STATE_OPTIONAL	(1 << 0)
#define LODGE_STATE_VM		0xffffffff

enum lodge_state_class {
	LODGE_STATE_CPUID = 1,	/* entries of 7 words of 32 bits: struct kvm_cpuid_entry2 without its padding */
	LODGE_STATE_TSC,	/* struct lodge_state_tsc */
	LODGE_STATE_SREGS,	/* struct kvm_sregs2 */
	LODGE_STATE_REGS,	/* struct kvm_regs */
	LODGE_STATE_XCR0,	/* __u64; where the host has XSAVE */
	LODGE_STATE_XSAVE,	/* struct lodge_state_xsave */
	LODGE_STATE_MSRS,	/* struct kvm_msr_entry each; MTRRs and machine check banks that are not there are 0 */
	LODGE_STATE_DEBUGREGS,	/* struct kvm_debugregs */
	LODGE_STATE_MP_STATE,	/* struct kvm_mp_state */
	LODGE_STATE_LAPIC,	/* struct lodge_state_lapic; with an in-kernel LAPIC, as what follows with their chips */
	LODGE_STATE_EVENTS,	/* struct kvm_vcpu_events, with payload and triple fault whatever the capabilities say */
	LODGE_STATE_ROUTING = 0x100,	/* struct lodge_state_route each */
	LODGE_STATE_PICS,	/* two struct kvm_pic_state */
	LODGE_STATE_PIT,	/* struct kvm_pit_state2 */
	LODGE_STATE_CLOCK,	/* struct lodge_state_clock */
	LODGE_STATE_IOAPIC,	/* struct kvm_ioapic_state */
};

/* The guest's TSC at the moment when all of the stream was taken; goes on from there. */
struct lodge_state_tsc {
	__u64 tsc;
	__u32 khz;		/* as KVM_GET_TSC_KHZ */
	__u32 reserved;
};

/*
 * What XSTATE_BV says is in use, without gaps: the first 160 bytes of FXSAVE's image, the 256 of the XMM registers if
 * SSE is in it, then each component from AVX (2) on, as long as CPUID leaf 0DH says, padded to 8 bytes.
 */
struct lodge_state_xsave {
	__u64 xstate_bv;
	__u8 data[];
};

struct lodge_state_lapic {
	__u64 tsc_deadline;
	__s32 ext_vector;	/* of KVM_INTERRUPT, not yet taken; -1: none */
	__u32 reserved;
	__u32 regs[64];		/* each 16 bytes of KVM_GET_LAPIC's page has one */
};

/* Of struct kvm_irq_routing_entry: irqchip and pin, or address_lo, address_hi and data. */
struct lodge_state_route {
	__u32 gsi, type, u[3];
};

/* kvmclock at the moment when all of the stream was taken, and the MSR of the wall clock, whose page is not written. */
struct lodge_state_clock {
	__u64 ns;
	__u64 wall_clock_msr;
};

/*
 * LODGE_CAP_SNAPSHOT: a running VM is reset in place. On a VM's fd, and no vCPU may be in KVM_RUN (EBUSY).
 *
 * What the VMM writes into guest memory through its own mapping is not seen: LODGE_SNAPSHOT_TOUCH names it before.
 * Between snapshot and drop the memory slots do not change (EBUSY). Snapshots stack.
 */
#define LODGE_CAP_SNAPSHOT	0x4c4f0010

struct lodge_snapshot {
	__u64 flags;		/* 0 */
	__u64 limit;		/* of old pages kept in the kernel's memory; 0: none. Then: LODGE_EXIT_SNAPSHOT_FULL */
};

struct lodge_reset {
	__u64 flags;		/* 0 */
	/* Out: pages put back that were written since the last reset; that are put back always, for most rounds write them; */
	__u64 written, hot;
	__u64 kept;		/* and whose old content the kernel keeps */
};

struct lodge_touch {
	__u64 flags;		/* 0 */
	__u64 gpa, len;
};

#define LODGE_SNAPSHOT		_IOW(LODGE_IOC, 0x10, struct lodge_snapshot)
#define LODGE_RESET		_IOWR(LODGE_IOC, 0x11, struct lodge_reset)
#define LODGE_SNAPSHOT_DROP	_IO(LODGE_IOC, 0x12)
#define LODGE_SNAPSHOT_TOUCH	_IOW(LODGE_IOC, 0x13, struct lodge_touch)

/* An exit of its own: the guest writes a page, and the limit of the snapshot is reached. It has not happened yet. */
#define LODGE_EXIT_SNAPSHOT_FULL	0x4c4f0000

/*
 * LODGE_CAP_TEMPLATE: many VMs of one. LODGE_TEMPLATE on a VM's fd makes an fd of the VM as it is: its state, what was
 * chosen for it, and where its memory slots lie, which have to be shared mappings of memfds. It can be inherited, or
 * sent over a socket. LODGE_VM_FROM_TEMPLATE on the node makes a VM of it, in any process that has mapped the same
 * memfds privately: with interrupt controllers, memory slots, all vCPUs and their state, in one call. No eventfds
 * are attached.
 *
 * From LODGE_TEMPLATE on nobody may write to the memfds: the source ends, or maps them privately (MAP_FIXED) where it had
 * them shared before it runs on.
 */
#define LODGE_CAP_TEMPLATE	0x4c4f0020

struct lodge_template_slot {
	__u32 slot;
	__u32 flags;		/* KVM_MEM_READONLY */
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 offset;		/* in its memfd */
};

struct lodge_template_info {
	__u32 flags;		/* 0 */
	__u32 nvcpus;		/* out */
	__u32 nslots;		/* so many fit; out: so many there are (E2BIG: more than fit) */
	__u32 reserved;		/* 0 */
	__u64 slots;		/* struct lodge_template_slot each, by rising number */
};

struct lodge_vm_from_template {
	__u32 flags;		/* 0 */
	__s32 fd;		/* the template's */
	__u32 nslots, nvcpus;	/* as LODGE_TEMPLATE_INFO says */
	__u64 addresses;	/* where each slot is mapped, a __u64 each in the order of LODGE_TEMPLATE_INFO */
	__u64 vcpus;		/* out: an int each, the fds of the vCPUs in the order in which the source made them */
};

#define LODGE_TEMPLATE		_IO(LODGE_IOC, 0x20)	/* on a VM's fd; the argument is 0 */
#define LODGE_TEMPLATE_INFO	_IOWR(LODGE_IOC, 0x21, struct lodge_template_info)	/* on the template's */
#define LODGE_VM_FROM_TEMPLATE	_IOW(LODGE_IOC, 0x22, struct lodge_vm_from_template)	/* on the node: the VM's fd */

#endif
