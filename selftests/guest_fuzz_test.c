// SPDX-License-Identifier: GPL-2.0
/*
 * Guests that execute random bytes, in every mode of the processor, in ring 0 and 3, with random
 * registers set through the ABI. Each round is a vCPU in its mode's proper state, of which something
 * is then spoiled, a page of code, and a few KVM_RUNs. A guest may do no worse than end its
 * own VM: KVM_RUN comes back, and another VM, made at the end of each round that had one ended and of each
 * subtest, works.
 *
 * It is for QEMU and silicon: on Bochs the host's processor may lock up
 * (docs/testing.md). lib/random.h explains LODGE_FUZZ_SEED and LODGE_FUZZ_SECONDS.
 */
#include <signal.h>

#include "random.h"

enum mode { REAL, PROT16, PROT32, PAGING32, PAE, COMPAT16, COMPAT32, LONG, MODES };

enum {
	LOW_SIZE = 0x30000,		/* what a round finds as the first had it */
	PSE_TABLE = 0x20000, PAE_TABLE = 0x21000, IDT16 = 0x22000, IDT32 = 0x23000, TSS32 = 0x24000,
	CODE = LOW_CODE, CODE_SIZE = 0x2000, STACK = 0xf000,
	CR0_PE = 1, CR0_ET = 1 << 4, CR0_NE = 1 << 5, CR0_WP = 1 << 16,
	CR4_PSE = 1 << 4, CR4_PAE = 1 << 5, CR4_OSFXSR = 1 << 9,
	EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11,
};
#define CR0_PG 0x80000000

static u8 *pristine;
static u64 exits[40], errors, ended;

/* Tables for the modes that vm_new() has none for: every vector leads into the random code. */
static void make_tables(struct vm *vm)
{
	u32 *pse = (u32 *)(vm->mem + PSE_TABLE);
	u64 *pae = (u64 *)(vm->mem + PAE_TABLE);
	u64 *idt16 = (u64 *)(vm->mem + IDT16), *idt32 = (u64 *)(vm->mem + IDT32);

	for (u32 i = 0; i < 1024; i++)
		pse[i] = i << 22 | 0x87;
	for (u64 i = 0; i < 4; i++)
		pae[i] = (PAGE_TABLES + 0x2000 + i * 0x1000) | 1;
	for (u64 v = 0; v < 256; v++) {
		u64 at = CODE + v * 16;

		((u32 *)vm->mem)[v] = at >> 4 << 16;
		idt16[v] = at | 0x18 << 16 | 0xe600ull << 32;
		idt32[v] = at | 0x18 << 16 | 0xee00ull << 32;
	}
	*(u32 *)(vm->mem + TSS32 + 4) = STACK;
	*(u32 *)(vm->mem + TSS32 + 8) = 0x10;
}

static struct kvm_segment segment(u16 sel, u8 type, u8 dpl, bool l, bool db, bool big)
{
	return (struct kvm_segment) {
		.selector = sel | dpl, .type = type, .dpl = dpl, .present = 1, .s = 1, .l = l,
		.db = db, .g = big, .limit = big ? 0xffffffff : 0xffff,
	};
}

static void set_mode(struct vcpu *v, enum mode m, u8 ring)
{
	struct kvm_sregs s = get_sregs(v);
	bool big = m != PROT16 && m != COMPAT16, db = big && m != LONG;
	struct kvm_segment data;

	if (m == REAL) {
		vcpu_set_real(v, CODE);
		return;
	}
	s.cs = segment(ring ? 0x20 : 0x08, 11, ring, m == LONG, db, big);
	data = segment(ring ? 0x28 : 0x10, 3, ring, false, big, big);
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = GDT_GPA;
	s.gdt.limit = 0x2f;
	s.idt.base = m == PROT16 ? IDT16 : m < COMPAT16 ? IDT32 : IDT_GPA;
	s.idt.limit = m < COMPAT16 ? 0x7ff : 0xfff;
	s.tr = (struct kvm_segment) {
		.base = m < COMPAT16 ? TSS32 : TSS_GPA, .limit = 0x67, .selector = 0x30, .type = 11,
		.present = 1,
	};
	s.cr0 = CR0_PE | CR0_ET | CR0_NE | (below(2) ? CR0_WP : 0) | (m >= PAGING32 ? CR0_PG : 0);
	s.cr4 = CR4_OSFXSR | (m >= PAE ? CR4_PAE : CR4_PSE);
	s.cr3 = m == PAGING32 ? PSE_TABLE : m == PAE ? PAE_TABLE : PAGE_TABLES;
	s.efer = EFER_SCE | (m >= COMPAT16 ? EFER_LME | EFER_LMA | EFER_NXE : 0);
	spare_qemu(&s);
	set_sregs(v, &s);
}

