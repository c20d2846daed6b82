// SPDX-License-Identifier: GPL-2.0
/*
 * Processor modes: entered through KVM_SET_SREGS, and by the guest's own transitions (the
 * payloads in guest/modes.S), which report at each step and are checked against what KVM_GET_SREGS
 * says at that moment.
 */
#include "vm.h"

enum {
	CR0_PE = 1, CR0_PG = 1u << 31, CR4_PSE = 1 << 4, CR4_PAE = 1 << 5,
	EFER_LME = 1 << 8, EFER_LMA = 1 << 10,
	MODES_GPA = 0x1000,		/* where guest/modes.S is assembled for */
};

/* ---- real mode ---- */

PAYLOAD16(real_add,
	"add %bx, %ax\n mov $0x3f8, %dx\n out %ax, %dx\n hlt\n");

TEST(real, "real mode: arithmetic, OUT, HLT")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);
	struct kvm_regs r = get_regs(v);

	LOAD(vm, LOW_CODE, real_add);
	r.rax = 0x1234;
	r.rbx = 0x1111;
	set_regs(v, &r);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x3f8, 2), 0x2345);
	RUN_TO(v, KVM_EXIT_HLT);
}

PAYLOAD16(real_segments,
	"mov $0x2000, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x100, %sp\n"
	"movw $0xcafe, 0x10\n"			/* 0x20010 */
	"push $0x1234\n"			/* 0x200fe */
	"ljmp $0x100, $1f - real_segments\n"	/* the same place: 0x100 * 16 */
	"1: mov %cs, %ax\n mov $0x10, %dx\n out %ax, %dx\n hlt\n");

TEST(real_segmentation, "real mode: segment bases, the stack, a far jump")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);

	LOAD(vm, LOW_CODE, real_segments);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x10, 2), 0x100);
	EQ(*(u16 *)(vm->mem + 0x20010), 0xcafe);
	EQ(*(u16 *)(vm->mem + 0x200fe), 0x1234);
	EQ(get_sregs(v).cs.base, 0x1000);
	EQ(get_sregs(v).ds.base, 0x20000);
	RUN_TO(v, KVM_EXIT_HLT);
}

PAYLOAD16(real_int,
	"movw $1f - real_int + 0x1000, 0x84\n movw $0, 0x86\n"	/* vector 0x21 */
	"movw $2f - real_int + 0x1000, 0x18\n movw $0, 0x1a\n"	/* vector 6 */
	"movw $3f - real_int + 0x1000, 0x0\n movw $0, 0x2\n"	/* vector 0 */
	"mov $1, %ax\n int $0x21\n"
	"mov $0x10, %dx\n out %ax, %dx\n"
	"ud2\n out %ax, %dx\n"
	"xor %cx, %cx\n div %cx\n out %ax, %dx\n hlt\n"
	"1: inc %ax\n iret\n"
	"2: mov $0x66, %ax\n mov %sp, %bp\n addw $2, (%bp)\n iret\n"
	"3: mov $0x77, %ax\n mov %sp, %bp\n addw $2, (%bp)\n iret\n");

TEST(real_interrupts, "real mode: INT n, #UD and #DE through the vector table, IRET")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);

	LOAD(vm, LOW_CODE, real_int);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x10, 2), 2);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x10, 2), 0x66);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x10, 2), 0x77);
	RUN_TO(v, KVM_EXIT_HLT);
}

/* NW without CD in CR0, and an MSR that there is not. */
PAYLOAD16(real_gp,
	"xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x8000, %sp\n"
	"movw $1f - real_gp + 0x1000, 4 * 13\n movw $0, 4 * 13 + 2\n"
	"mov $0x10, %dx\n mov %cr0, %eax\n or $0x20000000, %eax\n and $0xbfffffff, %eax\n mov %eax, %cr0\n"
	"mov %sp, %ax\n out %ax, %dx\n"
	"mov $0x40000077, %ecx\n rdmsr\n mov $0x10, %dx\n mov %sp, %ax\n out %ax, %dx\n hlt\n"
	"1: mov %sp, %bp\n"
	"mov (%bp), %bx\n addw $3, (%bp)\n cmpb $0x0f, (%bx)\n jne 2f\n cmpb $0x32, 1(%bx)\n jne 2f\n subw $1, (%bp)\n"
	"2: iret\n");

