// SPDX-License-Identifier: GPL-2.0
/*
 * The facts that decide whether Lodge runs here, from wherever they can be had without root: CPUID, and
 * /proc/cpuinfo for what the kernel made of it; the MSRs where /dev/cpu/0/msr may be read; KVM's and Lodge's
 * places in /sys/module. The last fact is the one that counts: a VM is made, and closed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "ok.h"

enum { MSR_FEAT_CTL = 0x3a };
#define MSR_EFER 0xc0000080
#define MSR_SYSCFG 0xc0010010
#define MSR_VM_CR 0xc0010114

static bool there(const char *path)
{
	return access(path, F_OK) == 0;
}

static void name12(char *name, uint32_t a, uint32_t b, uint32_t c)
{
	memcpy(name, &a, 4);
	memcpy(name + 4, &b, 4);
	memcpy(name + 8, &c, 4);
	name[12] = 0;
}

static void gather_processor(struct facts *f)
{
	static const char *const amd[] = { "AuthenticAMD", "HygonGenuine" };
	static const char *const intel[] = { "GenuineIntel", "CentaurHauls", "  Shanghai  " };
	struct cpuid_regs r = look_cpuid(0, 0);
	size_t i;

	name12(f->vendor_name, r.b, r.d, r.c);
	for (i = 0; i < sizeof(amd) / sizeof(amd[0]); i++) {
		if (!strcmp(f->vendor_name, amd[i]))
			f->vendor = VENDOR_AMD;
	}
	for (i = 0; i < sizeof(intel) / sizeof(intel[0]); i++) {
		if (!strcmp(f->vendor_name, intel[i]))
			f->vendor = VENDOR_INTEL;
	}
	r = look_cpuid(1, 0);
	f->vmx = r.c >> 5 & 1;
	if (r.c >> 31) {
		r = look_cpuid(0x40000000, 0);
		name12(f->below, r.b, r.c, r.d);
		if (!f->below[0])
			strcpy(f->below, "unnamed");
	}
	f->svm = look_cpuid(0x80000001, 0).c >> 2 & 1 && look_cpuid(0x80000000, 0).a >= 0x8000000a;
	r = look_cpuid(0x8000000a, 0);
	f->npt = r.d & 1;
	f->nasids = r.b;
	f->min_asid = look_cpuid(0x8000001f, 0).c + 1;
}

static void gather_flags(struct facts *f)
{
	char flags[8192];

	f->flags_known = look_cpuinfo(flags, sizeof(flags), "flags");
	f->flag_svm = look_word(flags, "svm");
	f->flag_vmx = look_word(flags, "vmx");
	f->flag_fred = look_word(flags, "fred");
	f->flag_tsc = look_word(flags, "tsc");
	f->confidential = look_word(flags, "tdx_guest") ||
			  !strcmp(f->below, "IntelTDX    ");
	f->vmx_flags_known = look_cpuinfo(flags, sizeof(flags), "vmx flags");
	f->flag_ept = look_word(flags, "ept");
	f->flag_unrestricted = look_word(flags, "unrestricted_guest");
}

static void read_msr(int fd, uint32_t index, struct msr *m)
{
	m->there = look_msr(fd, index, &m->value);
}

static void gather_msrs(struct facts *f)
{
	enum { SEV_STATUS = 0xc0010131 };
	struct msr sev = { 0 };
	int fd = look_msr_open(0), i;

	if (fd < 0) {
		f->msr_errno = errno;
		return;
	}
	read_msr(fd, MSR_EFER, &f->efer);
	if (f->vendor == VENDOR_AMD) {
		read_msr(fd, MSR_VM_CR, &f->vm_cr);
		read_msr(fd, MSR_SYSCFG, &f->syscfg);
		read_msr(fd, SEV_STATUS, &sev);
		f->confidential |= f->below[0] && sev.there && sev.value & 1;
	} else if (f->vendor == VENDOR_INTEL) {
		read_msr(fd, MSR_FEAT_CTL, &f->feat_ctl);
		for (i = 0; f->vmx && i < VMX_MSR_COUNT; i++)
			read_msr(fd, VMX_MSRS + i, &f->vmx_msrs[i]);
	}
	close(fd);
}

/*
 * Nothing but the kernel's log says that it encrypts its memory: the processor must be able to and the firmware
 * allow it, the command line decides, and the configuration where that says nothing.
 */
