/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Small machines for the oracle's programs: one vCPU, whose memory, CPUID and registers do not depend on the module
 * that runs it. What both modules offer differs, so the CPUID is the host's own, cut down to what both have.
 *
 *	0x0000  real-mode vectors	0x0400  a GDT		0x0500  the end of each vector, 4 bytes each
 *	0x1000  code			0x2000  page tables of each kind, to 0x8000
 *	0x8000  IDTs of 32 and 64 bits	0xa000  two TSSs	0xb000  stacks, to 0xd000
 *	0xd000  free data		0x10000 the end of slot 0
 */
#ifndef SELFTESTS_DIFF_MACHINE_H
#define SELFTESTS_DIFF_MACHINE_H

#include "fact.h"

enum {
	AT_GDT = 0x400, AT_ENDS = 0x500, AT_CODE = 0x1000, CODE_BYTES = 0x100,
	AT_PSE = 0x2000, AT_PDPT = 0x3000, AT_PML4 = 0x4000, AT_PD = 0x5000, AT_PT = 0x6000,
	AT_IDT32 = 0x8000, AT_IDT64 = 0x9000, AT_TSS32 = 0xa000, AT_TSS64 = 0xa800,
	AT_STACK = 0xc800, AT_DATA = 0xd000, LOW_BYTES = 0x10000,
	END_PORT = 0xee,
};

enum kind { NO_IRQCHIP, IRQCHIP, SPLIT_IRQCHIP, KINDS };
enum mode { REAL, PROT16, PROT32, PAGED32, COMPAT32, LONG, MODES };

struct machine {
	struct vm *vm;
	struct vcpu *v;
	enum kind kind;
};

extern const char *const kind_name[KINDS], *const mode_name[MODES];

/* Which emulator; on Bochs a guest that does not end by itself may take the host with it. */
bool on_qemu(void);

struct machine machine_new(enum kind kind);
void machine_free(struct machine *m);

/*
 * No component of the FPU is in its initial state, by XSTATE_BV: there stock KVM forgets what KVM_SET_FPU sets, and a
 * KVM_RUN that does not even enter the guest changes it (facts of `msrs`).
 */
void machine_use_fpu(struct machine *m);

/* Writes vectors, tables and descriptors anew. */
void machine_fill(u8 *mem);

/* The special registers of a mode, in ring 0, without a look at what they were but for the APIC base. */
struct kvm_sregs machine_sregs(struct machine *m, enum mode mode);

/* An alarm, which ends KVM_RUN, after so many milliseconds; 0: none. */
void set_alarm(u32 ms);

/* Adds what the last KVM_RUN says to the fact. */
void fact_exit(struct kvm_run *run, int ret);

#endif