TEST(real_gp, "real mode: a #GP that the hypervisor raises goes through the vector table, without an error code")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);

	LOAD(vm, LOW_CODE, real_gp);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x10, 2), 0x8000);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x10, 2), 0x8000);
	RUN_TO(v, KVM_EXIT_HLT);
}

PAYLOAD16(real_jump, "ljmp $0xf000, $0x0000\n");
PAYLOAD16(real_top, "mov $0x5a, %al\n out %al, $0x80\n hlt\n");

TEST(reset, "from the reset vector: ROM at the top of 4 GiB, then a far jump below 1 MiB")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0);
	u8 *rom = host_pages(0x10000);
	extern const u8 real_jump[], real_jump_end[];

	memcpy(rom + 0xfff0, real_jump, real_jump_end - real_jump);
	OK(vm_slot(vm, 1, 0xffff0000, 0x10000, rom, 0));
	LOAD(vm, 0xf0000, real_top);
	EQ(*(u8 *)RUN_TO_OUT(v, 0x80, 1), 0x5a);
	EQ(get_sregs(v).cs.base, 0xf0000);
	RUN_TO(v, KVM_EXIT_HLT);
}

PAYLOAD16(real_cpuid,
	"xor %eax, %eax\n cpuid\n mov $0x20, %dx\n mov %ebx, %eax\n out %eax, %dx\n"
	"mov $0xc0000080, %ecx\n rdmsr\n mov $0x20, %dx\n out %eax, %dx\n hlt\n");

TEST(real_cpuid_msr, "real mode: CPUID and RDMSR")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);

	LOAD(vm, LOW_CODE, real_cpuid);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x20, 4), find_cpuid(supported_cpuid(), 0, 0)->ebx);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x20, 4), 0);
	RUN_TO(v, KVM_EXIT_HLT);
}

/* ---- protected mode by KVM_SET_SREGS ---- */

PAYLOAD32(prot_flat,
	"movl $0x11223344, 0x200000\n mov 0x200000, %eax\n mov $0x30, %dx\n out %eax, %dx\n"
	"call 1f\n hlt\n 1: mov $7, %eax\n out %eax, %dx\n ret\n");

TEST(prot, "32-bit protected mode, flat, without paging")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);

	LOAD(vm, LOW_CODE, prot_flat);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x30, 4), 0x11223344);
	EQ(*(u32 *)(vm->mem + SCRATCH), 0x11223344);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x30, 4), 7);
	RUN_TO(v, KVM_EXIT_HLT);
}

/* Reads what is mapped at 4 MiB + 0x10. */
PAYLOAD32(paged_read,
	"mov 0x400010, %eax\n mov $0x30, %dx\n out %eax, %dx\n movl $0x77, 0x400014\n hlt\n");

static void set_paging(struct vcpu *v, u32 cr3, u32 cr4)
{
	struct kvm_sregs s = get_sregs(v);

	s.cr3 = cr3;
	s.cr4 = cr4;
	s.cr0 |= CR0_PG;
	set_sregs(v, &s);
}

TEST(paging32, "32-bit paging: 4 KiB and 4 MiB pages, accessed and dirty bits")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	u32 *pd = (u32 *)(vm->mem + SCRATCH), *pt = (u32 *)(vm->mem + SCRATCH + 0x1000);

	LOAD(vm, LOW_CODE, paged_read);
	pd[0] = 0x83;				/* 4 MiB at 0 */
	pd[1] = (SCRATCH + 0x1000) | 3;
	pt[0] = HIGH_SCRATCH | 3;
	*(u32 *)(vm->mem + HIGH_SCRATCH + 0x10) = 0xabcd1234;
	set_paging(v, SCRATCH, CR4_PSE);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x30, 4), 0xabcd1234);
	EQ(pt[0] & 0x60, 0x20);
	RUN_TO(v, KVM_EXIT_HLT);
	EQ(*(u32 *)(vm->mem + HIGH_SCRATCH + 0x14), 0x77);
	EQ(pt[0] & 0x60, 0x60);
}

