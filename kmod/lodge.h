/* SPDX-License-Identifier: GPL-2.0 */
/* The top floor: load and unload, the device, VMs and vCPUs as fds. */
#ifndef LODGE_H
#define LODGE_H

#include <linux/fs.h>

#include "core/core.h"

#define LODGE_API_VERSION	12
#define LODGE_MMAP_PAGES	3	/* of a vCPU: struct kvm_run, LODGE_PIO_PAGE, LODGE_COALESCED_PAGE */

/* dev.c */
extern const struct file_operations lodge_dev_fops;
int lodge_check_extension(unsigned long cap);

/* vm.c */
int lodge_vm_create(unsigned long type);	/* the fd */
struct file *lodge_vm_file(void);
void lodge_vm_put(struct lodge_vm *vm);

/* vcpu.c */
lodge_vm_ioctl lodge_ioc_create_vcpu;
struct file *lodge_vcpu_file(struct lodge_vm *vm, u32 id);
void lodge_vcpu_destroy(struct lodge_vcpu *v);

/* snapshot.c */
lodge_vm_ioctl lodge_ioc_snapshot, lodge_ioc_reset, lodge_ioc_snapshot_drop, lodge_ioc_snapshot_touch;
void lodge_snapshots_free(struct lodge_vm *vm);

/* template.c */
lodge_vm_ioctl lodge_ioc_template;
long lodge_vm_from_template(void __user *u, size_t given);

/* stats.c */
lodge_vm_ioctl lodge_ioc_vm_stats;
lodge_vcpu_ioctl lodge_ioc_vcpu_stats;
#endif
