// SPDX-License-Identifier: GPL-2.0
/*
 * One to eight vCPUs, on as many processors as the host has: IPIs of every mode, counted; a token that
 * goes round by wakeups; and translations that change, in the guest's tables and in the host's, under vCPUs that
 * look. A sender waits for what it sent before it sends again, so that nothing may be merged:
 * one lost wakeup, IPI or flush ends the subtest by its time limit or by a stale value, and one too many by
 * a count.
 *
 * vCPU n runs in a thread of its own; in the guest a handler knows n by its stack.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "vm.h"

enum {
	MAX_CPUS = 8, LIMIT = 400000000,
	COUNTED = 0x61, WAKE = 0x71, SHOOT = 0x72, TOKEN = 0x73,
	FLAT, CLUSTER, X2APIC, END,	/* phases */
	LOWEST = 0x100, NMI = 0x400, LOGICAL = 0x800, SELF = 0x40000, ALL = 0x80000, OTHERS = 0xc0000,
};

static u32 ncpus;
static volatile u32 phase, count[MAX_CPUS], nmis[MAX_CPUS];
static u32 expected[MAX_CPUS];
static atomic_uint ready;
static volatile bool x2apic[MAX_CPUS];

static u32 cpu_of(struct frame *f)
{
	return ((u64)f - STACKS) / STACK_SIZE;
}

static void eoi_of(u32 cpu)
{
	if (x2apic[cpu])
		wrmsr(0x80b, 0);
	else
		eoi();
}

static void on_counted(struct frame *f)
{
	count[cpu_of(f)]++;
	eoi_of(cpu_of(f));
}

static void on_wake(struct frame *f)
{
	eoi_of(cpu_of(f));
}

static void on_nmi(struct frame *f)
{
	nmis[cpu_of(f)]++;
}

static void send(u32 me, u32 icr, u32 dest)
{
	if (x2apic[me]) {
		wrmsr(0x830, (u64)dest << 32 | icr);
	} else {
		apic_write(APIC_ICR2, dest << 24);
		apic_write(APIC_ICR, icr);
	}
}

static void set_phase(u32 me, u32 to)
{
	if (to == X2APIC) {
		x2apic[me] = true;
		wrmsr(0x1b, rdmsr(0x1b) | 0x400);
	} else if (to != END) {
		apic_enable();
		apic_write(APIC_DFR, to == FLAT ? 0xffffffff : 0x0fffffff);
		apic_write(APIC_LDR, to == FLAT ? 1u << (24 + me) : (me / 4 << 4 | 1 << me % 4) << 24);
	}
}

static void wait_for(volatile u32 *word, u32 value)
{
	for (u64 i = 0; *word != value; i++) {
		GUEST_TRUE(i < LIMIT);
		cpu_pause();
	}
}

/* Odd ones spin, even ones sleep. */
static void target(u64 me)
{
	u32 mine = FLAT;

	set_phase(me, FLAT);
	ready++;
	while (mine != END) {
		cli();
		if (phase != mine) {
			mine = phase;
			set_phase(me, mine);
			ready++;
		} else if (me & 1) {
			sti_nop();
		} else {
			sti_hlt();
		}
	}
	done();
}

/* What was sent has arrived there and nowhere else. */
static void settle(void)
{
	for (u32 i = 0; i < ncpus; i++)
		wait_for(&count[i], expected[i]);
}

static void send_counted(u32 icr, u32 dest, u32 targets)
{
	for (u32 i = 0; i < ncpus; i++)
		expected[i] += targets >> i & 1;
	send(0, COUNTED | icr, dest);
	settle();
}

/* One of them gets it, and it is not said which one. */
static void send_lowest(u32 dest, u32 targets)
{
	u32 sum = 0, now = 0;

	for (u32 i = 0; i < ncpus; i++)
		sum += count[i];
	send(0, COUNTED | LOWEST | LOGICAL, dest);
	for (u64 n = 0; now != sum + 1; n++) {
		GUEST_TRUE(n < LIMIT);
		for (u32 i = now = 0; i < ncpus; i++)
			now += count[i];
	}
	for (u32 i = 0; i < ncpus; i++) {
		if (count[i] != expected[i])
			GUEST_TRUE(targets >> i & 1);
		expected[i] = count[i];
	}
}