TEST(paging_pae, "PAE paging: 4 KiB and 2 MiB pages, a frame above what 32 bits reach in a table")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	u64 *pdpt = (u64 *)(vm->mem + SCRATCH), *pd = pdpt + 512, *pt = pd + 512;
	u8 *high = host_pages(4096);

	LOAD(vm, LOW_CODE, paged_read);
	OK(vm_slot(vm, 1, 1ull << 33, 4096, high, 0));
	pdpt[0] = (SCRATCH + 0x1000) | 1;
	pd[0] = 0x83;
	pd[2] = (SCRATCH + 0x2000) | 3;
	pt[0] = 1ull << 33 | 3;
	*(u32 *)(high + 0x10) = 0x600df00d;
	set_paging(v, SCRATCH, CR4_PAE);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x30, 4), 0x600df00d);
	RUN_TO(v, KVM_EXIT_HLT);
	EQ(*(u32 *)(high + 0x14), 0x77);
}

/* 4 GiB by four tables of 2 MiB pages; the one entry that nothing uses has a bit set that is reserved. */
PAYLOAD32(pae_odd,
	"mov %cr4, %eax\n xor $0x80, %eax\n mov %eax, %cr4\n"
	"mov %cr3, %eax\n mov %eax, %cr3\n"
	"mov %cr0, %eax\n xor $0x80000000, %eax\n mov %eax, %cr0\n xor $0x80000000, %eax\n mov %eax, %cr0\n"
	"mov $9, %eax\n out %eax, $0x30\n hlt\n");

TEST(pae_entries, "PAE paging on AMD: the four entries are read with each walk, and a bad one that nobody uses does no harm")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	u64 *pdpt = (u64 *)(vm->mem + SCRATCH), *pd = pdpt + 512;

	if (!host_is_amd())
		test_skip("VT-x checks them when they are loaded");
	if (device_is_kvm())
		test_skip("stock KVM checks them on AMD too");
	LOAD(vm, LOW_CODE, pae_odd);
	pdpt[0] = (SCRATCH + 0x1000) | 1;
	pdpt[3] = (SCRATCH + 0x1000) | 0x1e1;
	pd[0] = 0x83;
	set_paging(v, SCRATCH, CR4_PAE);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x30, 4), 9);
	RUN_TO(v, KVM_EXIT_HLT);
}

/* ---- CR0 ---- */

enum { CR0_MP = 2, CR0_TS = 8, CR0_NW = 1 << 29, CR0_CD = 1 << 30 };

static u32 mem_word = 0xdeadbeef;

static void cr0_guest(void)
{
	u64 before = read_cr0(), x = ~0ull;

	write_cr0(before | CR0_CD);
	GUEST_IS(read_cr0(), before | CR0_CD);
	write_cr0(before | CR0_CD | CR0_NW);
	GUEST_IS(read_cr0(), before | CR0_CD | CR0_NW);
	report(1, read_cr0(), 0, 0);
	asm volatile("smsw %k0" : "+r"(x));
	GUEST_IS((u32)x, before | CR0_CD | CR0_NW);
	x = ~0ull;
	asm volatile("smsw %w0" : "+r"(x));
	GUEST_IS(x, ~0xffffull | (before & 0xffff));
	asm volatile("lmsw %w0" : : "r"(CR0_TS | 1));
	GUEST_IS(read_cr0() & 0xf, CR0_TS | 1);
	GUEST_TRUE(read_cr0() & CR0_CD);
	asm volatile("clts");
	GUEST_IS(read_cr0() & 0xf, 1);
	asm volatile("mov %0, %%cr0" : : "r"(before | CR0_CD | CR0_MP));
	GUEST_IS(read_cr0(), before | CR0_CD | CR0_MP);
	write_cr0(before);
	GUEST_IS(read_cr0(), before);
	/* NW without CD is not a state; and with memory operands. */
	TRAPS(13, "mov %0, %%cr0", : "r"(before | CR0_NW));
	write_cr0(before | CR0_CD);
	asm volatile("smsw %0" : "=m"(mem_word));
	GUEST_IS(mem_word, (before & 0xffff) | 0xdead0000);
	mem_word = CR0_TS | 1;
	asm volatile("lmsw %0" : : "m"(mem_word));
	GUEST_IS(read_cr0() & 0xf, CR0_TS | 1);
	GUEST_TRUE(read_cr0() & CR0_CD);
	asm volatile("clts");
	write_cr0(before);
	GUEST_IS(read_cr0(), before);
	done();
}

