/* SPDX-License-Identifier: GPL-2.0 */
/*
 * lodge-ok: what its files share.
 *
 * facts.c looks at the machine and judges nothing; judge.c judges and looks at nothing, so that it can be
 * tested with machines that nobody has; look.c reads files and registers for both facts.c and the report.
 * What --silicon does is in silicon.h.
 */
#ifndef LODGE_OK_H
#define LODGE_OK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VERSION "0.1"

/* lodge-ok's exit statuses. */
enum status {
	STATUS_OK = 0,
	STATUS_NO = 1,		/* this machine cannot run Lodge; --silicon: a test failed */
	STATUS_USAGE = 2,
	STATUS_BLOCKED = 3,	/* the processor could, but something on the machine is in the way */
};

struct cpuid_regs {
	uint32_t a, b, c, d;
};

/* An MSR of the first processor, if it could be read. */
struct msr {
	bool there;
	uint64_t value;
};

/* The capability MSRs of VMX: 0x480 up to 0x490. */
enum { VMX_MSRS = 0x480, VMX_MSR_COUNT = 0x11 };

enum { VENDOR_OTHER, VENDOR_AMD, VENDOR_INTEL };	/* by whose extension it has */

struct facts {
	/* The processor, by CPUID. */
	int vendor;
	char vendor_name[13];
	bool svm, npt, vmx;
	uint32_t nasids, min_asid;
	char below[13];		/* the hypervisor that this machine is a guest of; empty: none */
	/* The kernel's view of it, by /proc/cpuinfo. */
	bool flags_known, vmx_flags_known;
	bool flag_svm, flag_vmx, flag_fred, flag_tsc;
	bool flag_ept, flag_unrestricted;
	/* MSRs. */
	int msr_errno;		/* why there are none; 0: there are */
	struct msr vm_cr, efer, syscfg, feat_ctl, vmx_msrs[VMX_MSR_COUNT];
	/* The host's kernel. */
	bool encrypts;		/* memory, by its command line or configuration */
	bool confidential;	/* it is a guest whose memory is encrypted (SEV, TDX) */
	bool xen_pv;
	bool tsc_clock;		/* the TSC is fit for a clock source */
	bool no_modules, modules_disabled, modules_signed;
	/* KVM. */
	bool kvm_loaded;
	/* Lodge. */
	char device[256];
	bool device_is_kvm;	/* the device is the stock KVM's own */
	bool module_loaded;
	int open_errno, version_errno, create_errno;	/* 0: it worked */
	int version;
};

enum kind { FINDING_NO, FINDING_BLOCKED, FINDING_NOTE };

enum { MAX_FINDINGS = 48 };

struct finding {
	enum kind kind;
	char text[256];
};

struct verdict {
	unsigned int count;
	struct finding findings[MAX_FINDINGS];
};

/* look.c */
struct cpuid_regs look_cpuid(uint32_t leaf, uint32_t sub);
bool look_file(char *text, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool look_word(const char *text, const char *word);
bool look_cpuinfo(char *text, size_t size, const char *key);
int look_msr_open(int cpu);
bool look_msr(int fd, uint32_t index, uint64_t *value);

/* facts.c */
void facts_gather(struct facts *f, const char *device);

/* judge.c */
enum status judge(const struct facts *f, struct verdict *v);

/* silicon.c */
enum status silicon(const struct facts *f, const struct verdict *v, enum status found, int argc,
		    char **argv);

#endif