static void send_nmis(void)
{
	for (u32 i = 1; i < ncpus; i++) {
		u32 before = nmis[i];

		send(0, NMI, i);
		for (u64 n = 0; nmis[i] == before; n++) {
			GUEST_TRUE(n < LIMIT);
			cpu_pause();
		}
		if (!host_is_qemu)
			GUEST_IS(nmis[i], before + 1);
	}
}

static void shorthands(void)
{
	u32 all = (1 << ncpus) - 1;

	send_counted(SELF, 0, 1);
	send_counted(ALL, 0, all);
	send_counted(OTHERS, 0, all & ~1);
	for (u32 i = 0; i < ncpus; i++)
		send_counted(0, i, 1 << i);
	send_nmis();
}

static void enter_phase(u32 to)
{
	ready = 0;
	phase = to;
	send(0, WAKE | OTHERS, 0);
	set_phase(0, to);
	for (u64 n = 0; ready != ncpus - 1; n++) {
		GUEST_TRUE(n < LIMIT);
		cpu_pause();
	}
}

static void sender(void)
{
	u32 all = (1 << ncpus) - 1;

	set_phase(0, FLAT);
	sti();
	for (u64 n = 0; ready != ncpus - 1; n++)
		GUEST_TRUE(n < LIMIT);
	shorthands();
	for (u32 set = 1; set <= all; set = set * 3 + 1)
		send_counted(LOGICAL, set & all, set & all);
	send_counted(LOGICAL, 0xff, all);
	send_lowest(all, all);
	send_lowest(1 << (ncpus - 1), 1 << (ncpus - 1));

	enter_phase(CLUSTER);
	for (u32 cluster = 0; cluster * 4 < ncpus; cluster++)
		for (u32 set = 1; set < 16; set += 2)
			send_counted(LOGICAL, cluster << 4 | set, (set << 4 * cluster) & all);
	send_counted(LOGICAL, 0xff, all);
	send_lowest(all & 0x0f, all & 0x0f);	/* none that is not there: KVM might pick it */

	enter_phase(X2APIC);
	shorthands();
	for (u32 set = 1; set <= all; set = set * 3 + 1)
		send_counted(LOGICAL, set & all, set & all);
	send_lowest(all, all);
	expected[0]++;
	wrmsr(0x83f, COUNTED);
	settle();

	enter_phase(END);
	for (u32 i = 0; i < ncpus; i++)
		GUEST_IS(count[i], expected[i]);
	done();
}

/* ---- running n of them ---- */

static void *run_to_done(void *arg)
{
	DONE((struct vcpu *)arg);
	return NULL;
}

struct smp {
	struct vm *vm;
	struct vcpu *v[MAX_CPUS];
	pthread_t thread[MAX_CPUS];
	u32 n;
};

static void start_smp(struct smp *s, u32 n, void (*first)(void), void (*rest)(void))
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	s->vm = vm_new_irqchip();
	s->n = n;
	GUEST(s->vm, ncpus) = n;
	GUEST(s->vm, phase) = FLAT;
	GUEST(s->vm, on_vector[COUNTED]) = on_counted;
	GUEST(s->vm, on_vector[WAKE]) = on_wake;
	GUEST(s->vm, on_vector[2]) = on_nmi;
	for (u32 i = 0; i < n; i++) {
		s->v[i] = vcpu_long(s->vm, i, i ? rest : first);
		vcpu_set_long(s->v[i], i ? rest : first, i);
		OK(ioctl(s->v[i]->fd, KVM_SET_MP_STATE, &mp));
	}
}

static void run_smp(struct smp *s)
{
	for (u32 i = 0; i < s->n; i++)
		EQ(pthread_create(&s->thread[i], NULL, run_to_done, s->v[i]), 0);
}

static void end_smp(struct smp *s)
{
	for (u32 i = 0; i < s->n; i++) {
		EQ(pthread_join(s->thread[i], NULL), 0);
		vcpu_free(s->v[i]);
	}
	vm_free(s->vm);
}

