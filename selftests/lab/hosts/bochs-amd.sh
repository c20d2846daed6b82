# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# The second, stricter AMD host: a Zambezi with SVM and nested paging, in Bochs.
HOST_KVM=kvm-amd
HOST_MODEL=zambezi
HOST_PANIC=', cpu0=report'
# shellcheck source=bochs.sh
. "$LAB_DIR/hosts/bochs.sh"