TEST(cr0_cache, "CR0.CD and NW are the guest's to set and read, by every instruction that names CR0")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, cr0_guest);

	EQ(get_sregs(v).cr0 & CR0_CD, 0);
	EQ(REPORT(v, 1).a, get_sregs(v).cr0);
	EQ(get_sregs(v).cr0 & (CR0_CD | CR0_NW), CR0_CD | CR0_NW);
	DONE(v);
}

/* ---- long mode by KVM_SET_SREGS ---- */

static u64 in_image = 5;

static void long_guest(void)
{
	in_image *= 3;
	report(1, in_image, read_cr0(), rdmsr(0xc0000080));
	done();
}

TEST(long_mode, "64-bit mode: the guest runs C code and its own data")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, long_guest);
	struct words w = REPORT(v, 1);

	EQ(w.a, 15);
	EQ(w.b & (CR0_PG | CR0_PE), CR0_PG | CR0_PE);
	EQ(w.c & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
	EQ(GUEST(vm, in_image), 15);
	EQ(in_image, 5);
	DONE(v);
}

static void high_guest(void)
{
	GUEST_IS(*(volatile u64 *)0x7fff00000010, 0x1122334455667788);
	GUEST_IS(*(volatile u64 *)0xffff800000000010, 0x1122334455667788);
	TRAPS(14, "movb $1, (%0)", : "r"(0x7fff00000010) : "memory");
	GUEST_IS(last_error, 3);
	TRAPS(13, "movb $1, (%0)", : "r"(0x800000000000) : "memory");
	*(volatile u64 *)0xffff800000000018 = 99;
	done();
}

TEST(long_paging, "4-level paging: low and high halves, read-only pages, addresses that are not canonical")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, high_guest);
	u64 *pml4 = (u64 *)(vm->mem + PAGE_TABLES), *pdpt = (u64 *)(vm->mem + SCRATCH);
	u64 *pd = pdpt + 512, *pt = pd + 512;

	pml4[255] = SCRATCH | 1;		/* 0x7f8000000000, read-only */
	pml4[256] = SCRATCH | 3;		/* 0xffff800000000000 */
	pdpt[508] = pdpt[0] = (SCRATCH + 0x1000) | 3;
	pd[0] = (SCRATCH + 0x2000) | 3;
	pt[0] = HIGH_SCRATCH | 3;
	*(u64 *)(vm->mem + HIGH_SCRATCH + 0x10) = 0x1122334455667788;
	DONE(v);
	EQ(*(u64 *)(vm->mem + HIGH_SCRATCH + 0x18), 99);
}

static void nx_guest(void)
{
	u64 *pd = (u64 *)(PAGE_TABLES + 0x2000);

	*(volatile u8 *)HIGH_SCRATCH = 0xc3;		/* RET */
	((void (*)(void))HIGH_SCRATCH)();
	pd[HIGH_SCRATCH >> 21] |= 1ull << 63;
	asm volatile("invlpg (%0)" : : "r"((u64)HIGH_SCRATCH) : "memory");
	TRAPS(14, "call *%0", : "r"((u64)HIGH_SCRATCH) : "memory");
	GUEST_IS(last_error, 0x11);
	GUEST_IS(read_cr2(), HIGH_SCRATCH);
	done();
}

TEST(no_execute, "a page with NX can be read, but a jump to it raises #PF")
{
	DONE(vcpu_long(vm_new(), 0, nx_guest));
}

/* Page tables at SCRATCH map 512 GiB + n pages to one page, which changes. */
static void tlb_guest(void)
{
	volatile u64 *p = (volatile u64 *)(1ull << 39);
	volatile u64 *pte = (volatile u64 *)(SCRATCH + 0x2000);
	u64 cr3 = read_cr3();

	for (u64 i = 0; i < 64; i++) {
		*pte = (HIGH_SCRATCH + (i % 16) * 0x1000) | 3;
		if (i % 2)
			asm volatile("invlpg (%0)" : : "r"(p) : "memory");
		else
			write_cr3(cr3);
		GUEST_IS(*p, i % 16 + 100);
		if (i % 5 == 0)
			report(1, 0, 0, 0);
		GUEST_IS(*p, i % 16 + 100);
	}
	*pte = 0;
	asm volatile("invlpg (%0)" : : "r"(p) : "memory");
	TRAPS(14, "mov (%0), %%rax", : "r"(p) : "rax", "memory");
	done();
}