TEST(ipis, "1 to 8 vCPUs: IPIs fixed, lowest priority, NMI, by every shorthand, logical flat, cluster and x2APIC, each counted")
{
	struct smp s;

	time_limit(120);
	for (u32 n = 1; n <= MAX_CPUS; n++) {
		start_smp(&s, n, sender, (void (*)(void))target);
		run_smp(&s);
		end_smp(&s);
	}
}

/* ---- INIT and SIPI ---- */

PAYLOAD16(count_and_halt,
	"lock incw %cs:0x800\n 1: cli\n hlt\n jmp 1b\n");
PAYLOAD16(report_done,
	"mov $0x10000, %eax\n mov $0x3a0, %dx\n out %eax, %dx\n");

static void boot_guest(void)
{
	volatile u16 *started = (u16 *)0x7800;

	apic_enable();
	for (u32 round = 1; round <= 5; round++) {
		send(0, 0x4500 | OTHERS, 0);
		send(0, 0x4607 | OTHERS, 0);
		for (u64 n = 0; *started != round * (ncpus - 1); n++) {
			GUEST_TRUE(n < LIMIT);
			cpu_pause();
		}
		send(0, 0x4607 | OTHERS, 0);	/* this one finds nobody who waits */
	}
	for (u32 i = 1; i < ncpus; i++) {
		send(0, 0x4500, i);
		send(0, 0x4608, i);
	}
	GUEST_IS(*started, 5 * (ncpus - 1));
	done();
}

TEST(init_sipi, "2 to 8 vCPUs: INIT and SIPI to all others start each once, five times over")
{
	struct smp s;

	time_limit(60);
	for (u32 n = 2; n <= MAX_CPUS; n += 2) {
		start_smp(&s, n, boot_guest, boot_guest);
		for (u32 i = 1; i < n; i++) {
			struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_UNINITIALIZED };

			OK(ioctl(s.v[i]->fd, KVM_SET_MP_STATE, &mp));
		}
		LOAD(s.vm, 0x7000, count_and_halt);
		LOAD(s.vm, 0x8000, report_done);
		run_smp(&s);
		end_smp(&s);
	}
}

/* ---- wakeups ---- */

enum { LAPS = 100 };

static void on_token(struct frame *f)
{
	count[cpu_of(f)]++;
	eoi();
}

/* Each sleeps until the token comes, and passes it on: a wakeup that is lost stops them all. */
static void ring(u64 me)
{
	apic_enable();
	on_vector[TOKEN] = on_token;
	spin_openly();
	ready++;
	for (u64 n = 0; ready != ncpus; n++)
		GUEST_TRUE(n < LIMIT);
	for (u32 lap = 1; lap <= LAPS; lap++) {
		if (me == 0)
			send(0, TOKEN, 1 % ncpus);
		for (cli(); count[me] < lap; cli())
			sti_hlt();
		GUEST_IS(count[me], lap);
		if (me)
			send(me, TOKEN, (me + 1) % ncpus);
	}
	done();
}

TEST(wakeups, "1 to 8 vCPUs, all asleep, wake each other in turn; none sleeps through, none wakes twice")
{
	struct smp s;

	time_limit(120);
	for (u32 n = 1; n <= MAX_CPUS; n++) {
		start_smp(&s, n, (void (*)(void))ring, (void (*)(void))ring);
		run_smp(&s);
		end_smp(&s);
	}
}

/* ---- translations ---- */

enum { PAGE_A = HIGH_SCRATCH, PAGE_B = HIGH_SCRATCH + 0x1000, WINDOW_VA = 0x40000000, FLIPS = 200 };

static volatile u64 sequence;		/* odd while the page behind WINDOW_VA changes */
static volatile u32 shot[MAX_CPUS];

static void on_shoot(struct frame *f)
{
	asm volatile("invlpg (%0)" : : "r"((u64)WINDOW_VA) : "memory");
	shot[cpu_of(f)]++;
	eoi();
}

