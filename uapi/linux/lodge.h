/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What Lodge adds to KVM's interface.
 *
 * Everything else is KVM's own: the numbers and structures of <linux/kvm.h>, API version 12. A
 * program that opens the node below instead of /dev/kvm needs nothing from this file.
 */
#ifndef _UAPI_LINUX_LODGE_H
#define _UAPI_LINUX_LODGE_H

#define LODGE_NODE	"/dev/lodge"

/*
 * Capabilities of Lodge's own, for KVM_CHECK_EXTENSION and KVM_ENABLE_CAP on a VM's fd. KVM counts its own up from
 * 0; these begin far above ("LO").
 *
 * LODGE_CAP_BATCH_OUTS: args[0] 1: KVM_EXIT_IO of a repeated OUTS has all elements that lie in one page of memory,
 * kvm_run.io.count of them, as that of INS always has. 0, the default: one element for each exit, as with KVM.
 */
#define LODGE_CAP_BATCH_OUTS	0x4c4f0000

#endif
