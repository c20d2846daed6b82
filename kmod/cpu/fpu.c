// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's x87, SSE, AVX, AVX-512 and PKRU registers.
 *
 * The kernel's guest-FPU helpers belong to KVM alone on recent kernels, so Lodge keeps an XSAVE
 * area per vCPU (standard format: the one KVM_GET_XSAVE speaks) and loads it raw inside
 * kernel_fpu_begin_mask(0) .. kernel_fpu_end(), which puts the user's registers away and keeps
 * everybody else off the FPU. That section is one window long. XCR0 and PKRU are switched by hand with
 * interrupts off: PKRU guards the host's own accesses to user memory, so it is the host's again
 * before any of them.
 *
 * Components offered: those the host has enabled, less AMX (its state is lazily permitted per
 * process) and anything supervisor (the guest's XSS is 0). Rules: SDM 1, chapter 13.
 *
 * vcpu->mutex held. lodge_fpu_enter() .. _exit(): no preemption.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>

#include "cpu/cpu.h"

#define XF_X87		BIT_ULL(0)
#define XF_SSE		BIT_ULL(1)
#define XF_AVX		BIT_ULL(2)
#define XF_AVX512	(BIT_ULL(5) | BIT_ULL(6) | BIT_ULL(7))
#define XF_PKRU		BIT_ULL(9)
#define XF_OFFERED	(XF_X87 | XF_SSE | XF_AVX | XF_AVX512 | XF_PKRU)
#define PKRU_BIT	9

static u64 fpu_offered __ro_after_init;
static u64 fpu_rfbm __ro_after_init;		/* switched by XSAVE and XRSTOR: offered less PKRU */
static u32 fpu_size __ro_after_init;		/* of what these switch, a multiple of 8: a vCPU's image */
static u32 fpu_pkru_offset __ro_after_init;
static u32 fpu_mxcsr_mask __ro_after_init;
static struct {
	u32 at, size;		/* in an image that is not compact: CPUID 0DH */
} component[PKRU_BIT + 1] __ro_after_init;

/* False when the processor refused the image: it is as it was before. */
static bool restore(struct xregs_state *x)
{
	bool bad = true;
	s32 zero = 0;

	/* Old AMD parts restore no pointers of the x87 unless an exception is pending: they would be the host's. */
	if (boot_cpu_has_bug(X86_BUG_FXSAVE_LEAK))
		asm volatile("fnclex\n\temms\n\tfildl %0" : : "m" (zero));
	if (fpu_rfbm)
		asm volatile("1: xrstor64 %1\n\tmovb $0, %0\n2:\n" _ASM_EXTABLE(1b, 2b)
			     : "+q" (bad) : "m" (*x), "a" ((u32)fpu_rfbm),
			       "d" ((u32)(fpu_rfbm >> 32)) : "memory");
	else
		asm volatile("1: fxrstor64 %1\n\tmovb $0, %0\n2:\n" _ASM_EXTABLE(1b, 2b)
			     : "+q" (bad) : "m" (*x) : "memory");
	return !bad;
}

static void save(struct xregs_state *x)
{
	if (fpu_rfbm)
		asm volatile("xsave64 %0" : "+m" (*x) : "a" ((u32)fpu_rfbm),
			     "d" ((u32)(fpu_rfbm >> 32)) : "memory");
	else
		asm volatile("fxsave64 %0" : "+m" (*x) : : "memory");
}

static void init_image(struct xregs_state *x)
{
	memset(x, 0, fpu_size);
	x->i387.cwd = 0x37f;
	x->i387.mxcsr = 0x1f80;
	x->i387.mxcsr_mask = fpu_mxcsr_mask;
}

/**
 * lodge_fpu_image_size - bytes of an XSAVE image
 * @mask: its components
 * @compact: one after the other, as XSAVEC does it; else each at its place
 *
 * CPUID leaf 0DH, SDM 1, 13.2 and 13.4.3.
 */
u32 lodge_fpu_image_size(u64 mask, bool compact)
{
	u32 size = 512 + 64;
	int i;

	for (i = 2; i < 63; i++) {
		struct lodge_cpuid_regs r;

		if (!(mask & BIT_ULL(i)))
			continue;
		r = lodge_host_cpuid(0xd, i);
		if (compact)
			size = (r.ecx & 2 ? ALIGN(size, 64) : size) + r.eax;
		else
			size = max(size, r.ebx + r.eax);
	}
	return size;
}

/**
 * lodge_fpu_init - find out what the host has; once, at load
 *
 * Return: 0, or -EOPNOTSUPP when the image would not fit KVM_GET_XSAVE's.
 */
int lodge_fpu_init(void)
{
	struct xregs_state *x;
	int i;

	if (boot_cpu_has(X86_FEATURE_OSXSAVE) || boot_cpu_has(X86_FEATURE_XSAVE)) {
		lodge_fpu_host.xcr0 = lodge_xgetbv();
		fpu_offered = lodge_fpu_host.xcr0 & XF_OFFERED;
		fpu_rfbm = fpu_offered & ~XF_PKRU;
	}
	lodge_fpu_host.pkru = boot_cpu_has(X86_FEATURE_OSPKE) && (fpu_offered & XF_PKRU);
	fpu_size = ALIGN(lodge_fpu_image_size(fpu_rfbm, false), 8);
	for (i = 2; i <= PKRU_BIT; i++) {
		struct lodge_cpuid_regs r = {};

		if (fpu_offered & BIT_ULL(i))
			r = lodge_host_cpuid(0xd, i);
		component[i].at = r.ebx;
		component[i].size = r.eax;
	}
	component[1].at = offsetof(struct fxregs_state, xmm_space);
	component[1].size = sizeof_field(struct fxregs_state, xmm_space);
	fpu_pkru_offset = component[PKRU_BIT].at;
	if (max(fpu_size, lodge_fpu_image_size(fpu_offered, false)) > sizeof(struct kvm_xsave)) {
		pr_err("lodge: an XSAVE area of more than %zu bytes does not fit the ABI\n", sizeof(struct kvm_xsave));
		return -EOPNOTSUPP;
	}
	x = (void *)get_zeroed_page(GFP_KERNEL);
	if (!x)
		return -ENOMEM;
	asm volatile("fxsave64 %0" : "=m" (*x));
	fpu_mxcsr_mask = x->i387.mxcsr_mask ?: 0xffbf;	/* SDM 1, 11.6.6 */
	free_page((unsigned long)x);
	return 0;
}

/** lodge_fpu_xcr0_host - the XCR0 bits that a guest can have */
u64 lodge_fpu_xcr0_host(void)
{
	return fpu_offered;
}

/** lodge_fpu_bytes - of each vCPU's image: a multiple of 8 */
u32 lodge_fpu_bytes(void)
{
	return fpu_size;
}

/**
 * lodge_fpu_create - allocate a vCPU's image
 * @v: the vCPU
 *
 * Return: 0 or -ENOMEM.
 */
int lodge_fpu_create(struct lodge_vcpu *v)
{
	/* XRSTOR wants 64 bytes of alignment: a power of two has its own (Documentation/core-api/memory-allocation.rst). */
	v->fpu.area = kzalloc(roundup_pow_of_two(fpu_size), GFP_KERNEL_ACCOUNT);
	return v->fpu.area ? 0 : -ENOMEM;
}

/** lodge_fpu_destroy - free it; NULL is fine */
void lodge_fpu_destroy(struct lodge_vcpu *v)
{
	kfree(v->fpu.area);
	v->fpu.area = NULL;
}

/** lodge_fpu_reset - power-on values */
void lodge_fpu_reset(struct lodge_vcpu *v)
{
	init_image(v->fpu.area);
	v->fpu.xcr0 = XF_X87;
	v->fpu.size = v->fpu.compact_size = 512 + 64;
	v->fpu.pkru = 0;
}

/**
 * lodge_fpu_enter - give the FPU to the guest
 * @v: the vCPU
 *
 * Context: IRQs on; preemption off from here to lodge_fpu_exit().
 */
void lodge_fpu_enter(struct lodge_vcpu *v)
{
	kernel_fpu_begin_mask(0);
	if (unlikely(!restore(v->fpu.area))) {
		init_image(v->fpu.area);
		restore(v->fpu.area);
	}
}

/**
 * lodge_fpu_exit - take it back
 * @v: the vCPU
 */
void lodge_fpu_exit(struct lodge_vcpu *v)
{
	save(v->fpu.area);
	kernel_fpu_end();
}

/**
 * lodge_fpu_note_xcr0 - XCR0 is another one now: the sizes of the image follow
 * @v: the vCPU
 * @val: XCR0
 */
void lodge_fpu_note_xcr0(struct lodge_vcpu *v, u64 val)
{
	v->fpu.xcr0 = val;
	v->fpu.size = lodge_fpu_image_size(val, false);
	v->fpu.compact_size = lodge_fpu_image_size(val, true);
}

/**
 * lodge_set_xcr0 - XSETBV by the guest, or KVM_SET_XCRS
 * @v: the vCPU; in the window XCR0 itself is written too
 * @val: the new value
 *
 * Return: 0, or 1 where the processor would raise #GP (SDM 1, 13.3).
 */
int lodge_set_xcr0(struct lodge_vcpu *v, u64 val)
{
	if (!(val & XF_X87) || val & ~v->cpuid.xcr0_valid)
		return 1;
	if (val & XF_AVX && !(val & XF_SSE))
		return 1;
	if (val & XF_AVX512 && (!(val & XF_AVX) || (val & XF_AVX512) != XF_AVX512))
		return 1;
	lodge_fpu_note_xcr0(v, val);
	if (v->mode == MODE_WINDOW)
		lodge_xsetbv(val);
	return 0;
}

/** lodge_get_fpu - KVM_GET_FPU: the FXSAVE part in KVM's own layout */
int lodge_get_fpu(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct fxregs_state *x = &v->fpu.area->i387;
	struct kvm_fpu *f = buf;

	memcpy(f->fpr, x->st_space, sizeof(f->fpr));
	f->fcw = x->cwd;
	f->fsw = x->swd;
	f->ftwx = x->twd;
	f->pad1 = 0;
	f->last_opcode = x->fop;
	f->last_ip = x->rip;
	f->last_dp = x->rdp;
	memcpy(f->xmm, x->xmm_space, sizeof(f->xmm));
	f->mxcsr = x->mxcsr;
	f->pad2 = 0;
	return 0;
}

/** lodge_set_fpu - KVM_SET_FPU; -EINVAL for reserved MXCSR bits */
int lodge_set_fpu(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct fxregs_state *x = &v->fpu.area->i387;
	const struct kvm_fpu *f = buf;

	memcpy(x->st_space, f->fpr, sizeof(f->fpr));
	x->cwd = f->fcw;
	x->swd = f->fsw;
	x->twd = f->ftwx;
	x->fop = f->last_opcode;
	x->rip = f->last_ip;
	x->rdp = f->last_dp;
	memcpy(x->xmm_space, f->xmm, sizeof(f->xmm));
	x->mxcsr = f->mxcsr & fpu_mxcsr_mask;
	v->fpu.area->header.xfeatures |= fpu_rfbm & (XF_X87 | XF_SSE);
	return 0;
}

/* Bytes 464 to 511 are software's: KVM says there which components an image can have, as Linux does in signal frames. */
#define XSAVE_SW_FEATURES	58

/** lodge_get_xsave - KVM_GET_XSAVE: the image, with PKRU where the processor would have it */
int lodge_get_xsave(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct xregs_state *out = buf;

	memcpy(buf, v->fpu.area, fpu_size);
	memset(buf + fpu_size, 0, sizeof(struct kvm_xsave) - fpu_size);
	((u64 *)buf)[XSAVE_SW_FEATURES] = lodge_fpu_host.xcr0;
	if (!fpu_rfbm)
		out->header.xfeatures = XF_X87 | XF_SSE;
	if (lodge_fpu_host.pkru && v->fpu.pkru) {
		memcpy(buf + fpu_pkru_offset, &v->fpu.pkru, sizeof(u32));
		out->header.xfeatures |= XF_PKRU;
	}
	return 0;
}

/*
 * The components that an image has, into one that is in the initial state: what XSTATE_BV leaves out is that at once,
 * as with KVM, not only when the guest runs. MXCSR goes with SSE and AVX (SDM 1, 13.8.1).
 */
static void take_components(struct xregs_state *to, const struct xregs_state *from, u64 bv)
{
	struct fxregs_state *x = &to->i387;
	int i;

	init_image(to);
	if (bv & XF_X87) {
		memcpy(x, &from->i387, offsetof(struct fxregs_state, mxcsr));
		memcpy(x->st_space, from->i387.st_space, sizeof(x->st_space));
	}
	if (bv & (XF_SSE | XF_AVX))
		x->mxcsr = from->i387.mxcsr;
	if (bv & XF_SSE)
		memcpy(x->xmm_space, from->i387.xmm_space, sizeof(x->xmm_space));
	for (i = 2; i < ARRAY_SIZE(component); i++)
		if (bv & fpu_rfbm & BIT_ULL(i))
			memcpy((void *)to + component[i].at, (void *)from + component[i].at, component[i].size);
	to->header.xfeatures = bv & fpu_rfbm;
}

/** lodge_set_xsave - KVM_SET_XSAVE; -EINVAL for what XRSTOR would refuse */
int lodge_set_xsave(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct xregs_state *in = buf;
	u64 bv = in->header.xfeatures;
	u32 pkru = 0;

	if (bv & ~(fpu_offered ?: XF_X87 | XF_SSE) || in->header.xcomp_bv ||
	    memchr_inv(in->header.reserved, 0, sizeof(in->header.reserved)))
		return -EINVAL;
	if (in->i387.mxcsr & ~fpu_mxcsr_mask)
		return -EINVAL;
	if (lodge_fpu_host.pkru && bv & XF_PKRU)
		memcpy(&pkru, buf + fpu_pkru_offset, sizeof(u32));
	take_components(v->fpu.area, in, fpu_rfbm ? bv : XF_X87 | XF_SSE);
	v->fpu.pkru = pkru;
	return 0;
}

#define COMPACT_HEAD	160	/* FXSAVE's image up to the XMM registers */

/* Those of a mask, but for x87; `left` is the loop's. */
#define for_each_component(i, mask) \
	for (left = (mask) & ~XF_X87; left && (i = __ffs64(left), true); left &= left - 1)

/**
 * lodge_get_compact - the components that are in use, one after the other
 * @v: the vCPU
 * @buf: struct lodge_state_xsave, with room for all
 *
 * Return: its bytes.
 */
u32 lodge_get_compact(struct lodge_vcpu *v, void *buf)
{
	const void *area = v->fpu.area;
	u64 bv = fpu_rfbm ? v->fpu.area->header.xfeatures & fpu_rfbm : XF_X87 | XF_SSE;
	void *to = buf + sizeof(bv);
	u64 left;
	u32 i;

	if (lodge_fpu_host.pkru && v->fpu.pkru)
		bv |= XF_PKRU;
	*(u64 *)buf = bv;
	lodge_copy_words(to, area, COMPACT_HEAD);
	to += COMPACT_HEAD;
	for_each_component(i, bv) {
		if (i == PKRU_BIT)
			*(u64 *)to = v->fpu.pkru;
		else
			lodge_copy_words(to, area + component[i].at, component[i].size);
		to += ALIGN(component[i].size, 8);
	}
	return to - buf;
}

/** lodge_set_compact - the same back; -EINVAL for components that are not there, reserved MXCSR bits, another length */
int lodge_set_compact(struct lodge_vcpu *v, const void *buf, u32 len)
{
	struct xregs_state *area = v->fpu.area;
	const struct fxregs_state *x = buf + sizeof(u64);
	const void *from = (void *)x + COMPACT_HEAD;
	u64 bv = *(u64 *)buf, offered = fpu_offered ?: XF_X87 | XF_SSE, left;
	u32 want = sizeof(bv) + COMPACT_HEAD, i;

	if (bv & ~offered || x->mxcsr & ~fpu_mxcsr_mask)
		return -EINVAL;
	for_each_component(i, bv)
		want += ALIGN(component[i].size, 8);
	if (len != want)
		return -EINVAL;
	lodge_copy_words(area, x, COMPACT_HEAD);
	area->i387.mxcsr_mask = fpu_mxcsr_mask;
	v->fpu.pkru = 0;
	for_each_component(i, bv) {
		if (i == PKRU_BIT)
			v->fpu.pkru = *(u32 *)from;
		else
			lodge_copy_words((void *)area + component[i].at, from, component[i].size);
		from += ALIGN(component[i].size, 8);
	}
	for_each_component(i, offered & ~(bv | XF_PKRU))
		lodge_clear_words((void *)area + component[i].at, component[i].size);
	area->header.xfeatures = bv & fpu_rfbm;
	return 0;
}

/** lodge_get_xcrs - KVM_GET_XCRS */
int lodge_get_xcrs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_xcrs *x = buf;

	memset(x, 0, sizeof(*x));
	if (!lodge_fpu_host.xcr0)
		return 0;
	x->nr_xcrs = 1;
	x->xcrs[0].value = v->fpu.xcr0;
	return 0;
}

/** lodge_set_xcrs - KVM_SET_XCRS; -EINVAL as KVM */
int lodge_set_xcrs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_xcrs *x = buf;
	u32 i;

	if (!lodge_fpu_host.xcr0 || x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (i = 0; i < x->nr_xcrs; i++)
		if (x->xcrs[i].xcr == 0)
			return lodge_set_xcr0(v, x->xcrs[i].value) ? -EINVAL : 0;
	return 0;
}
