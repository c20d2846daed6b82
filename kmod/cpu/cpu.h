/* SPDX-License-Identifier: GPL-2.0 */
/* A vCPU's registers, and what is delivered to it. */
#ifndef LODGE_CPU_H
#define LODGE_CPU_H

#include "core/core.h"
#include "host/host.h"

#define LODGE_MAX_CPUID		256	/* entries of a vCPU's CPUID */
#define LODGE_MAX_MSR_IO	256	/* entries of one KVM_GET/SET_MSRS */
#define LODGE_GUESTDBG		(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | \
				 KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | \
				 KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ)
#define LODGE_SYNC_REGS		(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

/* state.c */
lodge_vcpu_ioctl lodge_get_regs, lodge_set_regs, lodge_get_sregs, lodge_set_sregs;
lodge_vcpu_ioctl lodge_get_sregs2, lodge_set_sregs2;
lodge_vcpu_ioctl lodge_get_events, lodge_set_events, lodge_get_debugregs, lodge_set_debugregs;
lodge_vcpu_ioctl lodge_get_mp_state, lodge_set_mp_state, lodge_get_nested_state;
#define LODGE_ALL_EVENTS (~0ul)	/* no address of userspace's */
void lodge_take_nmis(struct lodge_vcpu *v);
int lodge_set_cr0(struct lodge_vcpu *v, u64 val);	/* as the guest's MOV; 0, or 1: #GP */
int lodge_set_cr3(struct lodge_vcpu *v, u64 val);
int lodge_set_cr4(struct lodge_vcpu *v, u64 val);
bool lodge_efer_valid(struct lodge_vcpu *v, u64 efer);
void lodge_sync_regs_out(struct lodge_vcpu *v);		/* kvm_run.s for kvm_valid_regs */
int lodge_sync_regs_in(struct lodge_vcpu *v, u64 dirty);

/* reset.c */
void lodge_vcpu_reset(struct lodge_vcpu *v, bool init);	/* power-on (false) or INIT (true) */
void lodge_take_apic_events(struct lodge_vcpu *v);	/* REQ_APIC_EVENTS */

/* fpu.c */
lodge_vcpu_ioctl lodge_get_fpu, lodge_set_fpu, lodge_get_xsave, lodge_set_xsave, lodge_get_xcrs, lodge_set_xcrs;
u32 lodge_get_compact(struct lodge_vcpu *v, void *buf);	/* struct lodge_state_xsave; its bytes */
int lodge_set_compact(struct lodge_vcpu *v, const void *buf, u32 len);
int lodge_set_xcr0(struct lodge_vcpu *v, u64 val);	/* 0, or 1: #GP */
int lodge_fpu_init(void);		/* load */
int lodge_fpu_create(struct lodge_vcpu *v);
void lodge_fpu_destroy(struct lodge_vcpu *v);
void lodge_fpu_reset(struct lodge_vcpu *v);
void lodge_fpu_enter(struct lodge_vcpu *v);	/* preemptible -> not; loads the guest's registers */
void lodge_fpu_exit(struct lodge_vcpu *v);
void lodge_fpu_note_xcr0(struct lodge_vcpu *v, u64 val);
u32 lodge_fpu_image_size(u64 xcr0, bool compact);	/* bytes */
u64 lodge_fpu_xcr0_host(void);		/* components Lodge can offer */
u32 lodge_fpu_bytes(void);		/* of a vCPU's image */

/*
 * XCR0, which the guest may have changed without an exit: XSETBV exits by the manual (APM 2, 15.9), but a
 * processor was seen that runs it without telling. Window.
 */
static inline u64 lodge_fpu_reread_xcr0(struct lodge_vcpu *v)
{
	u64 now = lodge_xgetbv();

	if (unlikely(now != v->fpu.xcr0))
		lodge_fpu_note_xcr0(v, now);
	return now;
}

/* XCR0 and PKRU to the guest's; no host code that touches user memory until lodge_fpu_window_end(). */
static inline void lodge_fpu_window_begin(struct lodge_vcpu *v)
{
	if (v->fpu.xcr0 != lodge_fpu_host.xcr0 && lodge_fpu_host.xcr0)
		lodge_xsetbv(v->fpu.xcr0);
	if (lodge_fpu_host.pkru) {
		v->fpu.host_pkru = rdpkru();
		if (v->fpu.pkru != v->fpu.host_pkru)
			wrpkru(v->fpu.pkru);
	}
}

/* And back to the host's. */
static inline void lodge_fpu_window_end(struct lodge_vcpu *v)
{
	if (lodge_fpu_host.pkru) {
		v->fpu.pkru = rdpkru();
		if (v->fpu.pkru != v->fpu.host_pkru)
			wrpkru(v->fpu.host_pkru);
	}
	if (lodge_fpu_host.xcr0 && lodge_fpu_reread_xcr0(v) != lodge_fpu_host.xcr0)
		lodge_xsetbv(lodge_fpu_host.xcr0);
}