static void watch_window(u64 me)
{
	(void)me;
	apic_enable();
	sti();
	ready++;
	while (phase != END) {
		u64 before = sequence, value = *(volatile u64 *)WINDOW_VA;

		if (!(before & 1) && sequence == before)
			GUEST_IS(value, before & 2 ? 'B' : 'A');
	}
	done();
}

static void flip_window(void)
{
	/* a 4 KiB page of its own, by tables in memory that is free */
	volatile u64 *pd = (u64 *)(PAGE_TABLES + 0x3000), *pt = (u64 *)(HIGH_SCRATCH + 0x2000);

	apic_enable();
	sti();
	for (u64 n = 0; ready != ncpus - 1; n++)
		GUEST_TRUE(n < LIMIT);
	for (u32 flip = 1; flip <= FLIPS; flip++) {
		sequence++;
		*pt = (flip & 1 ? PAGE_B : PAGE_A) | 7;
		asm volatile("invlpg (%0)" : : "r"((u64)WINDOW_VA) : "memory");
		send(0, SHOOT | OTHERS, 0);
		for (u32 i = 1; i < ncpus; i++)
			wait_for(&shot[i], flip);
		sequence++;
		GUEST_IS(*(volatile u64 *)WINDOW_VA, flip & 1 ? 'B' : 'A');
	}
	GUEST_IS(pd[0] & 1, 1);
	phase = END;
	done();
}

TEST(shootdown, "a guest's TLB shootdown by IPI and INVLPG: no vCPU sees the old page, none misses an IPI")
{
	struct smp s;

	time_limit(120);
	for (u32 n = 2; n <= MAX_CPUS; n += 3) {
		start_smp(&s, n, flip_window, (void (*)(void))watch_window);
		GUEST(s.vm, on_vector[SHOOT]) = on_shoot;
		*(u64 *)(s.vm->mem + PAGE_TABLES + 0x3000) = (HIGH_SCRATCH + 0x2000) | 7;
		*(u64 *)(s.vm->mem + HIGH_SCRATCH + 0x2000) = PAGE_A | 7;
		*(u64 *)(s.vm->mem + PAGE_A) = 'A';
		*(u64 *)(s.vm->mem + PAGE_B) = 'B';
		run_smp(&s);
		end_smp(&s);
	}
}

enum { SLOT_GPA = 0x2000000, CHANGES = 300 };

static volatile u64 host_gen;
static volatile u64 looks[MAX_CPUS];

/* What the host had put behind this page before it said so has to be seen. */
static void watch_host(u64 me)
{
	spin_openly();
	while (phase != END) {
		u64 least = host_gen, value = *(volatile u64 *)SLOT_GPA;

		if (value < least)
			GUEST_IS(value, least);
		looks[me]++;
	}
	done();
}

TEST(host_flush, "the host puts another page in place, again and again: no running vCPU goes on with the old one")
{
	int fd = OK(memfd_create("pages", 0));
	u8 *where = host_pages(0x1000), *all;
	struct smp s;

	time_limit(120);
	OK(ftruncate(fd, CHANGES * 0x1000));
	all = mmap(NULL, CHANGES * 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(all != MAP_FAILED);
	for (u64 i = 0; i < CHANGES; i++)
		*(u64 *)(all + i * 0x1000) = i;
	for (u32 n = 1; n <= 4; n++) {
		start_smp(&s, n, (void (*)(void))watch_host, (void (*)(void))watch_host);
		OK(vm_slot(s.vm, 1, SLOT_GPA, 0x1000, where, 0));
		run_smp(&s);
		for (u64 i = 0; i < CHANGES; i++) {
			TRUE(mmap(where, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
				  i * 0x1000) == where);
			*(volatile u64 *)&GUEST(s.vm, host_gen) = i;
			if (i % 8 == 0)
				usleep(1000);
		}
		*(volatile u32 *)&GUEST(s.vm, phase) = END;
		for (u32 i = 0; i < n; i++)
			EQ(pthread_join(s.thread[i], NULL), 0);
		for (u32 i = 0; i < n; i++)
			GE(GUEST(s.vm, looks[i]), 1);
		vm_free(s.vm);
	}
}