TEST(tlb, "the guest changes its own mappings: INVLPG and CR3 writes take effect at once")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, tlb_guest);
	u64 *pml4 = (u64 *)(vm->mem + PAGE_TABLES), *pdpt = (u64 *)(vm->mem + SCRATCH);

	pml4[1] = SCRATCH | 3;
	pdpt[0] = (SCRATCH + 0x1000) | 3;
	pdpt[512] = (SCRATCH + 0x2000) | 3;
	for (u64 i = 0; i < 16; i++)
		*(u64 *)(vm->mem + HIGH_SCRATCH + i * 0x1000) = i + 100;
	for (int i = 0; i < 13; i++)
		REPORT(v, 1);
	DONE(v);
}

static void la57_guest(void)
{
	GUEST_IS(*(volatile u64 *)0x0001000000000010, 0x57);
	TRAPS(14, "mov (%0), %%rax", : "r"(0x0002000000000000) : "rax", "memory");
	TRAPS(13, "mov (%0), %%rax", : "r"(0x0200000000000000) : "rax", "memory");
	done();
}

TEST(la57, "5-level paging")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, la57_guest);
	struct kvm_cpuid_entry2 *seven = find_cpuid(supported_cpuid(), 7, 0);
	struct kvm_sregs s = get_sregs(v);
	u64 *pml5 = (u64 *)(vm->mem + SCRATCH), *pml4 = pml5 + 512, *pdpt = pml4 + 512;
	u64 *pd = pdpt + 512;

	if (!seven || !(seven->ecx & 1 << 16))
		test_skip("no LA57");
	pml5[0] = PAGE_TABLES | 7;
	pml5[1] = (SCRATCH + 0x1000) | 7;
	pml4[0] = (SCRATCH + 0x2000) | 7;
	pdpt[0] = (SCRATCH + 0x3000) | 7;
	pd[0] = HIGH_SCRATCH | 0x87;
	*(u64 *)(vm->mem + HIGH_SCRATCH + 0x10) = 0x57;
	s.cr3 = SCRATCH;
	s.cr4 |= 1 << 12;
	set_sregs(v, &s);
	DONE(v);
	EQ(get_sregs(v).cr4 >> 12 & 1, 1);
}

/* ---- the guest's own transitions: guest/modes.S ---- */

extern const u8 modes[], modes_end[];

/* Runs to the next step of modes.S: what KVM_GET_SREGS says then. */
static struct kvm_sregs step(struct vcpu *v, u8 number)
{
	EQ(*(u8 *)RUN_TO_OUT(v, 0x50, 1), number);
	return get_sregs(v);
}

static struct vcpu *modes_vcpu(void)
{
	struct vm *vm = vm_new();

	vm_load(vm, MODES_GPA, modes, modes_end - modes);
	memset(vm->mem + PAGE_TABLES, 0, 0x8000);	/* the guest makes its own */
	return vcpu_real(vm, 0, MODES_GPA);
}