/* feature.c */
typedef const struct kvm_cpuid_entry2 *lodge_find_leaf(const struct lodge_vcpu *v, u32 leaf, u32 index);
void lodge_features_init(void);				/* load */
bool lodge_feature_offered(enum lodge_feature f);
u64 lodge_spec_ctrl_host(void);
void lodge_features_offer(struct kvm_cpuid_entry2 *e, u32 regs);
void lodge_features_of(struct lodge_vcpu *v, lodge_find_leaf *find);

/* cpuid.c */
bool lodge_guest_has_mwait(const struct lodge_vcpu *v);
lodge_vcpu_ioctl lodge_set_cpuid2, lodge_get_cpuid2;	/* IOC_TAIL */
int lodge_supported_cpuid(struct kvm_cpuid2 __user *u);
#define LODGE_CPUID_WORDS (offsetof(struct kvm_cpuid_entry2, padding) / sizeof(u32))
int lodge_cpuid_give(struct lodge_vcpu *v, const u32 (*entries)[LODGE_CPUID_WORDS], u32 n);	/* as KVM_SET_CPUID2 */
void lodge_cpuid(struct lodge_vcpu *v, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx);	/* may be in the window */
u32 lodge_cpuid_signature(struct lodge_vcpu *v);	/* of the processor, as RDX has it after a reset */
void lodge_cpuid_init(struct lodge_vcpu *v);		/* v->cpuid for "no CPUID set yet" */
void lodge_cpuid_get(struct kvm_cpuid_entry2 *e);	/* a vCPU's entries are never changed: who needs them counts */
void lodge_cpuid_put(struct kvm_cpuid_entry2 *e);	/* NULL is fine, for both */
void lodge_cpuid_adopt(struct lodge_vcpu *v, struct kvm_cpuid_entry2 *e, u32 n);	/* takes over the caller's count */

/* msr.c. Return 0, 1 (#GP / bad index), or -EAGAIN (window only: needs the slow path). */
int lodge_msr_read(struct lodge_vcpu *v, u32 index, u64 *val, bool host);
int lodge_msr_write(struct lodge_vcpu *v, u32 index, u64 val, bool host, bool window);
lodge_vcpu_ioctl lodge_get_msrs, lodge_set_msrs;	/* IOC_TAIL */
lodge_vcpu_ioctl lodge_setup_mce;
u32 lodge_get_kept_msrs(struct lodge_vcpu *v, struct kvm_msr_entry *e);	/* so many; LODGE_KEPT_MSRS at most */
int lodge_set_kept_msrs(struct lodge_vcpu *v, const struct kvm_msr_entry *e, u32 n);	/* 0; -EINVAL */
#define LODGE_KEPT_MSRS	250
int lodge_msr_index_list(struct kvm_msr_list __user *u);
bool lodge_msr_known(u32 index);
void lodge_msr_table_init(void);				/* load */

/* msr_feature.c */
#define LODGE_DE_CFG BIT_ULL(1)		/* AMD's DE_CFG: LFENCE serializes. Linux sees to that wherever there is SVM */
int lodge_msr_feature_list(struct kvm_msr_list __user *u);
int lodge_get_feature_msrs(struct kvm_msrs __user *u);
int lodge_msr_init(struct lodge_vcpu *v);

/* msr_exit.c */
/* struct kvm_msr_filter as programs of 32 bits lay it out, and so number the ioctl. */
struct lodge_msr_filter32 {
	u32 flags;
	struct {
		u32 flags, nmsrs, base, bitmap;
	} ranges[KVM_MSR_FILTER_MAX_RANGES];
};
#define COMPAT_SET_MSR_FILTER _IOW(KVMIO, 0xc6, struct lodge_msr_filter32)
lodge_vm_ioctl lodge_ioc_msr_filter, lodge_ioc_msr_filter32;
void lodge_msr_filter_free(struct lodge_vm *vm);
int lodge_msr_filter_copy(struct lodge_vm *vm, struct lodge_msr_filter **to);	/* slots_lock held */
int lodge_msr_filter_adopt(struct lodge_vm *vm, const struct lodge_msr_filter *f);	/* of a VM without vCPUs */
int lodge_user_msrs(struct lodge_vm *vm, u64 reasons);
bool lodge_msr_filtered(struct lodge_vcpu *v, u32 index, bool write);
bool lodge_msr_to_user(struct lodge_vcpu *v, u32 index, const u64 *val, bool filtered, int len);	/* fills run */

/* event.c */
void lodge_evaluate_events(struct lodge_vcpu *v);	/* window: choose v->inject, open windows */

/* debug.c */
lodge_vcpu_ioctl lodge_set_guest_debug;
void lodge_debug_begin(struct lodge_vcpu *v);
void lodge_debug_end(struct lodge_vcpu *v);
enum lodge_next lodge_debug_exit(struct lodge_vcpu *v, u8 vector, u64 dr6);	/* fills run */
enum lodge_next lodge_handle_dr(struct lodge_vcpu *v);
#endif
