// SPDX-License-Identifier: GPL-2.0
/*
 * What a process may do with the node and with the fds behind it, one line each: for lab/selinux, which runs it in
 * domains that a policy allows or forbids, with Lodge and with the stock KVM, and compares.
 *
 *	pass_fds run		opens the node and runs a guest
 *	pass_fds send NAME	makes a VM with all that can hang on it, says what their inodes are, and passes each fd to
 *	pass_fds receive NAME	which says whether it came and what it is good for there
 *
 * NAME is an abstract UNIX socket. A line is the same whatever the device is called.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "template.h"

enum { NODE, VM, VCPU, STATS, EVENT, MEMORY, STATE, TEMPLATE, FDS };
static const char *const names[FDS] = {
	[NODE] = "node", [VM] = "VM", [VCPU] = "vCPU", [STATS] = "statistics", [EVENT] = "eventfd", [MEMORY] = "memfd",
	[STATE] = "frozen state", [TEMPLATE] = "template",
};

static void say(const char *what, const char *did, bool ok)
{
	printf("%s: %s: %s\n", what, did, ok ? "yes" : strerrorname_np(errno));
	fflush(stdout);
}

static int run(void)
{
	int fd = open(device_path(), O_RDWR | O_CLOEXEC);

	say("node", "opens", fd >= 0);
	if (fd < 0)
		return 1;
	REPORT(vcpu_long(vm_new_irqchip(), 0, simple_guest), 1);
	say("guest", "runs", true);
	return 0;
}

/* Which inode an fd has, by that of an eventfd, which is the one that all simple files without a name share. */
static void say_inode(const char *what, int fd, const struct stat *shared)
{
	char label[256] = "none";
	struct stat st;
	ssize_t len;

	OK(fstat(fd, &st));
	len = fgetxattr(fd, "security.selinux", label, sizeof(label) - 1);
	if (len > 0)
		label[len] = 0;
	printf("%s: inode: %s\n", what, st.st_ino == shared->st_ino && st.st_dev == shared->st_dev ? "the shared one" : label);
}

static struct sockaddr_un address(const char *name, socklen_t *len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	strncpy(a.sun_path + 1, name, sizeof(a.sun_path) - 2);
	*len = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
	return a;
}

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr head;
};

static void pass(int sock, char which, int fd)
{
	union control c = { .head = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec io = { &which, 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	char answer;

	memcpy(CMSG_DATA(&c.head), &fd, sizeof(fd));
	if (sendmsg(sock, &m, 0) != 1)
		FAIL("%s: sendmsg: %s", names[(int)which], strerror(errno));
	EQ(read(sock, &answer, 1), 1);
}

static int connected(const char *name)
{
	int sock = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	socklen_t len;
	struct sockaddr_un a = address(name, &len);

	for (int i = 0; i < 50 && connect(sock, (void *)&a, len); i++)
		usleep(100000 * slowness());
	return sock;
}

static int send_all(const char *name)
{
	int fds[FDS] = { [0 ... FDS - 1] = -1 }, sock = connected(name);
	struct vm *vm = vm_bare();
	struct stat shared;
	struct vcpu *v;

	fds[NODE] = sys_fd();
	fds[VM] = vm->fd;
	fds[MEMORY] = memory_file(0, MEM_SIZE);
	vm_fill(vm, map_file(fds[MEMORY], MEM_SIZE, 0, MAP_SHARED));
	v = vcpu_long(vm, 0, simple_guest);
	REPORT(v, 1);
	fds[VCPU] = v->fd;
	if (check_cap(KVM_CAP_BINARY_STATS_FD))
		fds[STATS] = OK(ioctl(vm->fd, KVM_GET_STATS_FD, 0));
	fds[EVENT] = OK(eventfd(0, EFD_NONBLOCK));
	if (check_cap(LODGE_CAP_TEMPLATE)) {
		fds[STATE] = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
		fds[TEMPLATE] = template_of(vm);
	}
	OK(fstat(fds[EVENT], &shared));
	for (int i = 0; i < FDS; i++)
		if (fds[i] >= 0) {
			say_inode(names[i], fds[i], &shared);
			pass(sock, i, fds[i]);
		}
	return 0;
}

static void use(int which, int fd)
{
	struct lodge_template_info info = { 0 };
	struct kvm_regs regs;
	u64 word = 1;

	switch (which) {
	case NODE:
		say(names[which], "ioctl", ioctl(fd, KVM_GET_API_VERSION, 0) == 12);
		break;
	case VM:
		say(names[which], "ioctl", ioctl(fd, KVM_CHECK_EXTENSION, 0) >= 0);
		break;
	case VCPU:
		say(names[which], "ioctl", !ioctl(fd, KVM_GET_REGS, &regs));
		say(names[which], "mmap", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
		break;
	case STATS:
		say(names[which], "read", read(fd, &word, 8) == 8);
		break;
	case EVENT:
		say(names[which], "write", write(fd, &word, 8) == 8);
		break;
	case MEMORY:
		say(names[which], "mmap", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
		break;
	case TEMPLATE:
		say(names[which], "ioctl", !ioctl(fd, LODGE_TEMPLATE_INFO, &info) || errno == E2BIG);
	}
}

static int receive_all(const char *name)
{
	int sock = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), peer;
	socklen_t len;
	struct sockaddr_un a = address(name, &len);

	OK(bind(sock, (void *)&a, len));
	OK(listen(sock, 1));
	peer = OK(accept(sock, NULL, NULL));
	for (;;) {
		union control c = { .bytes = "" };
		char which;
		struct iovec io = { &which, 1 };
		struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
		bool came;
		int fd;

		if (recvmsg(peer, &m, MSG_CMSG_CLOEXEC) != 1 || which < 0 || which >= FDS)
			return 0;
		came = m.msg_controllen >= CMSG_LEN(sizeof(int)) && c.head.cmsg_type == SCM_RIGHTS;
		printf("%s: %s\n", names[(int)which], came ? "received" : "refused");
		if (came) {
			memcpy(&fd, CMSG_DATA(&c.head), sizeof(fd));
			use(which, fd);
			close(fd);
		}
		fflush(stdout);
		EQ(write(peer, "x", 1), 1);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "run"))
		return run();
	if (argc == 3 && !strcmp(argv[1], "send"))
		return send_all(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "receive"))
		return receive_all(argv[2]);
	fprintf(stderr, "usage: pass_fds {run | send NAME | receive NAME}\n");
	return 2;
}
