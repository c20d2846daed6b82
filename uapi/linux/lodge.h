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

#endif
