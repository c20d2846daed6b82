/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MSRs by name, CPUID entries, and a guest in which hardly anything is mapped, for the tests of what a vCPU may have.
 */
#ifndef SELFTESTS_MSR_H
#define SELFTESTS_MSR_H

#include "vm.h"

enum {
	TSC = 0x10, APIC_BASE = 0x1b, SPEC_CTRL = 0x48, PRED_CMD = 0x49, ARCH_CAPABILITIES = 0x10a, FLUSH_CMD = 0x10b,
	SYSENTER_CS = 0x174, SYSENTER_ESP, SYSENTER_EIP, PAT = 0x277, MTRR_DEF_TYPE = 0x2ff, TSC_DEADLINE = 0x6e0,
	DEBUGCTL = 0x1d9, PERF_CAPABILITIES = 0x345, XSS = 0xda0, EFER = 0xc0000080, STAR, LSTAR, CSTAR, SFMASK, FS_BASE = 0xc0000100, GS_BASE,
	KERNEL_GS_BASE, TSC_AUX, HWCR = 0xc0010015, VM_CR = 0xc0010114, VM_HSAVE_PA = 0xc0010117,
	VIRT_SPEC_CTRL = 0xc001011f, OSVW_LENGTH = 0xc0010140, OSVW_STATUS,
	EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11, EFER_LONG = EFER_LME | EFER_LMA,
	EFER_FFXSR = 1 << 14, EFER_AUTOIBRS = 1 << 21,
};

#define WIDE 0xff49f0cb4f600000ull	/* an address of 57 bits */

enum { EAX, EBX, ECX, EDX };

/* KVM_GET_SUPPORTED_CPUID has this bit. */
bool device_offers(u32 leaf, u32 index, int reg, int bit);

/* An entry of CPUID, made where there is none. */
struct kvm_cpuid_entry2 *cpuid_entry(struct kvm_cpuid2 *c, u32 leaf, u32 index);

/* KVM_GET_MSRS, where the MSR can be read. */
bool read_msr(struct vcpu *v, u32 index, u64 *val);

/*
 * Page tables for a guest in long mode, with only what it needs: its descriptors, stacks, and the program without its
 * head. No address with one bit set is there, and no page is the user's, so that SMEP and SMAP change nothing.
 */
void own_tables(struct vm *vm);
void use_own_tables(struct vcpu *v, u64 efer);

#endif
