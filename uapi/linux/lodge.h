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

#endif