static bool encrypts_memory(const struct facts *f)
{
	static char text[1 << 19];
	struct utsname u;

	if (!(look_cpuid(0x8000001f, 0).a & 1))
		return false;
	if (f->syscfg.there && !(f->syscfg.value >> 23 & 1))
		return false;
	look_file(text, sizeof(text), "/proc/cmdline");
	if (look_word(text, "mem_encrypt=on"))
		return true;
	if (look_word(text, "mem_encrypt=off") || uname(&u) < 0)
		return false;
	look_file(text, sizeof(text), "/boot/config-%s", u.release);
	return look_word(text, "CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT=y");
}

static void gather_host(struct facts *f)
{
	char text[256];

	f->encrypts = encrypts_memory(f);
	look_file(text, sizeof(text), "/sys/hypervisor/type");
	if (!strcmp(text, "xen")) {
		look_file(text, sizeof(text), "/sys/hypervisor/guest_type");
		f->xen_pv = !strcmp(text, "PV");
	}
	look_file(text, sizeof(text),
		  "/sys/devices/system/clocksource/clocksource0/available_clocksource");
	/* tsc-early until its frequency is known well, some seconds after boot */
	f->tsc_clock = look_word(text, "tsc") || look_word(text, "tsc-early");
	f->no_modules = !there("/proc/modules");
	look_file(text, sizeof(text), "/proc/sys/kernel/modules_disabled");
	f->modules_disabled = text[0] == '1';
	look_file(text, sizeof(text), "/sys/module/module/parameters/sig_enforce");
	f->modules_signed = text[0] == 'Y';
	look_file(text, sizeof(text), "/sys/kernel/security/lockdown");
	f->modules_signed |= text[0] && !strstr(text, "[none]");
}

static void gather_kvm(struct facts *f)
{
	f->kvm_loaded = there(f->vendor == VENDOR_AMD ? "/sys/module/kvm_amd" : "/sys/module/kvm_intel");
}

/* The module makes /dev/kvm instead where it was told to. */
static void find_device(struct facts *f, const char *device)
{
	char node[64] = "";
	bool ours;

	f->module_loaded = there("/sys/module/lodge");
	look_file(node, sizeof(node), "/sys/module/lodge/parameters/node");
	ours = !strcmp(node, "kvm");
	snprintf(f->device, sizeof(f->device), "%s",
		 device ? device : ours ? "/dev/kvm" : "/dev/lodge");
}

static void gather_device(struct facts *f)
{
	char node[64] = "";
	struct stat st;
	int fd, vm;

	fd = open(f->device, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		f->open_errno = errno;
		return;
	}
	look_file(node, sizeof(node), "/sys/module/lodge/parameters/node");
	if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode))
		f->device_is_kvm = st.st_rdev == makedev(10, 232) && strcmp(node, "kvm");
	f->version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (f->version < 0) {
		f->version_errno = errno;
		close(fd);
		return;
	}
	do {
		vm = ioctl(fd, KVM_CREATE_VM, 0);
	} while (vm < 0 && errno == EINTR);
	if (vm < 0)
		f->create_errno = errno;
	else
		close(vm);
	close(fd);
}

/**
 * facts_gather() - look at this machine.
 * @f: what is found out.
 * @device: the device of the hypervisor, NULL for the one that the module makes.
 */
void facts_gather(struct facts *f, const char *device)
{
	memset(f, 0, sizeof(*f));
	gather_processor(f);
	gather_flags(f);
	gather_msrs(f);
	gather_host(f);
	gather_kvm(f);
	find_device(f, device);
	gather_device(f);
}