TEST(transitions, "the guest goes from real mode to 32-bit, paged, long, compatibility mode and back")
{
	struct vcpu *v = modes_vcpu();
	struct kvm_sregs s;

	not_on_bochs_svm("the guest shuts down behind its way out of long mode, where writes of CR0 exit");
	s = step(v, 1);				/* real */
	EQ(s.cr0 & CR0_PE, 0);
	s = step(v, 2);				/* 32-bit, flat */
	EQ(s.cr0 & (CR0_PE | CR0_PG), CR0_PE);
	EQ(s.cs.db, 1);
	EQ(s.cs.selector, 0x08);
	s = step(v, 3);				/* 32-bit paging */
	EQ(s.cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
	EQ(s.cr4 & CR4_PAE, 0);
	s = step(v, 4);				/* paging off again */
	EQ(s.cr0 & CR0_PG, 0);
	s = step(v, 5);				/* PAE */
	EQ(s.cr0 & CR0_PG, CR0_PG);
	EQ(s.cr4 & CR4_PAE, CR4_PAE);
	EQ(s.efer & EFER_LMA, 0);
	s = step(v, 6);				/* long mode, still in 32-bit code */
	EQ(s.efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
	EQ(s.cs.l, 0);
	s = step(v, 7);				/* 64-bit code */
	EQ(s.cs.l, 1);
	EQ(s.cs.selector, 0x18);
	s = step(v, 8);				/* compatibility mode */
	EQ(s.cs.l, 0);
	EQ(s.efer & EFER_LMA, EFER_LMA);
	s = step(v, 9);				/* paging and long mode off */
	EQ(s.efer & (EFER_LME | EFER_LMA), 0);
	EQ(s.cr0 & (CR0_PE | CR0_PG), CR0_PE);
	s = step(v, 10);			/* 16-bit protected mode */
	EQ(s.cs.db, 0);
	s = step(v, 11);			/* real mode */
	EQ(s.cr0 & (CR0_PE | CR0_PG), 0);
	EQ(s.cs.base, 0);
	RUN_TO(v, KVM_EXIT_HLT);
}

TEST(big_real, "big real mode: a 4 GiB segment limit stays after protected mode")
{
	struct vcpu *v = modes_vcpu();
	struct kvm_regs r = get_regs(v);
	struct kvm_sregs s;

	extern const u8 modes_big_real[];

	r.rip = MODES_GPA + (modes_big_real - modes);
	set_regs(v, &r);
	*(u32 *)(v->vm->mem + HIGH_SCRATCH) = 0xb16b00b5;
	EQ(*(u32 *)RUN_TO_OUT(v, 0x54, 4), 0xb16b00b5);
	s = get_sregs(v);
	EQ(s.cr0 & CR0_PE, 0);
	EQ(s.ds.limit, 0xffffffff);
	EQ(s.ds.base, 0);
	RUN_TO(v, KVM_EXIT_HLT);
	EQ(*(u32 *)(v->vm->mem + HIGH_SCRATCH + 4), 0x12345678);
}

/* ---- user mode ---- */

static u64 user_rsp[512];
static volatile u64 user_result;

static void user_code(void)
{
	user_result = 1;
	asm volatile("int $0x80");
	asm volatile("mov %cr0, %rax");		/* #GP */
	for (;;)
		;
}

static u64 user_cs;

static void on_int80(struct frame *f)
{
	user_cs = f->cs;
}

static void on_gp(struct frame *f)
{
	report(1, f->cs, user_cs, user_result);
	done();
}

static void user_guest(void)
{
	on_vector[0x80] = on_int80;
	on_vector[13] = on_gp;
	asm volatile("push $0x2b; push %0; push $0x2; push $0x23; push %1; iretq"
		     : : "r"(user_rsp + 500), "r"(user_code));
}

/* What the INT needs has been touched: no second-level fault interrupts its delivery. */
static void user_touched_guest(void)
{
	(void)*(volatile u8 *)(IDT_GPA + 16 * 0x80);
	(void)*(volatile u8 *)TSS_GPA;
	*(volatile u64 *)(STACKS + STACK_SIZE - 8) = 0;
	user_guest();
}

static void run_user(void (*fn)(void))
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, fn);
	u64 *idt = (u64 *)(vm->mem + IDT_GPA);
	struct words w;

	idt[2 * 0x80] |= 0x6000ull << 32;
	w = REPORT(v, 1);
	EQ(w.a, 0x23);
	EQ(w.b, 0x23);
	EQ(w.c, 1);
	EQ(get_sregs(v).cs.dpl, 0);
	DONE(v);
}

TEST(user_mode, "ring 3: IRET to it, INT n from it through the TSS, a privileged instruction in it")
{
	run_user(user_touched_guest);
}

TEST(user_fresh, "INT n from ring 3 is the first to touch its gate, the TSS and its stack")
{
	not_on_bochs_svm("EXITINTINFO is of an earlier event where a nested page fault interrupts INT n");
	run_user(user_guest);
}

static void syscall_entry(void)
{
	u64 rcx, r11;

	asm volatile("mov %%rcx, %0; mov %%r11, %1" : "=r"(rcx), "=r"(r11));
	report(1, rcx, r11, 0);
	done();
}

static void syscall_user(void)
{
	asm volatile(".globl after_syscall\n syscall\n after_syscall: nop");
	for (;;)
		;
}

