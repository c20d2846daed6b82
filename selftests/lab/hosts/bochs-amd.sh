# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# The second, stricter AMD host: a Zambezi with SVM and nested paging, in Bochs.
HOST_KVM=kvm-amd
HOST_MODEL=zambezi
# A triple fault is this to Bochs, also that of a guest; reported, it goes on to be the exit that it
# should be. One of the host itself then stops the host, and the time ends it.
HOST_CPU_PANIC=report
# shellcheck source=bochs.sh
. "$LAB_DIR/hosts/bochs.sh"
