// SPDX-License-Identifier: GPL-2.0
/*
 * What a report of a test on real hardware has to say of that hardware: the processor with what its
 * virtualization can do, the firmware's and the kernel's settings that change what a hypervisor meets. No
 * serial numbers, host names or addresses; of the command line only words that are known to have none.
 */
#include <dirent.h>
#include <sys/utsname.h>
#include <time.h>

#include "guest.h"
#include "silicon.h"

const struct verdict *findings;

static void note_file(const char *what, const char *path)
{
	static char text[2048];

	if (look_file(text, sizeof(text), "%s", path) && text[0])
		note("%s: %s", what, text);
}

static void note_cpuid(const char *what, u32 leaf, u32 sub)
{
	struct cpuid_regs r = look_cpuid(leaf, sub);

	note("CPUID %x.%x %08x %08x %08x %08x (%s)", leaf, sub, r.a, r.b, r.c, r.d, what);
}

/* Those of the kernel's flags that matter to a hypervisor, which it leaves out where it does not use them. */
static void note_flags(void)
{
	static const char *const words[] = {
		"svm", "vmx", "hypervisor", "constant_tsc", "nonstop_tsc", "tsc_known_freq",
		"tsc_reliable", "tsc_adjust", "tsc_deadline_timer", "rdtscp", "rdpid", "x2apic", "la57",
		"pcid", "invpcid", "smep", "smap", "umip", "pku", "xsaves", "avx512f", "amx_tile",
		"fred", "lkgs", "ibt", "user_shstk", "split_lock_detect", "bus_lock_detect", "sme", "sev",
		"sev_es", "sev_snp", "virt_ssbd", "v_spec_ctrl", "ibrs", "ibrs_enhanced", "stibp",
		"ssbd", "flush_l1d", "md_clear", "ibpb_exit_to_user", "bhi_ctrl", "arch_capabilities",
	};
	char flags[8192], line[1024] = "";
	size_t len = 0;

	look_cpuinfo(flags, sizeof(flags), "flags");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (look_word(flags, words[i]))
			len += snprintf(line + len, sizeof(line) - len, " %s", words[i]);
	}
	note("flags of interest:%s", line);
	if (look_cpuinfo(flags, sizeof(flags), "vmx flags"))
		note("vmx flags: %.900s", flags);
	if (look_cpuinfo(flags, sizeof(flags), "bugs"))
		note("bugs: %.900s", flags);
}

static void note_processor(void)
{
	static const char *const keys[] = { "model name", "cpu family", "model", "stepping", "microcode" };
	char text[256];
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (look_cpuinfo(text, sizeof(text), keys[i]))
			note("%s: %s", keys[i], text);
	}
	note("processors online: %d%s%s", online_cpus(NULL, 0), emulator() ? "; emulator: " : "",
	     emulator() ? emulator() : "");
	note_cpuid("vendor", 0, 0);
	note_cpuid("signature, features", 1, 0);
	note_cpuid("features, CET, AMX", 7, 0);
	note_cpuid("FRED, LKGS, LASS", 7, 1);
	note_cpuid("XSAVE", 0xd, 0);
	note_cpuid("XSAVES, XSS", 0xd, 1);
	note_cpuid("TSC's ratio", 0x15, 0);
	note_cpuid("frequencies", 0x16, 0);
	note_cpuid("features", 0x80000001, 0);
	note_cpuid("invariant TSC", 0x80000007, 0);
	note_cpuid("address sizes, SPEC_CTRL", 0x80000008, 0);
	note_cpuid("SVM", 0x8000000a, 0);
	note_cpuid("SME, SEV, SNP", 0x8000001f, 0);
	note_cpuid("features", 0x80000021, 0);
	note_flags();
	fd = look_msr_open(0);
	if (fd < 0)
		note("no MSRs: /dev/cpu/0/msr: %s (modprobe msr)", strerror(errno));
	else
		close(fd);
}

static void note_caps(void)
{
	static const struct {
		u32 index;
		const char *name;
	} all[] = {
		{ 0x3a, "FEAT_CTL" }, { 0x480, "VMX_BASIC" }, { 0x481, "PINBASED" },
		{ 0x482, "PROCBASED" }, { 0x483, "EXIT" }, { 0x484, "ENTRY" }, { 0x485, "MISC" },
		{ 0x486, "CR0_FIXED0" }, { 0x488, "CR4_FIXED0" }, { 0x489, "CR4_FIXED1" },
		{ 0x48b, "PROCBASED2" }, { 0x48c, "EPT_VPID" }, { 0x48d, "TRUE_PINBASED" },
		{ 0x48e, "TRUE_PROCBASED" }, { 0x48f, "TRUE_EXIT" }, { 0x490, "TRUE_ENTRY" },
		{ 0x491, "VMFUNC" }, { 0x492, "PROCBASED3" }, { 0x10a, "ARCH_CAPABILITIES" },
		{ 0xc0010114, "VM_CR" }, { 0xc0010010, "SYSCFG" }, { 0xc0010131, "SEV_STATUS" },
		{ 0xc0000080, "EFER" }, { 0x48, "SPEC_CTRL" }, { 0x33, "TEST_CTRL (split lock)" },
		{ 0x6a2, "S_CET" }, { 0xda0, "XSS" }, { 0x1d9, "DEBUGCTL" },
		{ 0x3b, "TSC_ADJUST" }, { 0xc0000104, "TSC_RATIO" },
	};
	int fd = look_msr_open(0);
	u64 value;

	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(all); i++) {
		if (look_msr(fd, all[i].index, &value))
			note("MSR %x %016llx (%s)", all[i].index, (unsigned long long)value, all[i].name);
	}
	if (fd >= 0)
		close(fd);
}

