# SPDX-License-Identifier: GPL-2.0
# What this kernel has, for host/compat.h: found in its headers and in its list of exports, never by its version, for
# distributions and stable kernels take features back to older ones. Kbuild includes this; one shell does it all.
#
# have NAME PATTERN HEADER...		LODGE_HAVE_NAME is defined where a line of one of the headers matches
# have_export NAME SYMBOL		where every module may use the symbol: where only some may, the list names them
# need WORDS PATTERN HEADER...		the build ends with these words where no line matches
# need_export SYMBOL WORDS		and where not every module may use the symbol
#
# In a kernel's own tree the list comes after the modules: there no symbol is needed, nor used for a gain.
# CR4: it can be changed together with the copy of it that the kernel keeps. EMERGENCY: a crash calls whoever has
# registered, instead of switching VMX and SVM off by itself. SPLIT_LOCK: a guest's is the host's policy to judge.
define lodge-probe
LC_ALL=C; export LC_ALL
list="$(abspath $(objtree))/Module.symvers" h=include/linux decl="^[a-z].*[ *]"
cd "$(srctree)" || exit
found() { pattern=$$1; shift; grep -qsE -e "$$pattern" "$$@"; }
exported() { found "^0x[0-9a-f]+	$$1	vmlinux	EXPORT_SYMBOL(_GPL)?	*$$" "$$list"; }
have() { name=$$1; shift; found "$$@" && echo "$$name" || echo "-$$name"; }
have_export() { exported "$$2" && echo "$$1" || echo "-$$1"; }
lacks() { echo "!$$*" | tr ' ' '~'; }
need() { words=$$1; shift; found "$$@" || lacks "$$words"; }
need_export() { [ ! -s "$$list" ] || exported "$$1" || lacks "$$1() for every module, $$2"; }
have_export CR4 cr4_update_irqsoff
have_export EMERGENCY cpu_emergency_register_virt_callback
have_export SPLIT_LOCK handle_guest_split_lock
have SYSCORE_DATA '^struct syscore [{]' $$h/syscore_ops.h
have FOLL_INTERRUPTIBLE '^(	|#define )FOLL_INTERRUPTIBLE[ 	]' $$h/mm_types.h $$h/mm.h
have VM_FLAGS_SET "$${decl}vm_flags_set[(]" $$h/mm.h
have ENTRY_VIRT "$${decl}xfer_to_guest_mode_handle_work[(]" $$h/entry-virt.h
have XFER_VOID "$${decl}xfer_to_guest_mode_handle_work[(]void[)]" $$h/entry-virt.h $$h/entry-kvm.h
have IPI_TRACE '^#define smp_send_reschedule[(]' $$h/smp.h
have RCU_NOTE_VOID "$${decl}rcu_virt_note_context_switch[(]void[)]" $$h/rcutree.h
have GUEST_TIMING "$${decl}guest_timing_enter_irqoff[(]" $$h/kvm_host.h $$h/context_tracking.h
have SECONDARY_PAGETABLE '^	NR_SECONDARY_PAGETABLE,' $$h/mmzone.h
have YOUNG_BOOL '^	bool [(][*]test_young[)]' $$h/mmu_notifier.h
have PFNMAP "$${decl}follow_pfnmap_start[(]" $$h/mm.h
have FOLLOW_PTE_VMA "$${decl}follow_pte[(]struct vm_area_struct " $$h/mm.h
have HRTIMER_SETUP "$${decl}hrtimer_setup[(]" $$h/hrtimer.h
have EVENTFD_SIGNAL_ONE "$${decl}eventfd_signal[(]struct eventfd_ctx [*][a-z]+[)]" $$h/eventfd.h
need 'xfer_to_guest_mode_handle_work()' "$${decl}xfer_to_guest_mode_handle_work[(]" $$h/entry-virt.h $$h/entry-kvm.h
need 'follow_pfnmap_start() or follow_pte()' "$${decl}follow_(pfnmap_start|pte)[(]" $$h/mm.h
need 'kernel_fpu_begin_mask()' "$${decl}kernel_fpu_begin_mask[(]" arch/x86/include/asm/fpu/api.h
need_export xfer_to_guest_mode_handle_work 'which comes with KVM for AMD or Intel'
need_export preempt_notifier_register 'which comes with CONFIG_PREEMPT_NOTIFIERS'
need_export mmu_notifier_register 'which comes with CONFIG_MMU_NOTIFIER'
echo .
endef

# A shell gets one line.
define lodge-newline


endef
lodge-found := $(shell $(subst $(lodge-newline),; ,$(lodge-probe)))
ccflags-y += $(patsubst %,-DLODGE_HAVE_%,$(filter-out . -% !%,$(lodge-found)))

# Kbuild is read for other ends too, such as cleaning.
ifneq ($(filter %/Makefile.build,$(MAKEFILE_LIST)),)
lodge-lacks := $(patsubst !%,%,$(filter !%,$(lodge-found)))
lodge-lacks += $(foreach c,X86_64 SMP HIGH_RES_TIMERS MMU_NOTIFIER PREEMPT_NOTIFIERS EVENTFD,$(if $(CONFIG_$(c)),,CONFIG_$(c)))
lodge-lacks += $(if $(CONFIG_VIRT_XFER_TO_GUEST_WORK)$(CONFIG_KVM_XFER_TO_GUEST_WORK),,CONFIG_VIRT_XFER_TO_GUEST_WORK~or~CONFIG_KVM_XFER_TO_GUEST_WORK)
lodge-space := $(subst ,, )
ifneq ($(strip $(lodge-lacks)),)
$(error lodge: this kernel lacks $(subst ~,$(lodge-space),$(subst $(lodge-space),; ,$(strip $(lodge-lacks)))))
endif
ifeq ($(filter .,$(lodge-found)),)
$(error lodge: what this kernel has could not be found out: no folder $(srctree))
endif
ifneq ($(quiet),silent_)
$(info lodge: this kernel has $(filter-out . -% !%,$(lodge-found)); it has not $(patsubst -%,%,$(filter -%,$(lodge-found))))
endif
endif
