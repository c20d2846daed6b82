#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# mitigations.pl <LOG: which mitigations are live in the entry code of Lodge and of the stock KVM, from the text that
# each host's kcore_dump printed, patched as it was for that processor. TAP: one result for each.
#
# The text is disassembled and walked along every branch, so that what a patched jump leads around does not count.
use strict;
use warnings;
no warnings 'portable';	# hex() of 64 bits
use File::Temp;

my (%text, %name_of, %says);
while (<STDIN>) {
	s/\r//g;
	$text{$1} = [hex($2), $3] if /^text (\S+) ([0-9a-f]+) ([0-9a-f]+)$/;
	$name_of{hex($1)} = $2 if /^symbol ([0-9a-f]+) (\S+)$/;
	$says{$1} = $2 if /^vulnerability (\S+): (.*)$/;
}

# The instructions of a function: address => [mnemonic, operands, next address].
sub disassemble {
	my ($addr, $hex) = @{$_[0]};
	my $file = File::Temp->new();
	my (%insn, $last);

	binmode $file;
	print $file pack('H*', $hex);
	close $file;
	for (`objdump -D -b binary -m i386:x86-64 --adjust-vma=$addr $file`) {
		next if !/^\s*([0-9a-f]+):\t[0-9a-f ]+\t(\S+)\s*(.*?)\s*$/;
		my $at = hex($1);
		$insn{$last}[2] = $at if defined $last;
		$insn{$at} = [$2, $3, undef];
		$last = $at;
	}
	return \%insn;
}

my %untrain = map { $_ => 1 } qw(entry_untrain_ret retbleed_untrain_ret srso_untrain_ret srso_alias_untrain_ret
				 zen_untrain_ret);

# What is live in a function: a set of names.
sub live {
	my ($function) = @_;
	my $insn = disassemble($function);
	my (%seen, %live);
	my @todo = ($function->[0]);

	while (@todo) {
		my $at = pop @todo;
		while (defined $at && $insn->{$at} && !$seen{$at}++) {
			my ($what, $arg, $next) = @{$insn->{$at}};
			my $to = $arg =~ /^0x([0-9a-f]+)/ ? hex($1) : undef;
			my $name = defined $to ? $name_of{$to} // '' : '';

			$live{'VERW before entry'} = 1 if $what eq 'verw';
			$live{'branch history overwritten'} = 1
				if $name eq 'clear_bhb_loop' || ($what eq 'mov' && $arg eq '$0x64,%ecx');
			$live{'return predictions untrained'} = 1 if $untrain{$name};
			if ($what =~ /^call/ && defined $to) {
				# A call over an INT3 or two fills the return stack.
				$live{'return stack filled'} = 1 if $to > $at && $to - $at < 16;
				push @todo, $to if $insn->{$to};
			} elsif ($what =~ /^jmp/) {
				last if !defined $to || !$insn->{$to};
				$at = $to;
				next;
			} elsif ($what =~ /^j/ && defined $to) {
				push @todo, $to;
			}
			last if $what =~ /^(ret|int3|ud2)/;
			$at = $next;
		}
	}
	return \%live;
}

my ($theirs) = grep { $text{$_} } qw(__svm_vcpu_run __vmx_vcpu_run);
my $ours = $theirs && $theirs =~ /svm/ ? 'svm_enter' : 'vmx_enter';
if (!$theirs || !$text{$ours}) {
	print "1..1\nnot ok 1 - both entries were read\n";
	exit 1;
}
my ($lodge, $kvm) = (live($text{$ours}), live($text{$theirs}));
print "# $_: $says{$_}\n" for sort keys %says;
my ($n, $failed) = (0, 0);
for my $what ('VERW before entry', 'return stack filled', 'return predictions untrained', 'branch history overwritten') {
	my ($l, $k) = map { $_->{$what} ? 'live' : 'not there' } $lodge, $kvm;
	$n++;
	$failed++ if $l ne $k;
	printf "%sok %d - %s: %s in %s, %s in %s\n", $l eq $k ? '' : 'not ', $n, $what, $l, $ours, $k, $theirs;
}
print "1..$n\n";
exit($failed != 0);