static void random_regs(struct vcpu *v)
{
	struct kvm_regs r;
	u64 *words = (u64 *)&r;

	for (size_t i = 0; i < sizeof(r) / 8; i++)
		words[i] = below(2) ? awkward() : below(0x20000);
	r.rip = CODE + below(CODE_SIZE);
	r.rsp = below(8) ? STACK - below(64) * 8 : awkward();
	if (below(4))
		r.rflags &= ~0x100ull;		/* a trap after each instruction tells little */
	ioctl(v->fd, KVM_SET_REGS, &r);
}

static const struct {
	unsigned long get, set;
} states[] = {
	{ KVM_GET_SREGS, KVM_SET_SREGS }, { KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS },
	{ KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS }, { KVM_GET_XSAVE, KVM_SET_XSAVE },
	{ KVM_GET_XCRS, KVM_SET_XCRS }, { KVM_GET_FPU, KVM_SET_FPU },
};

static void spoil_state(struct vcpu *v)
{
	static u8 buf[8192] __attribute__((aligned(64)));
	size_t i = below(ARRAY_SIZE(states));

	if (ioctl(v->fd, states[i].get, buf))
		return;
	spoil(buf, _IOC_SIZE(states[i].set));
	spare_qemu_state(states[i].set, buf);
	ioctl(v->fd, states[i].set, buf);
}

static void round_of(struct vm *vm, struct vcpu *v, enum mode m)
{
	memcpy(vm->mem, pristine, LOW_SIZE);
	if (below(2))
		random_code(vm->mem + CODE, CODE_SIZE);
	else
		random_bytes(vm->mem + CODE, CODE_SIZE);
	set_mode(v, m, m != REAL && below(2) ? 3 : 0);
	random_regs(v);
	for (u64 n = below(4); n; n--)
		spoil_state(v);
	for (int i = 0; i < 4; i++) {
		int ret = run_shortly(v);

		if (ret) {
			errors++;
			TRUE(ret == -EINTR || ret == -EFAULT || ret == -EINVAL || ret == -EAGAIN ||
			     ret == -EIO || ret == -ENOEXEC);
			if (ret != -EINTR)
				break;
			continue;
		}
		TRUE(v->run->exit_reason < ARRAY_SIZE(exits));
		exits[v->run->exit_reason]++;
		/* what a port or a device answers */
		random_bytes((u8 *)v->run + 0x1000, 64);
		random_bytes(v->run->mmio.data, 8);
	}
}

static void fuzz(enum mode m)
{
	u64 end = now_us() + fuzz_time(MODES), rounds = 0;
	struct vm *vm = NULL;
	struct vcpu *v = NULL;

	random_start(m);
	install_kick(SIGALRM);
	pristine = host_pages(LOW_SIZE);
	for (; now_us() < end || rounds < 20; rounds++) {
		struct kvm_regs r;

		/* A VM that has been stopped answers EIO to all. */
		if (v && (rounds % 100 == 0 || ioctl(v->fd, KVM_GET_REGS, &r))) {
			ended += rounds % 100 != 0;
			vcpu_free(v);
			vm_free(vm);
			v = NULL;
		}
		if (!v) {
			vm = rounds % 200 < 100 ? vm_new() : vm_new_irqchip();
			make_tables(vm);
			memcpy(pristine, vm->mem, LOW_SIZE);
			v = vcpu_new(vm, 0);
			/* the BSP's own state, to be made anew each round */
		}
		round_of(vm, v, m);
	}
	note("%llu rounds, %llu KVM_RUNs that failed, %llu VMs ended; exits:", (unsigned long long)rounds,
	     (unsigned long long)errors, (unsigned long long)ended);
	for (size_t i = 0; i < ARRAY_SIZE(exits); i++)
		if (exits[i])
			note("  %s %llu", exit_name(i), (unsigned long long)exits[i]);
	check_fresh_vm();
}

TEST(real, "random code in real mode")
{
	fuzz(REAL);
}

TEST(prot16, "random code in 16-bit protected mode, rings 0 and 3")
{
	fuzz(PROT16);
}

TEST(prot32, "random code in 32-bit protected mode without paging")
{
	fuzz(PROT32);
}

TEST(paging32, "random code under 32-bit paging")
{
	fuzz(PAGING32);
}

TEST(pae, "random code under PAE paging")
{
	fuzz(PAE);
}

TEST(compat16, "random code in 16-bit compatibility mode")
{
	fuzz(COMPAT16);
}

TEST(compat32, "random code in 32-bit compatibility mode")
{
	fuzz(COMPAT32);
}

TEST(long64, "random code in 64-bit mode")
{
	fuzz(LONG);
}
