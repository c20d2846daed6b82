/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Virtual machines for tests: the host's side.
 *
 * vm_new() makes a VM with 16 MiB of memory at 0, in slot 0, and copies this program's own image
 * there, at the address where it is linked (the programs are static and not relocatable). With
 * the identity mapping that vcpu_long() sets up, any C function of the test is guest code as it
 * stands and any global is the guest's own copy; GUEST(vm, var) is that copy, seen from here.
 *
 *	0x000000  real-mode vectors; 16-bit and 32-bit payloads from 0x1000 (LOW_CODE)
 *	0x010000  page tables of vcpu_long(), then GDT, IDT, a TSS for each vCPU
 *	0x100000  stacks, 64 KiB for each vCPU
 *	0x200000  free for the test (SCRATCH), 2 MiB
 *	0x400000  the program's image
 *	0x800000  free for the test (HIGH_SCRATCH), 8 MiB
 */
#ifndef SELFTESTS_VM_H
#define SELFTESTS_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "guest.h"
#include "tap.h"

enum {
	LOW_CODE = 0x1000,
	PAGE_TABLES = 0x10000,
	GDT_GPA = 0x18000,
	IDT_GPA = 0x19000,
	TSS_GPA = 0x1a000,
	STACKS = 0x100000,
	STACK_SIZE = 0x10000,
	SCRATCH = 0x200000,
	HIGH_SCRATCH = 0x800000,
	MEM_SIZE = 0x1000000,
	MAX_TEST_VCPUS = 8,
};

struct vm {
	int fd;
	u8 *mem;		/* of slot 0 */
	size_t size;
	bool irqchip;
};

struct vcpu {
	int fd;
	u32 id;
	struct vm *vm;
	struct kvm_run *run;
};

#define GUEST(vm, var) (*(typeof(var) *)((vm)->mem + (uintptr_t)&(var)))

/* The system fd, opened once for each process; or anew behind sys_close(), where $LODGE_DEV has changed. */
int sys_fd(void);
void sys_close(void);
int check_cap(int cap);
size_t run_size(void);
struct kvm_cpuid2 *supported_cpuid(void);
struct kvm_cpuid_entry2 *find_cpuid(struct kvm_cpuid2 *cpuid, u32 leaf, u32 index);
bool host_is_amd(void);

/*
 * Skips the subtest on Bochs with SVM: for what that emulator itself does wrong, which is told by its
 * firmware's name and by no result. @what: the deviation; docs/testing.md lists them.
 */
bool on_bochs(void);
bool on_bochs_svm(void);
bool on_bochs_vmx_3(void);	/* Bochs 3.0, which sets RF behind each EPT violation */
void not_on_bochs_svm(const char *what);

/* The device is Linux's own KVM: for the few answers in which Lodge differs on purpose. */
bool device_is_kvm(void);

struct vm *vm_bare(void);		/* no memory */
void vm_fill(struct vm *vm, void *mem);	/* MEM_SIZE bytes, slot 0, this program in it */
struct vm *vm_new(void);
struct vm *vm_new_split(u32 pins);	/* LAPICs alone, and so many pins of userspace's IOAPIC */
struct vm *vm_new_irqchip(void);	/* with CREATE_IRQCHIP done before any vCPU */
int vm_slot(struct vm *vm, u32 slot, u64 gpa, u64 size, void *host, u32 flags);
void *host_pages(size_t size);		/* anonymous, zeroed */
/* The count of an eventfd that the module signals, or soon does: real-time kernels do it in a thread. 0: it does not come. */
u64 take_event(int fd);
/* madvise(). Without THP (real-time kernels) MADV_HUGEPAGE skips the subtest, and all is as after MADV_NOHUGEPAGE. */
void advise_pages(void *p, size_t size, int advice);
void vm_load(struct vm *vm, u64 gpa, const void *code, size_t size);
void vm_free(struct vm *vm);

/* Loads a payload of PAYLOAD16/32/64 (guest.h) at gpa. */
#define LOAD(vm, gpa, name) do {						\
	extern const u8 name[], name##_end[];					\
	vm_load(vm, gpa, name, name##_end - name);				\
} while (0)

struct vcpu *vcpu_bare(struct vm *vm, u32 id);	/* as KVM_CREATE_VCPU leaves it */
struct vcpu *vcpu_new(struct vm *vm, u32 id);	/* with all of the supported CPUID */
struct vcpu *vcpu_real(struct vm *vm, u32 id, u16 ip);
struct vcpu *vcpu_prot(struct vm *vm, u32 id, u32 eip);	/* 32-bit, flat, no paging */
struct vcpu *vcpu_long(struct vm *vm, u32 id, void (*fn)(void));
void vcpu_set_real(struct vcpu *v, u16 ip);
void vcpu_set_long(struct vcpu *v, void (*fn)(void), u64 arg);
void vcpu_free(struct vcpu *v);

struct kvm_regs get_regs(struct vcpu *v);
void set_regs(struct vcpu *v, const struct kvm_regs *regs);
struct kvm_sregs get_sregs(struct vcpu *v);
void set_sregs(struct vcpu *v, const struct kvm_sregs *sregs);
u64 get_msr(struct vcpu *v, u32 index);
int set_msr(struct vcpu *v, u32 index, u64 value);	/* entries done: 1 or 0 */

/* KVM_RUN: 0 or a negative errno. */
int vcpu_run(struct vcpu *v);
const char *exit_name(u32 reason);
void dump_vcpu(struct vcpu *v);

/* Ends the subtest with what the guest says went wrong with it, if that is what this exit is. */
void fail_if_guest_failed(struct vcpu *v, const char *file, int line);

/* Runs to the next exit, which has to be this one. */
void run_to(struct vcpu *v, u32 reason, const char *file, int line);
#define RUN_TO(v, reason) run_to(v, reason, __FILE__, __LINE__)

/* Runs to an exit for port I/O of this direction, port and size; its data. */
void *run_to_io(struct vcpu *v, bool in, u16 port, int size, const char *file, int line);
#define RUN_TO_OUT(v, port, size) run_to_io(v, false, port, size, __FILE__, __LINE__)
#define RUN_TO_IN(v, port, size) run_to_io(v, true, port, size, __FILE__, __LINE__)

/* Runs to a report() of the guest (guest.h) with this number; its three values. */
struct words {
	u64 a, b, c;
};
struct words run_to_report(struct vcpu *v, u32 number, const char *file, int line);
#define REPORT(v, number) run_to_report(v, number, __FILE__, __LINE__)
#define DONE(v) run_to_report(v, REPORT_DONE, __FILE__, __LINE__)

/* Signals a thread in KVM_RUN again and again, until it has come out. */
void install_kick(int sig);

/* The thread stays on the CPU where it is; an MSR of that CPU, where the host has it and lets it be read. */
void stay_here(void);
bool host_msr(u32 index, u64 *val);

/* Microseconds of CLOCK_MONOTONIC. */
u64 now_us(void);

/* A line of the host's /proc/meminfo, in KiB. */
u64 meminfo(const char *key);

#endif