static void syscall_guest(void)
{
	wrmsr(0xc0000081, 0x0018000800000000);	/* SYSRET 0x18+16 and +8, SYSCALL 0x08 */
	wrmsr(0xc0000082, (u64)syscall_entry);
	wrmsr(0xc0000084, 0x200);
	asm volatile("push $0x2b; push %0; push $0x2; push $0x23; push %1; iretq"
		     : : "r"(user_rsp + 500), "r"(syscall_user));
}

TEST(syscall_insn, "SYSCALL enters ring 0 where LSTAR says")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, syscall_guest);
	struct words w = REPORT(v, 1);
	extern const u8 after_syscall[];

	EQ(w.a, (u64)after_syscall);
	EQ(w.b & 2, 2);
	EQ(get_sregs(v).cs.selector, 0x08);
	EQ(get_sregs(v).ss.selector, 0x10);
	DONE(v);
}

static void fsgs_guest(void)
{
	u64 value;

	wrmsr(0xc0000100, SCRATCH);
	wrmsr(0xc0000101, SCRATCH + 0x100);
	wrmsr(0xc0000102, SCRATCH + 0x200);
	asm volatile("mov %%fs:0, %0" : "=r"(value));
	GUEST_IS(value, 1);
	asm volatile("mov %%gs:0, %0" : "=r"(value));
	GUEST_IS(value, 2);
	report(1, 0, 0, 0);		/* the host's bases are others */
	asm volatile("swapgs; mov %%gs:0, %0" : "=r"(value));
	GUEST_IS(value, 3);
	asm volatile("mov %%fs:0, %0" : "=r"(value));
	GUEST_IS(value, 1);
	report(2, rdmsr(0xc0000101), rdmsr(0xc0000102), 0);
	done();
}

TEST(fs_gs, "FS and GS bases and SWAPGS, across an exit")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, fsgs_guest);
	struct words w;

	for (int i = 0; i < 3; i++)
		*(u64 *)(vm->mem + SCRATCH + i * 0x100) = i + 1;
	REPORT(v, 1);
	EQ(get_sregs(v).fs.base, SCRATCH);
	EQ(get_sregs(v).gs.base, SCRATCH + 0x100);
	EQ(get_msr(v, 0xc0000102), SCRATCH + 0x200);
	w = REPORT(v, 2);
	EQ(w.a, SCRATCH + 0x200);
	EQ(w.b, SCRATCH + 0x100);
	EQ(get_msr(v, 0xc0000102), SCRATCH + 0x100);
	DONE(v);
}

/* ---- page tables that may only be read ---- */

enum { ROM = 0x10000000, ROM_SIZE = 0x6000 };

static volatile u32 rom_word;

static void rom_guest(void)
{
	for (u32 i = 0; i < 20; i++)
		rom_word += i;
	GUEST_IS(rom_word, 190);
	report(1, *(volatile u32 *)(u64)(ROM + 0x2008), 0, 0);
	GUEST_IS(*(volatile u8 *)0x80000018ul, 0x5a);
	done();
}

/* The tables of vcpu_long(), with these bits in each entry, in a slot of their own. */
static void rom_tables(u64 bits)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, rom_guest);
	u8 *rom = host_pages(ROM_SIZE), *was = host_pages(ROM_SIZE);
	struct kvm_sregs s = get_sregs(v);

	memcpy(rom, vm->mem + PAGE_TABLES, ROM_SIZE);
	for (u64 *e = (u64 *)rom; e < (u64 *)(rom + ROM_SIZE); e++)
		if (*e && e < (u64 *)(rom + 0x2000))
			*e = (*e + ROM - PAGE_TABLES) | (bits & ~0x40ull);
		else if (*e)
			*e |= bits;
	memcpy(was, rom, ROM_SIZE);
	OK(vm_slot(vm, 1, ROM, ROM_SIZE, rom, KVM_MEM_READONLY));
	s.cr3 = ROM;
	set_sregs(v, &s);
	EQ(REPORT(v, 1).a & ~0x60ull, 0x200087);
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.phys_addr, 0x80000018);
	v->run->mmio.data[0] = 0x5a;
	DONE(v);
	EQ(memcmp(rom, was, ROM_SIZE), 0);
}

TEST(rom_page_tables, "page tables in a read-only slot: with their accessed and dirty bits set, and without")
{
	rom_tables(0x60);
	rom_tables(0);
}