/* The TSC against the clock of the wall, and what the kernel thinks of it. */
static void note_tsc(void)
{
	struct timespec from, to;
	u64 ns, ticks = rdtsc();

	clock_gettime(CLOCK_MONOTONIC_RAW, &from);
	usleep(200000);
	ticks = rdtsc() - ticks;
	clock_gettime(CLOCK_MONOTONIC_RAW, &to);
	ns = (to.tv_sec - from.tv_sec) * 1000000000ull + to.tv_nsec - from.tv_nsec;
	note("TSC: %llu kHz by the kernel's clock", (unsigned long long)(ticks * 1000000 / ns));
	note_file("clock source", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	note_file("clock sources", "/sys/devices/system/clocksource/clocksource0/available_clocksource");
}

static int note_vulnerabilities(void)
{
	static const char path[] = "/sys/devices/system/cpu/vulnerabilities";
	DIR *dir = opendir(path);
	struct dirent *d;
	int n = 0;

	while (dir && (d = readdir(dir))) {
		char text[512];

		if (d->d_name[0] != '.' && look_file(text, sizeof(text), "%s/%s", path, d->d_name)) {
			note("vulnerability %s: %s", d->d_name, text);
			n++;
		}
	}
	if (dir)
		closedir(dir);
	return n;
}

static void note_command_line(void)
{
	static const char *const known[] = {
		"mitigations=", "spectre", "spec_", "nospectre", "nopti", "pti", "retbleed=", "l1tf=", "mds=",
		"tsx", "srbds=", "gather_data", "reg_file", "mmio_stale", "bhi", "indirect_target", "its",
		"vmscape", "tsa", "fred", "mem_encrypt", "sev", "kvm", "nosmt", "tsc", "clocksource",
		"notsc", "nohpet", "hpet=", "isolcpus", "nohz", "rcu_nocbs", "rcutree", "preempt", "split_lock",
		"iommu", "intel_iommu", "amd_iommu", "idle=", "processor.", "intel_idle", "intel_pstate",
		"amd_pstate", "clearcpuid", "setcpuid", "nox2apic", "nmi_watchdog", "watchdog", "noxsave",
		"nopku", "cet", "ibt=", "nousershstk", "lockdown", "hugepages", "default_hugepagesz",
		"transparent_hugepage", "no5lvl", "nokaslr", "maxcpus", "nr_cpus", "nolapic", "noapic",
		"lapic", "mce=", "smp", "ignore_loglevel", "debug", "threadirqs", "module.sig_enforce",
	};
	static char text[4096];
	char line[900] = "", *word, *rest;
	size_t len = 0;

	look_file(text, sizeof(text), "/proc/cmdline");
	for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		for (size_t i = 0; i < ARRAY_SIZE(known) && len < sizeof(line); i++) {
			if (strncmp(word, known[i], strlen(known[i])))
				continue;
			len += snprintf(line + len, sizeof(line) - len, " %s", word);
			break;
		}
	}
	note("command line, of interest:%s", line);
}

static void note_findings(void)
{
	for (unsigned int i = 0; findings && i < findings->count; i++)
		note("%s", findings->findings[i].text);
}

static void note_kernel(void)
{
	struct utsname u;

	if (uname(&u) == 0)
		note("kernel: %s %s", u.release, u.version);
	note_command_line();
	note_file("tainted", "/proc/sys/kernel/tainted");
	note_file("lockdown", "/sys/kernel/security/lockdown");
	note_file("module lodge, version of its source", "/sys/module/lodge/srcversion");
	note_file("module kvm_amd, users", "/sys/module/kvm_amd/refcnt");
	note_file("module kvm_intel, users", "/sys/module/kvm_intel/refcnt");
	note_file("SMT", "/sys/devices/system/cpu/smt/control");
	note_file("frequency driver", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver");
	note_file("frequency governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
	note_file("split locks", "/proc/sys/kernel/split_lock_mitigate");
	note_file("NMI watchdog", "/proc/sys/kernel/nmi_watchdog");
	note_file("machine", "/sys/class/dmi/id/sys_vendor");
	note_file("product", "/sys/class/dmi/id/product_name");
	note_file("board", "/sys/class/dmi/id/board_name");
	note_file("firmware", "/sys/class/dmi/id/bios_version");
	note_file("firmware's date", "/sys/class/dmi/id/bios_date");
}

/**
 * report_machine() - tell all of it, in lines of comment.
 */
void report_machine(void)
{
	note("lodge-ok " VERSION);
	note_findings();
	note_processor();
	note_caps();
	note_tsc();
	note_kernel();
	note_vulnerabilities();
}

/* A report that lacks these is worth nothing. */
TEST(inventory, "the machine is known by name: processor, kernel, clocks")
{
	char text[256];

	report_machine();
	TRUE(look_cpuinfo(text, sizeof(text), "model name"));
	TRUE(look_cpuinfo(text, sizeof(text), "flags"));
	TRUE(look_file(text, sizeof(text), "/proc/version"));
	TRUE(look_file(text, sizeof(text),
		       "/sys/devices/system/clocksource/clocksource0/current_clocksource"));
}
